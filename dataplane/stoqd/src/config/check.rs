//! Whether the values of a file make sense together. Called after they were read into their types;
//! the rules for peers also hold for pushed ones.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::path::Path;

use stoq_tuning::{Host, MAX_WORKERS, Topology};

use super::locate::Places;
use super::{Allowed, Auto, Config, Peer, PortChoice, Prefix, Problem};

/// Most listen addresses: their place is one byte on the packet path, and each costs every worker
/// a socket.
const MAX_LISTEN: usize = 8;
/// Most addresses of the device.
const MAX_ADDRESSES: usize = 16;
/// Most peers: ten thousand connections are asked for, with room.
pub const MAX_PEERS: usize = 16_384;
/// Most endpoints of a peer: each is a dial attempt.
const MAX_ENDPOINTS: usize = 16;
/// Most prefixes of a peer.
const MAX_ALLOWED: usize = 1024;
/// Most services: each is looked for by its name when a stream is opened.
const MAX_SERVICES: usize = 64;
/// Longest path of a Unix socket: sockaddr_un holds 108 bytes with the final zero (unix(7)).
const MAX_SOCKET_PATH: usize = 107;
/// Most prefixes that bound a push.
const MAX_PUSH_PREFIXES: usize = 256;
/// Most users for each right.
const MAX_UIDS: usize = 64;
/// Longest interface name: IFNAMSIZ without its zero.
const MAX_INTERFACE_BYTES: usize = 15;
/// Longest grace in seconds: a certificate lives a day, so a longer one would check nothing.
const MAX_LOG_GRACE_S: u32 = 86_400;
/// Longest time in seconds for which expired certificates may be taken: a week is enough to bring an issuer
/// back from its backup, and who holds a stolen key that was never revoked gains no more than that.
const MAX_OUTLIVE_S: u32 = 604_800;
/// Most readings that have to agree: a minute of them.
const MAX_READINGS: u32 = 240;
/// Longest stay in a tier in seconds: what is longer is not adaptive.
const MAX_STAY_S: u32 = 3600;
/// Least MTU: every IPv6 link carries 1280 bytes (RFC 8200 §5).
const MIN_MTU: u16 = 1280;

/// Collects problems with their lines.
pub(super) struct Findings<'a> {
    places: &'a Places<'a>,
    problems: Vec<Problem>,
}

impl Findings<'_> {
    fn add(&mut self, key: &str, message: String) {
        let line = self.places.line_of(key);
        self.problems.push(Problem { line, key: key.to_owned(), message });
    }

    pub(super) fn unless(&mut self, fine: bool, key: &str, message: impl FnOnce() -> String) {
        if !fine {
            self.add(key, message());
        }
    }

    pub(super) fn at_most(&mut self, max: usize, got: usize, key: &str) {
        self.unless(got <= max, key, || {
            format!("expected at most {max} entries, got {got}; remove some")
        });
    }

    pub(super) fn unique<T: Eq + Hash + std::fmt::Debug>(&mut self, items: &[T], key: &str) {
        let mut seen = HashMap::new();
        for (index, item) in items.iter().enumerate() {
            if let Some(first) = seen.insert(item, index) {
                let at = format!("{key}[{index}]");
                self.add(
                    &at,
                    format!(
                        "expected each entry once, got {item:?} as entry {first} too; remove one"
                    ),
                );
            }
        }
    }
}

/// All problems of a file whose types are right.
pub(super) fn check(config: &Config, places: &Places<'_>) -> Vec<Problem> {
    let mut findings = Findings { places, problems: Vec::new() };
    check_node(config, &mut findings);
    let grace = config.identity.log_grace_s;
    findings.unless(grace <= MAX_LOG_GRACE_S, "identity.log_grace_s", || {
        format!("expected at most {MAX_LOG_GRACE_S} seconds, got {grace}; leave the key out")
    });
    let outlive = config.identity.outlive_issuer_s;
    findings.unless(outlive <= MAX_OUTLIVE_S, "identity.outlive_issuer_s", || {
        format!("expected at most {MAX_OUTLIVE_S} seconds, got {outlive}; bring an issuer back")
    });
    check_transport(config, &mut findings);
    config.xdp.check(&mut findings);
    check_tunnel(config, &mut findings);
    check_control(config, &mut findings);
    check_limits(config, &mut findings);
    check_tier(config, &mut findings);
    check_peers(config, &mut findings);
    check_services(config, &mut findings);
    findings.problems
}

fn check_tier(config: &Config, findings: &mut Findings<'_>) {
    let tier = config.tier;
    findings.unless((1..=MAX_READINGS).contains(&tier.readings), "tier.readings", || {
        format!("expected 1 to {MAX_READINGS} readings, got {}; leave the key out", tier.readings)
    });
    findings.unless(tier.stay_s <= MAX_STAY_S, "tier.stay_s", || {
        format!("expected at most {MAX_STAY_S} seconds, got {}; leave the key out", tier.stay_s)
    });
}

fn check_node(config: &Config, findings: &mut Findings<'_>) {
    let name = &config.node.name;
    findings.unless(valid_node_name(name), "node.name", || bad_name(name));
    let user = &config.node.user;
    let fine = !user.is_empty() && user.len() <= 32 && !user.contains(['\0', ':', '/']);
    findings.unless(fine, "node.user", || {
        format!("expected a user name of 1 to 32 bytes, got `{user}`; name a user of this host")
    });
}

/// Whether a text can be a node's name: 1 to 63 of `a-z`, `0-9`, `-`, and no `-` at either end.
#[must_use]
pub fn valid_node_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(allowed)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn bad_name(name: &str) -> String {
    format!(
        "expected 1 to 63 of a-z, 0-9 and -, not beginning or ending with -, got `{}`; \
         use the name in the certificate",
        name.escape_debug()
    )
}

fn check_transport(config: &Config, findings: &mut Findings<'_>) {
    let transport = &config.transport;
    findings.at_most(MAX_LISTEN, transport.listen.len(), "transport.listen");
    findings.unique(&transport.listen, "transport.listen");
    for (index, address) in transport.listen.iter().enumerate() {
        findings.unless(address.port() != 0, &format!("transport.listen[{index}]"), || {
            format!("expected a port from 1 to 65535, got {address}; STOQ's is 9292")
        });
    }
    if let Some(name) = &transport.interface {
        check_interface(name, "transport.interface", findings);
    } else if transport.port == PortChoice::Xdp {
        let message = "expected the WAN interface for port = \"xdp\", got none; \
                       add transport.interface or take port = \"auto\"";
        findings.add("transport.port", message.to_owned());
    }
    findings.unless(transport.mark != 0, "transport.mark", || {
        "expected a mark from 1, got 0, which marks nothing; leave the key out".to_owned()
    });
    if let Auto::Fixed(workers) = transport.workers {
        findings.unless((1..=MAX_WORKERS).contains(&workers), "transport.workers", || {
            format!("expected 1 to {MAX_WORKERS} workers, got {workers}; \"auto\" fits most hosts")
        });
    }
    check_cores(config, findings);
}

fn check_cores(config: &Config, findings: &mut Findings<'_>) {
    let Some(cores) = &config.transport.cores else { return };
    let key = "transport.cores";
    findings.at_most(usize::from(MAX_WORKERS), cores.len(), key);
    findings.unique(cores, key);
    findings.unless(!cores.is_empty(), key, || {
        "expected at least one core, got none; leave the key out to let stoqd choose".to_owned()
    });
    let usable = usable_cores();
    for (index, core) in cores.iter().enumerate() {
        findings.unless(usable.contains(core), &format!("{key}[{index}]"), || {
            format!("expected a core that this process may use ({usable:?}), got {core}; take one of them")
        });
    }
    if let Auto::Fixed(workers) = config.transport.workers {
        findings.unless(usize::from(workers) <= cores.len(), "transport.workers", || {
            let len = cores.len();
            format!(
                "expected at most one worker for each of the {len} cores, got {workers}; add cores"
            )
        });
    }
}

/// The cores that this process may run on, or be put on.
fn usable_cores() -> Vec<usize> {
    Topology::of(&Host::this(), None).cores.into_iter().map(|core| core.id).collect()
}

fn check_interface(name: &str, key: &str, findings: &mut Findings<'_>) {
    let printable = name.bytes().all(|b| b.is_ascii_graphic() && !b"/:%".contains(&b));
    let fine = (1..=MAX_INTERFACE_BYTES).contains(&name.len())
        && printable
        && !matches!(name, "." | ".." | "all" | "default");
    findings.unless(fine, key, || {
        let name = name.escape_debug();
        format!(
            "expected an interface name of 1 to {MAX_INTERFACE_BYTES} letters and digits, got `{name}`; shorten it"
        )
    });
}

fn check_tunnel(config: &Config, findings: &mut Findings<'_>) {
    let Some(tunnel) = &config.tunnel else { return };
    check_interface(&tunnel.device, "tunnel.device", findings);
    findings.at_most(MAX_ADDRESSES, tunnel.addresses.len(), "tunnel.addresses");
    findings.unique(&tunnel.addresses, "tunnel.addresses");
    if let Auto::Fixed(mtu) = tunnel.mtu {
        findings.unless(mtu >= MIN_MTU, "tunnel.mtu", || {
            format!("expected {MIN_MTU} to 65535 bytes, got {mtu}; \"auto\" follows the path")
        });
    }
    let offload = tunnel.offload;
    let sound = offload.checksum || !(offload.tso || offload.uso);
    findings.unless(sound, "tunnel.offload.checksum", || {
        "expected true while tso or uso is true, got false; switch those off as well".to_owned()
    });
}

fn check_control(config: &Config, findings: &mut Findings<'_>) {
    let control = &config.control;
    findings.at_most(MAX_PUSH_PREFIXES, control.prefixes.len(), "control.prefixes");
    findings.unique(&control.prefixes, "control.prefixes");
    let uids = [
        ("control.read_uids", &control.read_uids),
        ("control.operate_uids", &control.operate_uids),
        ("control.push_uids", &control.push_uids),
    ];
    for (key, list) in uids {
        findings.at_most(MAX_UIDS, list.len(), key);
    }
    check_socket(&control.socket, "control.socket", findings);
}

fn check_socket(path: &Path, key: &str, findings: &mut Findings<'_>) {
    let length = path.as_os_str().len();
    findings.unless((1..=MAX_SOCKET_PATH).contains(&length), key, || {
        format!(
            "expected a path of 1 to {MAX_SOCKET_PATH} bytes, got {length}; choose a shorter one"
        )
    });
}

fn check_services(config: &Config, findings: &mut Findings<'_>) {
    let services = &config.services;
    findings.at_most(MAX_SERVICES, services.len(), "service");
    let mut names = HashSet::new();
    for (index, service) in services.iter().enumerate() {
        let at = format!("service[{index}]");
        let name = &service.name;
        findings.unless(name.parse::<stoq::Service>().is_ok(), &format!("{at}.name"), || {
            let (most, got) = (stoq::SERVICE_MAX, name.escape_debug());
            format!("expected 1 to {most} of a-z, 0-9 and -, got `{got}`; rename the service")
        });
        findings.unless(names.insert(name), &format!("{at}.name"), || {
            format!("expected each service once, got `{name}` again; rename one")
        });
        check_socket(&service.socket, &format!("{at}.socket"), findings);
        let Allowed::These(peers) = &service.peers else { continue };
        findings.at_most(MAX_PEERS, peers.len(), &format!("{at}.peers"));
        findings.unique(peers, &format!("{at}.peers"));
        for (entry, peer) in peers.iter().enumerate() {
            findings
                .unless(valid_node_name(peer), &format!("{at}.peers[{entry}]"), || bad_name(peer));
        }
    }
}

fn check_limits(config: &Config, findings: &mut Findings<'_>) {
    let limits = &config.limits;
    findings.unless((1..=1_000_000).contains(&limits.connections), "limits.connections", || {
        format!("expected 1 to 1000000 connections, got {}; leave the key out", limits.connections)
    });
    let polls = limits.handshakes_per_poll;
    findings.unless((1..=4096).contains(&polls), "limits.handshakes_per_poll", || {
        format!("expected 1 to 4096 packets, got {polls}; leave the key out")
    });
}

fn check_peers(config: &Config, findings: &mut Findings<'_>) {
    let peers = &config.peers;
    findings.at_most(MAX_PEERS, peers.len(), "peer");
    let mut names = HashMap::new();
    for (index, peer) in peers.iter().enumerate() {
        let at = format!("peer[{index}]");
        for (key, message) in check_peer(peer) {
            findings.add(&format!("{at}.{key}"), message);
        }
        findings.unless(peer.name != config.node.name, &format!("{at}.name"), || {
            format!(
                "expected another node, got this node's own name `{}`; remove the peer",
                peer.name
            )
        });
        if names.insert(&peer.name, index).is_some() {
            let message =
                format!("expected each peer once, got `{}` again; join the two", peer.name);
            findings.add(&format!("{at}.name"), message);
        }
    }
    for (index, entry, message) in overlapping(peers) {
        findings.add(&format!("peer[{index}].allowed_ips[{entry}]"), message);
    }
}

/// What is wrong with one peer by itself: the key within it, and the message.
#[must_use]
pub fn check_peer(peer: &Peer) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    let mut add = |key: &str, message: String| problems.push((key.to_owned(), message));
    if !valid_node_name(&peer.name) {
        add("name", bad_name(&peer.name));
    }
    let counts = [
        ("endpoints", peer.endpoints.len(), MAX_ENDPOINTS),
        ("allowed_ips", peer.allowed_ips.len(), MAX_ALLOWED),
    ];
    for (key, got, max) in counts {
        if got > max {
            add(key, format!("expected at most {max} entries, got {got}; remove some"));
        }
    }
    for (index, endpoint) in peer.endpoints.iter().enumerate() {
        let ip = endpoint.ip();
        if endpoint.port() == 0 || ip.is_unspecified() || ip.is_multicast() {
            let key = format!("endpoints[{index}]");
            add(
                &key,
                format!("expected the address and port of one host, got {endpoint}; mend it"),
            );
        }
    }
    problems
}

/// Prefixes that two peers (or one twice) claim: the place of the second and the message.
///
/// A prefix that merely lies within another peer's is no conflict: the longest wins.
#[must_use]
pub fn overlapping(peers: &[Peer]) -> Vec<(usize, usize, String)> {
    let mut owners: HashMap<Prefix, &str> = HashMap::new();
    let mut problems = Vec::new();
    for (index, peer) in peers.iter().enumerate() {
        for (entry, prefix) in peer.allowed_ips.iter().enumerate() {
            if let Some(first) = owners.insert(*prefix, &peer.name) {
                let second = &peer.name;
                problems.push((
                    index,
                    entry,
                    format!(
                        "expected each prefix behind one peer, got {prefix} behind `{first}` and `{second}`; \
                         remove it from one of them"
                    ),
                ));
            }
        }
    }
    problems
}
