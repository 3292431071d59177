//! Hosts of a mesh, as their operators have them: each with its own files under the real paths, its
//! own name and users, `hypermeshd` and `stoqd` running, and a host behind it. Everything is done by
//! `stoqctl`; nothing here knows the daemons' inside.
//!
//! ```text
//!  site ── lan [edge-a] wan ── m-ha ┐
//!  site ── lan [edge-b] wan ── m-hb ┼─ br0 [mid]
//!  site ── lan [edge-c] wan ── m-hc ┘
//! ```
//!
//! A [`MeshHost`] owns its daemons; the bed owns the namespaces. The end-to-end tests of the mesh make
//! them.

mod continuity;
mod files;
mod page;

pub use continuity::Pings;
pub use page::Page;

use crate::bed::{Bed, Family, Guest, Namespace};
use crate::process::{self, Process};
use crate::wait;
use crate::workspace::MeshBinaries;
use crate::{Error, Result};
use files::Files;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The name of the mesh.
pub const MESH: &str = "lab";

/// The host numbers below this one are taken on the wire: two edges and the middle.
const FIRST_NUMBER: u8 = 4;

/// How long a daemon may take to answer for the first time, on two cores that several start on.
pub const START: Duration = Duration::from_secs(60);

/// How long links may take: a key pair is made, a certificate issued, and a dial that found nobody
/// backs off before the next one.
pub const LINKS_UP: Duration = Duration::from_secs(90);

/// Starts so far: each has a log of its own, so that a restart does not hide why the first one ended.
static STARTS: AtomicU32 = AtomicU32::new(0);

/// Capabilities that `hypermeshd` keeps: names are served on port 53.
const CAPABILITIES: &str = "-all,+net_bind_service";

/// One host of the mesh.
#[derive(Debug)]
pub struct MeshHost {
    /// Its name: `edge-a` and so on.
    pub name: String,
    /// The host behind it.
    pub site: Namespace,
    /// Its place on the wire.
    pub guest: Guest,
    /// Its running `hypermeshd`.
    pub hypermeshd: Option<Process>,
    /// Its running `stoqd`.
    pub stoqd: Option<Process>,
    files: Files,
    binaries: MeshBinaries,
    logs: PathBuf,
    environment: Vec<(String, String)>,
}

impl MeshHost {
    /// Makes the `place`th host of the bed (0 is `edge-a`), bare: no daemon runs, no file is written.
    ///
    /// # Errors
    /// The step that the kernel refused.
    pub fn new(bed: &Bed, binaries: &MeshBinaries, place: u8) -> Result<Self> {
        let letter = char::from(b'a' + place);
        let guest = bed.guest(&format!("h{letter}"), FIRST_NUMBER + place)?;
        let site = bed.site_of(&guest)?;
        let name = format!("edge-{letter}");
        let files = Files::mount(&guest.namespace, bed.folder(), &name)?;
        Ok(Self {
            name,
            site,
            guest,
            hypermeshd: None,
            stoqd: None,
            files,
            binaries: binaries.clone(),
            logs: bed.folder().to_owned(),
            environment: Vec::new(),
        })
    }

    /// What the daemons that are started from now on find in their environment, such as the library
    /// that moves their clock.
    pub fn set_environment(&mut self, variables: &[(&str, &str)]) {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        self.environment = variables.iter().map(owned).collect();
    }

    /// The name under which the mesh's hosts know it.
    #[must_use]
    pub fn domain_name(&self) -> String {
        format!("{}.{MESH}.internal", self.name)
    }

    /// Where the file `path` of this host is for this process.
    #[must_use]
    pub fn file(&self, path: &str) -> PathBuf {
        self.files.at(path)
    }

    /// A command that will run `program` on this host; its process ID is the program's.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.files.command(program)
    }

    /// Runs a program on this host to its end and gives its standard output.
    ///
    /// # Errors
    /// [`Error::Command`] with what it said when it fails.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        process::run(self.command(program).args(arguments))
    }

    /// Runs `stoqctl` on this host and gives what it printed.
    ///
    /// # Errors
    /// [`Error::Command`] with what it said when it fails.
    pub fn ctl(&self, words: &[&str]) -> Result<String> {
        process::run(self.command(&self.binaries.stoqctl).args(words))
    }

    /// Runs `stoqctl` with `--json` and gives what it printed.
    ///
    /// # Errors
    /// [`Error::Command`] when it fails, [`Error::Output`] when it prints no JSON.
    pub fn ctl_json(&self, words: &[&str]) -> Result<Value> {
        let printed = self.ctl(&[words, &["--json"]].concat())?;
        serde_json::from_str(&printed).map_err(|error| Error::Output {
            what: format!("stoqctl {} --json", words.join(" ")),
            expected: "one JSON value".to_owned(),
            got: format!("{error} in {printed}"),
        })
    }

    /// `stoqctl mesh create` with further words. `hypermeshd` must run; `stoqd` runs afterwards.
    ///
    /// # Errors
    /// [`Error::Command`] with what it said.
    pub fn create(&mut self, words: &[&str]) -> Result<()> {
        self.ctl(&[&["mesh", "create", MESH], words].concat())?;
        self.start_stoqd()
    }

    /// `stoqctl mesh token` for another host.
    ///
    /// # Errors
    /// [`Error::Command`] with what it said.
    pub fn token(&self, node: &str) -> Result<String> {
        self.ctl(&["mesh", "token", node])
    }

    /// `stoqctl mesh join` with a token on standard input. `hypermeshd` must run; `stoqd` runs
    /// afterwards.
    ///
    /// # Errors
    /// [`Error::Command`] with what it said.
    pub fn join(&mut self, token: &str) -> Result<()> {
        let file = self.logs.join(format!("token-{}", self.name));
        fs::write(&file, token).map_err(Error::io("write a token"))?;
        let input = fs::File::open(&file).map_err(Error::io("open a token"))?;
        let mut command = self.command(&self.binaries.stoqctl);
        let output = command
            .args(["mesh", "join"])
            .stdin(Stdio::from(input))
            .output()
            .map_err(Error::io("run stoqctl mesh join"))?;
        let _removed = fs::remove_file(&file);
        if !output.status.success() {
            return Err(Error::Command {
                command: format!("stoqctl mesh join on {}", self.name),
                status: output.status.to_string(),
                output: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
        self.start_stoqd()
    }

    /// Starts `hypermeshd` as its user, and waits until it answers.
    ///
    /// # Errors
    /// When it cannot be started, or ends.
    pub fn start_hypermeshd(&mut self) -> Result<()> {
        let program = self.binaries.hypermeshd.clone();
        let mut command = self.command("setpriv");
        command
            .args(["--reuid", files::HYPERMESH, "--regid", files::STOQ, "--clear-groups"])
            .args(["--inh-caps", CAPABILITIES, "--ambient-caps", CAPABILITIES, "--no-new-privs"])
            .arg(&program)
            .envs(self.environment.iter().cloned());
        let mut daemon = Process::spawn_command(command, &program, &self.log("hypermeshd"))?;
        let socket = self.file("/run/hypermesh/hypermeshd.sock");
        daemon.wait_alive(&format!("hypermeshd of {}", self.name), START, |daemon| {
            if socket.exists() { Ok(()) } else { Err(daemon.log()) }
        })?;
        self.hypermeshd = Some(daemon);
        Ok(())
    }

    /// Ends both daemons and forgets what they knew: the host is bare again.
    ///
    /// # Errors
    /// [`Error::Command`] when a file cannot be removed.
    pub fn forget(&mut self) -> Result<()> {
        (self.stoqd, self.hypermeshd) = (None, None);
        let folders = "/var/lib/hypermesh /var/lib/stoq /etc/stoq /run/hypermesh";
        let script = format!("for folder in {folders}; do rm -rf $folder/*; done");
        self.run("sh", &["-c", &script]).map(drop)
    }

    /// All that its running `stoqd` has printed; nothing when none runs.
    #[must_use]
    pub fn stoqd_log(&self) -> String {
        self.stoqd.as_ref().map(Process::log).unwrap_or_default()
    }

    /// Ends `hypermeshd` without warning, by SIGKILL.
    ///
    /// # Errors
    /// [`Error::Missing`] when it does not run.
    pub fn kill_hypermeshd(&mut self) -> Result<()> {
        let mut daemon = self.hypermeshd.take().ok_or_else(|| Error::Missing {
            program: format!("hypermeshd of {}", self.name),
            advice: "start it first".to_owned(),
        })?;
        daemon.signal(Signal::SIGKILL)?;
        daemon.wait_exit(START)?;
        // What a daemon leaves that could not tidy up must not look like one that runs.
        let _left = fs::remove_file(self.file("/run/hypermesh/hypermeshd.sock"));
        Ok(())
    }

    /// Starts `stoqd` from the file that `stoqctl` wrote, and waits until it answers.
    ///
    /// # Errors
    /// When there is no such file, or the daemon ends.
    pub fn start_stoqd(&mut self) -> Result<()> {
        let config = self.files.use_plain_sockets()?;
        let program = self.binaries.stoqd.clone();
        let mut command = self.command(&program);
        command.args([OsStr::new("--config"), OsStr::new(config)]);
        command.envs(self.environment.iter().cloned());
        let mut daemon = Process::spawn_command(command, &program, &self.log("stoqd"))?;
        daemon.wait_alive(&format!("stoqd of {}", self.name), START, |_| {
            self.status().map_err(|error| error.to_string())
        })?;
        self.stoqd = Some(daemon);
        Ok(())
    }

    /// What its `stoqd` says of itself.
    ///
    /// # Errors
    /// As for [`MeshHost::ctl_json`].
    pub fn status(&self) -> Result<Value> {
        self.ctl_json(&["status"])
    }

    /// Waits until its links to these hosts are up.
    ///
    /// # Errors
    /// [`Error::Timeout`] with the last status.
    pub fn wait_for_links(&self, peers: &[&str], timeout: Duration) -> Result<()> {
        let what = format!("links of {} to {}", self.name, peers.join(", "));
        wait::until(&what, timeout, || {
            let status = self.status().map_err(|error| error.to_string())?;
            let up = |peer: &&&str| link_state(&status, peer).as_deref() == Some("up");
            if peers.iter().filter(up).count() == peers.len() {
                return Ok(());
            }
            Err(status["links"].to_string())
        })
    }

    /// Its address inside the tunnel.
    ///
    /// # Errors
    /// When `mesh members` does not list it with one.
    pub fn tunnel(&self, family: Family) -> Result<IpAddr> {
        let members = self.ctl_json(&["mesh", "members"])?;
        address_in(&members, &self.name, family).ok_or_else(|| Error::Output {
            what: "stoqctl mesh members --json".to_owned(),
            expected: format!("an address of {}", self.name),
            got: members.to_string(),
        })
    }

    fn log(&self, daemon: &str) -> PathBuf {
        let serial = STARTS.fetch_add(1, Ordering::Relaxed);
        self.logs.join(format!("{daemon}-{}-{serial}.log", self.name))
    }
}

/// The state of the link to a peer in a status.
fn link_state(status: &Value, peer: &str) -> Option<String> {
    let links = status["links"].as_array()?;
    let link = links.iter().find(|link| link["peer"] == peer)?;
    Some(link["state"].as_str()?.to_owned())
}

/// The tunnel address of a node in what `mesh members --json` printed.
fn address_in(members: &Value, node: &str, family: Family) -> Option<IpAddr> {
    let members = members["members"].as_array()?;
    let member = members.iter().find(|member| member["node"] == node)?;
    let addresses = member["addresses"].as_array()?;
    let addresses = addresses.iter().filter_map(|text| {
        let (address, _length) = text.as_str()?.split_once('/')?;
        address.parse::<IpAddr>().ok()
    });
    addresses.into_iter().find(|address| address.is_ipv4() == (family == Family::V4))
}

/// Makes `count` bare hosts with `hypermeshd` running on each.
///
/// # Errors
/// As for [`MeshHost::new`] and [`MeshHost::start_hypermeshd`].
pub fn bare_hosts(bed: &Bed, binaries: &MeshBinaries, count: u8) -> Result<Vec<MeshHost>> {
    let start = |place| {
        let mut host = MeshHost::new(bed, binaries, place)?;
        host.start_hypermeshd()?;
        Ok(host)
    };
    (0..count).map(start).collect()
}

/// Makes a mesh of `count` hosts by the three commands, and waits until each has a link to each.
///
/// # Errors
/// The command that failed, with what it said.
pub fn create(bed: &Bed, binaries: &MeshBinaries, count: u8) -> Result<Vec<MeshHost>> {
    let mut hosts = bare_hosts(bed, binaries, count)?;
    found_and_join(&mut hosts)?;
    Ok(hosts)
}

/// Makes bare hosts one mesh by the three commands, and waits until each has a link to each.
///
/// # Errors
/// The command that failed, with what it said.
pub fn found_and_join(hosts: &mut [MeshHost]) -> Result<()> {
    let Some((first, others)) = hosts.split_first_mut() else { return Ok(()) };
    first.create(&["--ipv4", "10.92.0.0/24"])?;
    for host in others {
        let token = first.token(&host.name)?;
        host.join(&token)?;
    }
    wait_for_full_mesh(hosts)
}

/// Waits until each host has a link to each other one.
///
/// # Errors
/// [`Error::Timeout`] with the links of the one that has not.
pub fn wait_for_full_mesh(hosts: &[MeshHost]) -> Result<()> {
    for host in hosts {
        let peers: Vec<&str> =
            hosts.iter().map(|h| h.name.as_str()).filter(|name| *name != host.name).collect();
        host.wait_for_links(&peers, LINKS_UP)?;
    }
    Ok(())
}

/// Where a host's stoqd configuration is.
const CONFIG: &str = "/etc/stoq/stoqd.toml";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn links_and_addresses_are_found_by_name() {
        let status = json!({ "links": [
            { "peer": "edge-b", "state": "connecting" }, { "peer": "edge-c", "state": "up" } ] });
        assert_eq!(link_state(&status, "edge-c").as_deref(), Some("up"));
        assert_eq!(link_state(&status, "edge-d"), None);
        let member = json!({ "node": "edge-a", "addresses": ["fd12::1/128", "10.92.0.1/32"] });
        let members = json!({ "members": [member] });
        let address = |family| address_in(&members, "edge-a", family).map(|a| a.to_string());
        assert_eq!(address(Family::V6).as_deref(), Some("fd12::1"));
        assert_eq!(address(Family::V4).as_deref(), Some("10.92.0.1"));
        assert_eq!(address_in(&members, "edge-b", Family::V4), None);
    }
}
