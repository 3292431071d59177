//! The stoqd of a host of the mesh: its configuration, its start, its links.
//!
//! The configuration bounds what the control plane may do to this host, so no daemon writes it: root
//! does, by `stoqctl mesh create` and `stoqctl mesh join`, once. A file that is there is never changed;
//! what it lacks is said.

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use hypermesh_api::FoundReply;
use serde::Serialize;
use stoq_control::{LinkState, Status};
use toml::{Table, Value};

use super::Sockets;
use crate::cli::Host;
use crate::daemon::fetch_status;
use crate::failure::Failure;
use crate::hypermesh::{Way, user};
use crate::names::{self, Naming};
use crate::output::progress;

/// UDP port of STOQ.
const PORT: u16 = 9292;

/// The most that the control plane may route to other nodes besides the mesh itself, unless the
/// operator changes the file: private networks (RFC 1918, RFC 4193, RFC 6598), never the Internet.
const SITES: [&str; 5] =
    ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"];

/// Addresses outside (RFC 5737, RFC 3849): the one of ours that packets to them would have is asked
/// of the kernel, and nothing is sent.
const OUTSIDE: [&str; 2] = ["[2001:db8::1]:9", "192.0.2.1:9"];

/// The configuration as the package installs it: nobody's yet, as long as it is unchanged.
const INSTALLED: &str = include_str!("../../../../packaging/stoqd.toml");

/// How long a link may take: a dial that found nobody backs off before the next one.
const LINK_UP: Duration = Duration::from_secs(30);

/// How often a link is looked for: a person waits for it.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What became of this host's stoqd.
#[derive(Debug, Serialize)]
pub struct Prepared {
    /// Its configuration.
    pub config: PathBuf,
    /// Whether this command wrote it.
    pub config_written: bool,
    /// What a configuration that was there lacks, as lines of TOML.
    pub config_lacks: Vec<String>,
    /// Whether stoqd answers.
    pub stoqd_runs: bool,
    /// The peers to which a link is up.
    pub links: Vec<String>,
    /// Whether programs of this host find the mesh's names.
    pub names: Naming,
}

/// Where others reach this host, if the operator did not say: the addresses that it would send from.
pub fn endpoints(host: &Host) -> Vec<SocketAddr> {
    if !host.endpoints.is_empty() {
        return host.endpoints.clone();
    }
    let with_port = |address| SocketAddr::new(address, PORT);
    OUTSIDE.iter().filter_map(|outside| source_towards(outside)).map(with_port).collect()
}

fn source_towards(outside: &str) -> Option<IpAddr> {
    let any = if outside.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(outside).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Writes stoqd's configuration if there is none, and starts stoqd if a service manager can.
pub fn prepare(sockets: Sockets, host: &Host, reply: &FoundReply) -> Result<Prepared, Failure> {
    let hypermesh = sockets.hypermesh.local()?;
    let wanted = render(reply, user(hypermesh)?, &peers_socket(hypermesh));
    let config = host.config.clone();
    let config_written = write_new(&config, &wanted)?;
    let config_lacks = if config_written { Vec::new() } else { lacking(&config, &wanted)? };
    if config_written && has_service_manager() {
        progress("Starting stoqd ...");
        start()?;
    }
    let stoqd_runs = fetch_status(sockets.stoqd).is_ok();
    let (links, names) = (Vec::new(), Naming::Pending);
    Ok(Prepared { config, config_written, config_lacks, stoqd_runs, links, names })
}

impl Prepared {
    /// Waits until a link is up, if stoqd runs and can have one.
    pub fn wait_for_link(&mut self, stoqd: &Path) {
        if !self.stoqd_runs || !self.config_lacks.is_empty() {
            return;
        }
        progress("Waiting for the first link ...");
        let begin = Instant::now();
        while self.links.is_empty() && begin.elapsed() < LINK_UP {
            self.links = fetch_status(stoqd).map(|status| up(&status)).unwrap_or_default();
            if self.links.is_empty() {
                thread::sleep(LOOK_EVERY);
            }
        }
    }

    /// Has this host's resolver ask for the mesh's names, where that takes nobody's file away.
    pub fn settle_names(&mut self, hypermesh: &Way) {
        if self.stoqd_runs {
            self.names = names::settle(hypermesh);
        }
    }

    /// What was done, and what is left to the operator.
    pub fn shown(&self) -> String {
        let config = self.config.display();
        let mut text = if self.config_written {
            format!("{config} written.\n")
        } else if self.config_lacks.is_empty() {
            format!("{config} was there, and has all that is needed.\n")
        } else {
            let lacks = self.config_lacks.join("\n  ");
            format!("{config} was there and was not changed. It lacks:\n  {lacks}\n")
        };
        text += &match (self.stoqd_runs, &self.links[..]) {
            (false, _) => format!("Now start stoqd, as root: stoqd --config {config}\n"),
            (true, _) if !self.config_lacks.is_empty() => {
                "Then restart stoqd: systemctl restart stoqd\n".to_owned()
            }
            (true, []) => "stoqd runs; no link is up yet: stoqctl status\n".to_owned(),
            (true, links) => format!("stoqd runs; linked to {}.\n", links.join(", ")),
        };
        text + &self.names.shown()
    }
}

/// The file that stoqd needs in the mesh.
fn render(reply: &FoundReply, user: u32, peers: &Path) -> String {
    let quoted = |items: Vec<String>| {
        items.iter().map(|item| format!("{item:?}")).collect::<Vec<_>>().join(", ")
    };
    let mut prefixes = vec![reply.prefix.to_string()];
    prefixes.extend(reply.ipv4.iter().map(ToString::to_string));
    prefixes.extend(SITES.iter().map(|&site| site.to_owned()));
    let addresses = reply.addresses.iter().map(ToString::to_string).collect();
    let FoundReply { node, identity, root, .. } = reply;
    format!(
        r#"# This node of the mesh {mesh}. Written once by stoqctl; no program changes it.

[node]
name = "{node}"

[identity]
certificate = {identity:?}
key         = {identity:?}
authority   = {root:?}

[transport]
port = "auto"

[tunnel]
addresses = [{addresses}]

[control]
# The most that the control plane may route to other nodes, whatever becomes of it.
prefixes  = [{prefixes}]
push_uids = [{user}]

[metrics]

# How the control planes of the nodes reach each other, through the links.
[[service]]
name     = "hypermesh"
socket   = {peers:?}
peers    = "*"
announce = true
"#,
        mesh = reply.mesh,
        addresses = quoted(addresses),
        prefixes = quoted(prefixes),
    )
}

/// Where the control planes of peers arrive: beside the local socket.
fn peers_socket(hypermesh: &Path) -> PathBuf {
    hypermesh.with_file_name("peers.sock")
}

/// Writes the file unless there is one that is more than the package's, and says whether it did.
fn write_new(path: &Path, text: &str) -> Result<bool, Failure> {
    let failed = |error| Failure::writing(path.to_owned(), &error);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    if fs::read_to_string(path).is_ok_and(|there| there == INSTALLED) {
        fs::remove_file(path).map_err(failed)?;
    }
    let mut file = match fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)
    {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    Ok(true)
}

/// The lines of `wanted` that a configuration does not have.
fn lacking(path: &Path, wanted: &str) -> Result<Vec<String>, Failure> {
    let unreadable = |why: String| {
        let shown = path.display();
        Failure::Usage(format!(
            "{shown}: expected a configuration of stoqd, got: {why}; stoqd --config {shown} --check"
        ))
    };
    let text = fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    let there: Table = toml::from_str(&text).map_err(|e| unreadable(e.message().to_owned()))?;
    let wanted: Table = toml::from_str(wanted).map_err(|e| unreadable(e.message().to_owned()))?;
    let keys = wanted.iter().flat_map(|(name, section)| match section {
        Value::Table(section) => section_lacks(name, section, there.get(name)),
        services => service_lacks(services, there.get(name)),
    });
    Ok(keys.collect())
}

fn section_lacks(name: &str, wanted: &Table, there: Option<&Value>) -> Vec<String> {
    let has = |key: &str, value: &Value| {
        let found = there.and_then(|section| section.get(key));
        match (value, found) {
            (Value::Array(items), Some(Value::Array(found))) => {
                items.iter().all(|item| found.contains(item))
            }
            // A choice that any node may make by itself.
            _ if name == "transport" => true,
            (value, found) => found == Some(value),
        }
    };
    let lacks = wanted.iter().filter(|(key, value)| !has(key, value));
    lacks.map(|(key, value)| format!("{name}.{key} = {value}")).collect()
}

fn service_lacks(wanted: &Value, there: Option<&Value>) -> Vec<String> {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let there = list(there);
    let lacks = list(Some(wanted)).into_iter().filter(|service| !there.contains(service));
    lacks.map(|service| format!("service = [{service}]")).collect()
}

fn up(status: &Status) -> Vec<String> {
    let up = status.links.iter().filter(|link| link.state == LinkState::Up);
    up.map(|link| link.peer.clone()).collect()
}

/// Whether systemd is what manages this host (sd_booted(3)).
fn has_service_manager() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

fn start() -> Result<(), Failure> {
    let output = Command::new("systemctl").args(["enable", "--now", "stoqd"]).output();
    let why = match output {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Failure::Refused(format!(
        "expected systemd to start stoqd, got: {why}; this host is in the mesh all the same: \
         journalctl -u stoqd -n 50, then systemctl enable --now stoqd"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn reply() -> FoundReply {
        FoundReply {
            mesh: "lab-0123456789abcdef".into(),
            node: "edge-a".into(),
            prefix: "fd12:3456:789a::/48".parse().unwrap(),
            ipv4: Some("10.92.0.0/24".parse().unwrap()),
            addresses: vec!["fd12:3456:789a::1/128".parse().unwrap()],
            identity: "/var/lib/hypermesh/identity.pem".into(),
            root: "/var/lib/hypermesh/root.crt".into(),
        }
    }

    fn rendered() -> String {
        render(&reply(), 991, Path::new("/run/hypermesh/peers.sock"))
    }

    #[test]
    fn the_file_lets_the_control_plane_push_the_mesh_and_private_networks_alone() {
        let file: Table = toml::from_str(&rendered()).unwrap();
        assert_eq!(file["node"]["name"].as_str(), Some("edge-a"));
        assert_eq!(file["identity"]["key"], file["identity"]["certificate"]);
        assert_eq!(file["control"]["push_uids"].as_array().unwrap(), &[Value::Integer(991)]);
        let prefixes = file["control"]["prefixes"].as_array().unwrap();
        assert_eq!(prefixes[0].as_str(), Some("fd12:3456:789a::/48"));
        assert!(prefixes.iter().all(|p| !p.as_str().unwrap().ends_with("/0")), "{prefixes:?}");
        assert_eq!(file["service"][0]["peers"].as_str(), Some("*"));
    }

    #[test]
    fn a_file_that_is_there_is_not_changed_and_what_it_lacks_is_said() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("etc/stoqd.toml");
        assert!(write_new(&path, &rendered()).unwrap());
        assert_eq!(lacking(&path, &rendered()).unwrap(), Vec::<String>::new());
        let own = rendered()
            .replace("push_uids = [991]", "push_uids = [5, 991]")
            .replace("10.0.0.0/8", "10.1.0.0/16")
            .replace("\"auto\"", "\"xdp\"")
            .replace("announce = true", "");
        fs::write(&path, &own).unwrap();
        assert!(!write_new(&path, &rendered()).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), own);
        let lacks = lacking(&path, &rendered()).unwrap();
        assert_eq!(lacks.len(), 2, "{lacks:?}");
        assert!(lacks[0].starts_with("control.prefixes = ["), "{lacks:?}");
        assert!(lacks[1].contains("announce = true"), "{lacks:?}");
        fs::write(&path, "[node\n").unwrap();
        assert!(lacking(&path, &rendered()).unwrap_err().to_string().contains("--check"));
    }

    #[test]
    fn the_packages_own_file_is_replaced_until_somebody_has_changed_it() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("stoqd.toml");
        fs::write(&path, INSTALLED).unwrap();
        assert!(write_new(&path, &rendered()).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), rendered());
        fs::write(&path, INSTALLED.replace("unnamed", "edge-a")).unwrap();
        assert!(!write_new(&path, &rendered()).unwrap());
    }

    #[test]
    fn what_is_left_to_do_is_said() {
        let mut prepared = Prepared {
            config: "/etc/stoq/stoqd.toml".into(),
            config_written: true,
            config_lacks: Vec::new(),
            stoqd_runs: false,
            links: Vec::new(),
            names: Naming::Pending,
        };
        assert!(prepared.shown().contains("stoqd --config /etc/stoq/stoqd.toml"));
        prepared.stoqd_runs = true;
        prepared.links = vec!["edge-b".into()];
        prepared.names = Naming::Asked;
        assert!(
            prepared.shown().ends_with("linked to edge-b.\nThe mesh's names are found here.\n")
        );
        prepared.names = Naming::OptIn;
        let opt_in = "stoqctl names apply resolv-conf";
        assert!(prepared.shown().contains(opt_in), "{}", prepared.shown());
        prepared.config_written = false;
        prepared.config_lacks = vec!["node.name = \"edge-a\"".into()];
        assert!(prepared.shown().contains("was not changed"), "{}", prepared.shown());
        assert!(prepared.shown().contains("systemctl restart stoqd"), "{}", prepared.shown());
    }
}
