//! The one table of configuration keys. Unknown keys are found with it, a reload is judged by it,
//! and `docs/configuration.md` is made from it; a test holds the three together.

use std::fmt::Write;

/// One key of the file.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Section and key, such as `tunnel.mtu`; `peer.` stands for `[[peer]]`, `service.` for
    /// `[[service]]`.
    pub name: &'static str,
    /// What it takes, with the unit.
    pub takes: &'static str,
    /// The default as it would be written; empty if the key must be given.
    pub default: &'static str,
    /// Whether a reload applies it; otherwise a restart is needed.
    pub reloadable: bool,
    /// What it does, for the operator.
    pub help: &'static str,
}

macro_rules! keys {
    ($($name:literal $reload:ident $default:literal $takes:literal $help:literal)*) => {
        /// Every key, in the order of the documentation.
        pub const KEYS: &[Key] = &[$(Key {
            name: $name,
            takes: $takes,
            default: $default,
            reloadable: keys!(@ $reload),
            help: $help,
        },)*];
    };
    (@ reload) => { true };
    (@ restart) => { false };
}

keys! {
    "node.name" restart "" "1 to 63 of `a-z`, `0-9` and `-`"
        "This node's name. It must be the one in the certificate."
    "node.user" restart "\"stoq\"" "a user name"
        "The user that stoqd becomes after a start as root. If there is no such user it stays root, without capabilities."
    "identity.certificate" reload "" "a path"
        "PEM file of the node's certificate."
    "identity.key" reload "" "a path"
        "PEM file of its private keys; mode 0600. It may be the same file, which then holds both: so a renewal is one rename."
    "identity.authority" reload "" "a path"
        "PEM file of the mesh's root certificate."
    "identity.policy" restart "\"hybrid\"" "`hybrid` or `classical`"
        "Which signatures are asked for. `hybrid`: every certificate has a classical and a post-quantum one, and both ends of a connection prove that they hold both keys before anything else. `classical`: the first alone, without that proof and without the check of the log. All nodes of a mesh need the same."
    "identity.log_grace_s" reload "3600" "at most 86400 seconds"
        "How long after its start a peer's certificate may lack a proof that it is in its issuer's log. Checked once the mesh's state names logs, under `hybrid`."
    "identity.outlive_issuer_s" reload "0" "at most 604800 seconds"
        "How long a peer's certificate is still taken after its end, for a mesh that has lost every issuer. 0 takes none. While one is taken the log, the status and `stoq_link_expired_seconds` say so. Revoked nodes are cut off all the same. A link needs it on both nodes."
    "transport.listen" restart "[\"[::]:9292\"]" "at most 8 of ADDRESS:PORT"
        "Where connections are accepted (UDP). `[::]` takes IPv4 too. An empty list only dials."
    "transport.port" restart "\"auto\"" "`auto`, `xdp`, `uring` or `mio`"
        "How UDP packets are moved. `auto` measures what works on this host and takes the fastest."
    "transport.interface" restart "none" "an interface name"
        "The WAN interface. `xdp` needs it."
    "transport.workers" restart "\"auto\"" "1 to 64, or `auto`"
        "Number of worker threads. `auto` is one for each of `cores`, or without them one for each physical core that suits it, less one for the control plane (`stoqctl tune cores`)."
    "transport.cores" restart "none" "a list of core numbers"
        "The cores that workers are pinned to, one each. Without it stoqd chooses."
    "transport.gso" restart "true" "true or false"
        "Send a train of packets with one system call (UDP segmentation offload)."
    "transport.gro" restart "true" "true or false"
        "Receive a train of packets with one system call (UDP receive offload)."
    "transport.multishot" restart "true" "true or false"
        "With `uring`: let one request receive many packets."
    "transport.sender" restart "\"auto\"" "`auto`, `inline` or `thread`"
        "Whether a worker calls the kernel to send by itself or leaves that to a thread of its own; `auto` takes a thread with `mio` from two cores on, with `uring` from three."
    "transport.recovery" restart "\"auto\"" "`auto` or `off`"
        "Whether lost packets are sent again. `auto`: while a path loses some, to peers that do the same."
    "transport.mark" restart "21332" "a number from 1 to 4294967295"
        "Firewall mark (SO_MARK) of outer packets. It keeps them off the tunnel's routes when an allowed prefix covers a peer's endpoint."
    "transport.state" restart "\"/var/lib/stoq\"" "a path"
        "Directory of what must outlive a restart: connection ID keys, process generation, pushed peers."
    "xdp.deny" reload "[]" "at most 16384 of ADDRESS/LENGTH"
        "With `xdp`: sources whose packets to STOQ's ports are dropped by the XDP program."
    "xdp.malformed" reload "true" "true or false"
        "With `xdp`: drop there what cannot be QUIC."
    "xdp.initial" reload "true" "true or false"
        "With `xdp`: limit there the packets that open connections."
    "xdp.initial_per_source" reload "100" "1 to 10000000 packets a second"
        "That limit for one IPv4 address or IPv6 /64; four times as many at once."
    "xdp.initial_total" reload "5000" "1 to 10000000 packets a second"
        "That limit for all sources together, on each core; a fifth of it at once."
    "xdp.version" reload "true" "true or false"
        "With `xdp`: limit there the packets of unknown QUIC versions."
    "xdp.forged" reload "true" "true or false"
        "With `xdp`: drop there packets whose connection ID was not issued by this host."
    "xdp.old_generation" reload "true" "true or false"
        "With `xdp`: limit there the packets for an earlier run of stoqd."
    "tunnel.device" restart "\"stoq0\"" "an interface name, at most 15 bytes"
        "Name of the TUN device. Without the section `[tunnel]` there is none."
    "tunnel.addresses" restart "[]" "at most 16 of ADDRESS/LENGTH"
        "Addresses of the device."
    "tunnel.mtu" restart "\"auto\"" "1280 to 65535 bytes, or `auto`"
        "MTU of the device. `auto` follows from the path to the peers."
    "tunnel.routes" reload "\"auto\"" "`auto` or `off`"
        "Whether the peers' allowed_ips are installed as routes of the kernel."
    "tunnel.offload.tso" restart "true" "true or false"
        "Take TCP super-packets from the kernel and segment them here."
    "tunnel.offload.uso" restart "true" "true or false"
        "Take UDP super-packets from the kernel and segment them here (kernel 6.2)."
    "tunnel.offload.checksum" restart "true" "true or false"
        "Take packets with unfinished checksums from the kernel and finish them here. TSO and USO need it."
    "tunnel.offload.gro" restart "true" "true or false"
        "Join received packets into super-packets before they are given to the kernel."
    "tunnel.offload.slice" restart "true" "true or false"
        "Carry super-packets with their headers once, in slices that fill each datagram, where both ends want it and their devices take all offloads."
    "control.socket" restart "\"/run/stoq/stoqd.sock\"" "a path"
        "The control socket."
    "control.prefixes" reload "[]" "at most 256 of ADDRESS/LENGTH"
        "The most that the control plane may push. Nothing may be pushed if it is empty."
    "control.read_uids" reload "[]" "at most 64 user ids"
        "Users that may read the state. Root may do everything."
    "control.operate_uids" reload "[]" "at most 64 user ids"
        "Users that may also reload, drain, capture and open streams."
    "control.push_uids" reload "[]" "at most 64 user ids"
        "Users that may read the state, push peers, and have port 53 opened for the mesh's names: the control plane's."
    "metrics.listen" restart "\"127.0.0.1:9293\"" "ADDRESS:PORT"
        "Where `/metrics`, `/health` and `/ready` are served (TCP, plain HTTP). Without the section `[metrics]` nothing listens."
    "log.level" reload "\"info\"" "`error`, `warn`, `info`, `debug` or `trace`"
        "The least important thing that is written to standard error."
    "log.format" restart "\"plain\"" "`plain` or `json`"
        "Lines for people, or one JSON object a line."
    "limits.connections" restart "16384" "1 to 1000000 connections"
        "Most QUIC connections of the node, all workers together. Handshakes beyond it are refused."
    "limits.handshakes_per_poll" restart "16" "1 to 4096 packets"
        "Most handshake packets that a worker handles in one turn of its loop, so that a flood of them does not stop the traffic."
    "tier.readings" reload "4" "1 to 240 readings"
        "How many readings in a row put a link into another tier; one is about a quarter of a second of traffic. `docs/tiers.md` tells what a tier sets."
    "tier.stay_s" reload "2" "at most 3600 seconds"
        "How long a link stays in a tier at least. A link that goes back and forth stays longer each time."
    "peer.name" reload "" "1 to 63 of `a-z`, `0-9` and `-`"
        "The peer's name. It must be the one in its certificate."
    "peer.endpoints" reload "[]" "at most 16 of ADDRESS:PORT"
        "Where the peer can be reached; all are tried, IPv6 first. An empty list waits for the peer to dial."
    "peer.allowed_ips" reload "[]" "at most 1024 of ADDRESS/LENGTH"
        "The prefixes behind the peer: packets to them go to it, and it may send from them alone. Of prefixes that lie in each other the longest wins."
    "service.name" reload "" "1 to 32 of `a-z`, `0-9` and `-`"
        "The name by which peers open streams to the service: `stoqctl stream PEER NAME`."
    "service.socket" reload "" "a path"
        "The Unix stream socket that the service listens on. stoqd's user must be allowed to connect to it."
    "service.peers" reload "" "at most 16384 names of peers, or `\"*\"`"
        "The peers that may open streams to it; `\"*\"` stands for all. Streams that are open stay open."
    "service.announce" reload "false" "true or false"
        "Tell the service who opened a stream: one line of JSON, `{\"peer\":\"edge-b\",\"node\":\"stoq://MESH/edge-b\"}`, before the peer's bytes."
}

const HEAD: &str = "# Configuration

<!-- Made from the table of keys in dataplane/stoqd/src/config/keys.rs; a test compares the two. -->

`stoqd --config FILE` reads one TOML file; `stoqd --config FILE --check` only checks it, and exits
with 2 and the file, the line and the reason if something is wrong. Only root may be able to write
the file. A key that is marked *reload* takes effect with `stoqctl reload` or SIGHUP, without losing a
link; the others need a restart, and a reload names those that differ.
";

/// The text of `docs/configuration.md`.
#[must_use]
pub fn reference() -> String {
    let mut text = HEAD.to_owned();
    let mut section = "";
    for key in KEYS {
        let (head, rest) = key.name.split_once('.').unwrap_or(("", key.name));
        if head != section {
            section = head;
            let many = matches!(head, "peer" | "service");
            let title = if many { format!("[[{head}]]") } else { format!("[{head}]") };
            let columns = "| key | takes | default | applied by | |\n|---|---|---|---|---|";
            let _ = write!(text, "\n## `{title}`\n\n{columns}\n");
        }
        let default = match key.default {
            "" => "required".to_owned(),
            "none" => "none".to_owned(),
            given => format!("`{given}`"),
        };
        let applied = if key.reloadable { "reload" } else { "restart" };
        let Key { takes, help, .. } = key;
        let _ = writeln!(text, "| `{rest}` | {takes} | {default} | {applied} | {help} |");
    }
    text
}
