//! What `stoqctl doctor` finds out about the node itself: its configuration, its identity, its
//! daemon and its links; and what the configuration asks of the host, for `stoqctl tune` too.
//!
//! The configuration is read leniently here, only for what the checks need: whether it is valid is
//! for `stoqd --check` to say.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use stoq_control::{DEFAULT_SOCKET, LinkState, Status};
use stoq_identity::{CertificateInfo, Identity, Span, VerifyError};
use stoq_tuning::{Finding, Plan, Verdict};

use crate::daemon::fetch_status;
use crate::table::state;

/// How long before its end a certificate that an operator renews is worth a remark: three weekly rounds of
/// maintenance.
const RENEWAL: Duration = Duration::from_secs(21 * 24 * 60 * 60);

/// A certificate that lives no longer than this is renewed by hypermeshd.
const BY_ITSELF: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// Where stoqd listens when the configuration does not say.
const DEFAULT_PORT: u16 = 9292;

/// The part of the configuration that the checks look at.
#[derive(Debug, Default, Deserialize)]
pub struct Configured {
    /// The three files.
    pub identity: Option<Files>,
    #[serde(default)]
    transport: Transport,
    #[serde(default)]
    control: Control,
}

/// `[identity]`
#[derive(Debug, Deserialize)]
pub struct Files {
    certificate: PathBuf,
    key: PathBuf,
    authority: PathBuf,
}

/// `[transport]`
#[derive(Debug, Default, Deserialize)]
struct Transport {
    interface: Option<String>,
    listen: Option<Vec<SocketAddr>>,
    port: Option<String>,
    workers: Option<toml::Value>,
    cores: Option<Vec<usize>>,
}

#[derive(Debug, Default, Deserialize)]
struct Control {
    socket: Option<PathBuf>,
}

impl Configured {
    /// The socket asked for on the command line, or else that of the configuration.
    pub fn socket<'a>(&'a self, asked: &'a Path) -> &'a Path {
        match &self.control.socket {
            Some(configured) if asked == Path::new(DEFAULT_SOCKET) => configured,
            _ => asked,
        }
    }

    /// What it asks of the host, where the daemon runs on this port, or does not run. A port that is
    /// configured counts before the one of a daemon that has yet to be restarted.
    pub fn plan(&self, running_port: Option<String>) -> Plan {
        let transport = &self.transport;
        let configured = transport.port.clone().filter(|port| port != "auto");
        let workers = transport.workers.as_ref().and_then(toml::Value::as_integer);
        Plan {
            interface: transport.interface.clone(),
            listen_ports: self.listen_ports(),
            daemon_runs: running_port.is_some(),
            workers: workers.and_then(|number| u16::try_from(number).ok()),
            cores: transport.cores.clone(),
            port: configured.or(running_port),
        }
    }

    /// The UDP ports that the daemon accepts connections on, each once.
    fn listen_ports(&self) -> Vec<u16> {
        let listen = self.transport.listen.as_ref();
        let mut ports = listen
            .map_or(vec![DEFAULT_PORT], |listen| listen.iter().map(SocketAddr::port).collect());
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}

/// Reads the configuration; without one the checks go on with defaults.
pub fn configuration(path: &Path) -> (Configured, Vec<Finding>) {
    let shown = path.display();
    let problem = |is: String, mend: String| {
        let finding = Finding {
            stage: "configuration",
            verdict: Verdict::Problem,
            is,
            should: "a readable and valid file".to_owned(),
            why: "stoqd does not start without it",
            mend,
        };
        (Configured::default(), vec![finding])
    };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let mend = "write it (docs/configuration.md), or name it with --config FILE";
            return problem(format!("{shown}: {error}"), mend.to_owned());
        }
    };
    match toml::from_str(&text) {
        Ok(configured) => (configured, vec![Finding::good("configuration", shown.to_string())]),
        Err(error) => problem(
            format!("{shown}: {}", error.message()),
            format!("stoqd --config {shown} --check (shows the line)"),
        ),
    }
}

/// Judges the identity at the time `now`: do the files belong together, would peers accept them,
/// and for how long. A certificate of the future is the sign of a wrong clock.
pub fn identity(files: &Files, now: SystemTime) -> Vec<Finding> {
    let bad = |verdict, is: String, should: &str, mend: &str| Finding {
        stage: "identity",
        verdict,
        is,
        should: should.to_owned(),
        why: "peers refuse a node that can not prove its name",
        mend: mend.to_owned(),
    };
    let issue = "stoqctl pki issue DIR NODE --out OUT, on the host that keeps the root";
    let whole = "three files that belong together";
    let identity = match Identity::load(&files.certificate, &files.key, &files.authority) {
        Ok(identity) => identity,
        Err(error) => return vec![bad(Verdict::Problem, error.to_string(), whole, issue)],
    };
    let warnings = identity.warnings().iter().map(ToString::to_string);
    let mut findings: Vec<Finding> =
        warnings.map(|text| bad(Verdict::Advice, text, "mode 0600", &chmod(&files.key))).collect();
    let left = identity.not_after().duration_since(now).unwrap_or_default();
    let (least, renew) = upkeep(&identity, issue);
    findings.push(match identity.check(now) {
        Err(error @ VerifyError::NotYetValid { .. }) => {
            let clock = "timedatectl set-ntp true (then look at the clock with `date`)";
            bad(Verdict::Problem, error.to_string(), "a clock that is right", clock)
        }
        Err(error) => bad(Verdict::Problem, error.to_string(), "valid now", &renew),
        Ok(()) if left < least => {
            let is = format!("{} ends in {}", identity.id(), Span(left));
            let should = format!("more than {} left", Span(least));
            bad(Verdict::Advice, is, &should, &renew)
        }
        Ok(()) => {
            let valid = format!("{}, valid for {} more", identity.id(), Span(left));
            Finding::good("identity", valid)
        }
    });
    findings
}

/// How much of its life a certificate should have left, and who renews it how: hypermeshd begins with a
/// third of the life left, so less than a quarter means that it fails.
fn upkeep(identity: &Identity, issue: &str) -> (Duration, String) {
    let leaf = identity.chain().first().and_then(|der| CertificateInfo::read(der).ok());
    let life = leaf.and_then(|leaf| leaf.not_after.duration_since(leaf.not_before).ok());
    match life.filter(|life| *life <= BY_ITSELF) {
        Some(life) => (life / 4, "look in hypermeshd's log why it does not renew it".to_owned()),
        None => (RENEWAL, format!("{issue}; then `stoqctl reload`")),
    }
}

fn chmod(key: &Path) -> String {
    format!("chmod 600 {}", key.display())
}

/// Asks the daemon: its port if it runs, and what it says about itself and its links.
pub fn daemon(socket: &Path) -> (Option<String>, Vec<Finding>) {
    match fetch_status(socket) {
        Ok(status) => (Some(status.port.selected.clone()), links(&status)),
        Err(failure) => {
            let finding = Finding {
                stage: "daemon",
                verdict: Verdict::Problem,
                is: failure.to_string(),
                should: "running".to_owned(),
                why: "nothing is carried without it",
                mend: "systemctl enable --now stoqd; journalctl -u stoqd -n 50".to_owned(),
            };
            (None, vec![finding])
        }
    }
}

fn links(status: &Status) -> Vec<Finding> {
    let port = format!("runs on port {} ({})", status.port.selected, status.port.mode);
    let mut findings = vec![Finding::good("daemon", port)];
    findings.extend(status.warnings.iter().map(|warning| Finding {
        stage: "daemon",
        verdict: Verdict::Advice,
        is: warning.clone(),
        should: "no warning".to_owned(),
        why: "the daemon found it at work",
        mend: "see the warning itself".to_owned(),
    }));
    findings.extend(status.links.iter().map(|link| {
        let is = format!("{} is {}", link.peer, state(link.state));
        if link.state == LinkState::Up {
            return Finding::good("link", is);
        }
        // A link that never was up may be about to be, and a peer that only dials may be off.
        let verdict = match link.state {
            LinkState::Connecting => Verdict::Advice,
            _ => Verdict::Problem,
        };
        let endpoint = link.endpoint.map_or("the peer".to_owned(), |at| at.to_string());
        Finding {
            stage: "link",
            verdict,
            is,
            should: "up".to_owned(),
            why: "traffic to this peer is dropped",
            mend: format!(
                "see that stoqd runs at {endpoint} and that no firewall drops its UDP port; \
                 journalctl -u stoqd names a refused certificate"
            ),
        }
    }));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use stoq_control::{Link, Tier};
    use tempfile::TempDir;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn issued(now: SystemTime, life: Duration) -> (TempDir, Files) {
        let directory = TempDir::new().unwrap();
        let (root, out) = (directory.path().join("pki"), directory.path().join("out"));
        stoq_pki::init(&root, "hq", now).unwrap();
        let authority = stoq_pki::Authority::open(&root).unwrap();
        authority.issue("edge-a", now, now + life).unwrap().write(&out).unwrap();
        let path = |name| out.join(name);
        let files = Files {
            certificate: path("node.crt"),
            key: path("node.key"),
            authority: path("ca.crt"),
        };
        (directory, files)
    }

    fn verdicts(findings: &[Finding]) -> Vec<Verdict> {
        findings.iter().map(|finding| finding.verdict).collect()
    }

    #[test]
    fn a_fresh_identity_is_good_and_an_ageing_one_is_remarked_on() {
        let now = SystemTime::now();
        let (_directory, files) = issued(now, 90 * DAY);
        assert_eq!(verdicts(&identity(&files, now)), [Verdict::Good]);
        assert_eq!(verdicts(&identity(&files, now + 80 * DAY)), [Verdict::Advice]);
        assert_eq!(verdicts(&identity(&files, now + 91 * DAY)), [Verdict::Problem]);
        let early = identity(&files, now - DAY);
        assert_eq!(verdicts(&early), [Verdict::Problem]);
        assert!(early[0].mend.contains("timedatectl"), "{early:?}");
    }

    #[test]
    fn a_certificate_of_a_day_is_good_until_its_renewal_is_overdue() {
        let now = SystemTime::now();
        let (_directory, files) = issued(now, DAY);
        for (age, verdict) in [(0, Verdict::Good), (17, Verdict::Good), (19, Verdict::Advice)] {
            let found = identity(&files, now + DAY * age / 24);
            assert_eq!(verdicts(&found), [verdict], "after {age} h");
            assert!(verdict == Verdict::Good || found[0].mend.contains("hypermeshd"), "{found:?}");
        }
    }

    #[test]
    fn an_exposed_key_is_advice_and_a_missing_one_a_problem() {
        use std::os::unix::fs::PermissionsExt;
        let now = SystemTime::now();
        let (_directory, files) = issued(now, 90 * DAY);
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o644)).unwrap();
        let exposed = identity(&files, now);
        assert_eq!(verdicts(&exposed), [Verdict::Advice, Verdict::Good]);
        assert!(exposed[0].mend.starts_with("chmod 600 "), "{exposed:?}");
        fs::remove_file(&files.key).unwrap();
        assert_eq!(verdicts(&identity(&files, now)), [Verdict::Problem]);
    }

    #[test]
    fn a_configuration_is_read_for_what_the_checks_need() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("stoqd.toml");
        let text = "[transport]\ninterface = \"wan\"\nlisten = [\"[::]:9300\", \"0.0.0.0:9300\"]\n\
                    [control]\nsocket = \"/tmp/x.sock\"\n[later]\nkey = 1\n";
        fs::write(&path, text).unwrap();
        let (configured, findings) = configuration(&path);
        assert_eq!(verdicts(&findings), [Verdict::Good]);
        let plan = configured.plan(None);
        assert_eq!((plan.interface.as_deref(), plan.listen_ports), (Some("wan"), vec![9300]));
        assert_eq!(configured.socket(Path::new(DEFAULT_SOCKET)), Path::new("/tmp/x.sock"));
        assert_eq!(configured.socket(Path::new("/asked")), Path::new("/asked"));

        fs::write(&path, "[transport\n").unwrap();
        let (configured, findings) = configuration(&path);
        assert_eq!(verdicts(&findings), [Verdict::Problem]);
        assert_eq!(configured.listen_ports(), [DEFAULT_PORT]);
        let (_, findings) = configuration(&directory.path().join("none"));
        assert_eq!(verdicts(&findings), [Verdict::Problem]);
    }

    #[test]
    fn the_plan_is_the_configuration_until_the_daemon_has_chosen() {
        let plan = |text: &str, running: Option<&str>| {
            let configured: Configured = toml::from_str(text).unwrap();
            configured.plan(running.map(str::to_owned))
        };
        let open = plan("[transport]\nport = \"auto\"\nworkers = \"auto\"", None);
        assert_eq!(
            (open.port, open.workers, open.cores, open.daemon_runs),
            (None, None, None, false)
        );
        let fixed = "[transport]\nport = \"xdp\"\nworkers = 2\ncores = [1, 3]";
        let fixed = plan(fixed, None);
        assert_eq!((fixed.port.as_deref(), fixed.workers), (Some("xdp"), Some(2)));
        assert_eq!(fixed.cores, Some(vec![1, 3]));
        let running = plan("[transport]\nport = \"auto\"", Some("uring"));
        assert_eq!((running.port.as_deref(), running.daemon_runs), (Some("uring"), true));
        let changed = plan("[transport]\nport = \"xdp\"", Some("uring"));
        assert_eq!((changed.port.as_deref(), changed.daemon_runs), (Some("xdp"), true));
    }

    #[test]
    fn a_link_that_went_down_is_a_problem_and_one_that_connects_is_remarked_on() {
        let link = |peer: &str, state| Link {
            peer: peer.into(),
            state,
            endpoint: Some("10.0.0.2:9292".parse().unwrap()),
            tier: Tier::Floor,
            key_exchange: String::new(),
            rtt_us: 0,
            datagram_max: 0,
            tx_bytes: 0,
            rx_bytes: 0,
            expired_s: 0,
        };
        let status = Status {
            links: vec![
                link("b", LinkState::Up),
                link("c", LinkState::Connecting),
                link("d", LinkState::Down),
            ],
            warnings: vec!["raise rmem_max".into()],
            ..Status::default()
        };
        let findings = links(&status);
        let (good, advice) = (Verdict::Good, Verdict::Advice);
        let expected = [good, advice, good, advice, Verdict::Problem];
        assert_eq!(verdicts(&findings), expected);
        assert!(findings[3].mend.contains("10.0.0.2:9292"), "{findings:?}");
    }

    #[test]
    fn an_absent_daemon_is_a_problem() {
        let directory = TempDir::new().unwrap();
        let (port, findings) = daemon(&directory.path().join("none.sock"));
        assert_eq!(port, None);
        assert_eq!(verdicts(&findings), [Verdict::Problem]);
    }
}
