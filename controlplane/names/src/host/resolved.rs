//! The stage for systemd-resolved: the mesh's domains are asked on the tunnel's interface.
//!
//! resolved forgets it when the interface goes; whoever starts stoqd applies it again. Called by
//! `stoqctl`, as root.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use stoq_tuning::{Finding, Verdict};

use super::{Change, HostError};

/// There while systemd-resolved runs (systemd-resolved.service(8)).
const RUNS: &str = "/run/systemd/resolve/stub-resolv.conf";

const STAGE: &str = "resolved";

/// What systemd-resolved is to do.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The tunnel's interface.
    pub interface: String,
    /// Where names are served: the tunnel address, or [`crate::LOOPBACK`].
    pub server: IpAddr,
    /// The mesh's domains: [`crate::Zone::domains`].
    pub domains: Vec<String>,
}

impl Resolved {
    /// Whether systemd-resolved runs on this host.
    #[must_use]
    pub fn is_there() -> bool {
        Path::new(RUNS).exists()
    }

    /// Whether resolved asks here for the mesh's domains. Changes nothing, needs no root.
    #[must_use]
    pub fn check(&self) -> Finding {
        let is = match self.read() {
            Ok((servers, domains)) if self.is_set(&servers, &domains) => {
                return Finding::good(STAGE, format!("{} asks {}", self.interface, self.server));
            }
            Ok((servers, domains)) => format!("`{servers}`, `{domains}`"),
            Err(error) => error.to_string(),
        };
        Finding {
            stage: STAGE,
            verdict: Verdict::Advice,
            is,
            should: format!("{} asks {} for {}", self.interface, self.server, self.routed()),
            why: "programs of this host find the mesh's names only if their resolver asks here",
            mend: self.commands().map(|words| line(&words)).join(" && "),
        }
    }

    /// Tells resolved. Doing it again does no harm.
    ///
    /// # Errors
    /// When resolvectl fails: no such interface, no resolved, not root.
    pub fn apply(&self) -> Result<Change, HostError> {
        let (servers, domains) = self.read()?;
        if self.is_set(&servers, &domains) {
            return Ok(Change::None);
        }
        for words in self.commands() {
            run(&words)?;
        }
        Ok(Change::Made)
    }

    /// Makes resolved forget what it was told of the interface.
    ///
    /// # Errors
    /// When resolvectl fails for another reason than that the interface is gone, and with it what was
    /// told.
    pub fn undo(&self) -> Result<Change, HostError> {
        if !Path::new("/sys/class/net").join(&self.interface).exists() {
            return Ok(Change::None);
        }
        run(&["revert".to_owned(), self.interface.clone()])?;
        Ok(Change::Made)
    }

    /// What resolvectl says of the interface's servers and domains.
    fn read(&self) -> Result<(String, String), HostError> {
        let ask = |what: &str| run(&[what.to_owned(), self.interface.clone()]);
        Ok((ask("dns")?, ask("domain")?))
    }

    /// Whether it is what it should be, in whatever order resolved lists it. The form is
    /// `Link 3 (stoq0): WORD WORD`.
    fn is_set(&self, servers: &str, domains: &str) -> bool {
        let mut expected: Vec<String> =
            self.domains.iter().map(|name| format!("~{name}")).collect();
        let mut got: Vec<&str> = words(domains);
        expected.sort_unstable();
        got.sort_unstable();
        words(servers) == [self.server.to_string()] && got == expected
    }

    fn routed(&self) -> String {
        self.domains.join(", ")
    }

    fn commands(&self) -> [Vec<String>; 3] {
        let command = |verb: &str, rest: Vec<String>| {
            let mut words = vec![verb.to_owned(), self.interface.clone()];
            words.extend(rest);
            words
        };
        // `~`: the domain only chooses the server, and completes no names.
        let domains = self.domains.iter().map(|name| format!("~{name}")).collect();
        [
            command("dns", vec![self.server.to_string()]),
            command("domain", domains),
            // Whatever matches no domain is asked elsewhere.
            command("default-route", vec!["no".to_owned()]),
        ]
    }
}

/// The words behind `Link 3 (stoq0):`.
fn words(line: &str) -> Vec<&str> {
    line.split_once("):").map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default()
}

fn line(words: &[String]) -> String {
    format!("resolvectl {}", words.join(" "))
}

fn run(words: &[String]) -> Result<String, HostError> {
    let failed = |got: String| HostError::Program { command: line(words), got };
    let output = Command::new("resolvectl").args(words).env("LC_ALL", "C").output();
    let output = output.map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage() -> Resolved {
        Resolved {
            interface: "stoq0".into(),
            server: "fd42:1:2::1".parse().unwrap(),
            domains: vec!["lab.internal".into(), "2.0.0.0.1.0.0.0.2.4.d.f.ip6.arpa".into()],
        }
    }

    #[test]
    fn what_resolvectl_prints_is_read_in_any_order() {
        let (stage, servers) = (stage(), "Link 3 (stoq0): fd42:1:2::1");
        let both = "Link 3 (stoq0): ~2.0.0.0.1.0.0.0.2.4.d.f.ip6.arpa ~lab.internal";
        assert!(stage.is_set(servers, both));
        for (servers, domains) in [
            ("Link 3 (stoq0):", both),
            ("", both),
            ("Link 3 (stoq0): fd42:1:2::1 192.0.2.1", both),
            (servers, "Link 3 (stoq0): ~lab.internal"),
            (servers, "Link 3 (stoq0): lab.internal ~2.0.0.0.1.0.0.0.2.4.d.f.ip6.arpa"),
        ] {
            assert!(!stage.is_set(servers, domains), "{servers} {domains}");
        }
    }

    #[test]
    fn the_finding_names_the_commands() {
        let mut stage = stage();
        stage.interface = "no-such-if".into();
        let finding = stage.check();
        assert_eq!(finding.verdict, Verdict::Advice);
        assert!(
            finding.mend.contains("resolvectl domain no-such-if ~lab.internal ~2.0.0.0.1"),
            "{}",
            finding.mend
        );
        assert_eq!(stage.undo().unwrap(), Change::None, "with the interface it is forgotten");
    }
}
