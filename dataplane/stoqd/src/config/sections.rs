//! The sections of the configuration file and their defaults. Read by the daemon; what a key means
//! to the operator, its unit and whether a reload applies it stand in [`KEYS`](super::KEYS).

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::address::prefixes;
use super::{InterfaceAddress, Prefix};

/// `[node]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// This node's name, as in its certificate.
    pub name: String,
    /// The user that stoqd becomes when it was started as root and the user exists.
    #[serde(default = "default_user")]
    pub user: String,
}

fn default_user() -> String {
    "stoq".to_owned()
}

/// `[identity]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// PEM file of this node's certificate chain.
    pub certificate: PathBuf,
    /// PEM file of its keys; may be the same file.
    pub key: PathBuf,
    /// PEM file of the mesh's root.
    pub authority: PathBuf,
    /// Which signatures are asked for.
    #[serde(default)]
    pub policy: stoq_identity::Policy,
    /// Seconds from the start of a peer's certificate for which it may lack a proof of its log.
    #[serde(default = "default_log_grace")]
    pub log_grace_s: u32,
    /// Seconds for which an expired certificate is still taken, while no issuer can renew it.
    #[serde(default)]
    pub outlive_issuer_s: u32,
}

const fn default_log_grace() -> u32 {
    3600
}

/// `[transport]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Transport {
    /// Where connections are accepted; none to dial only.
    pub listen: Vec<SocketAddr>,
    /// Which port moves the packets.
    pub port: PortChoice,
    /// The WAN interface.
    pub interface: Option<String>,
    /// Number of workers.
    pub workers: Auto<u16>,
    /// The cores that workers are pinned to, one each.
    pub cores: Option<Vec<usize>>,
    /// Send trains of packets with one system call.
    pub gso: bool,
    /// Receive trains of packets with one system call.
    pub gro: bool,
    /// One io_uring request receives many packets.
    pub multishot: bool,
    /// Which thread calls the kernel to send.
    pub sender: SenderChoice,
    /// Whether lost packets are sent again.
    pub recovery: Recovery,
    /// Mark of outer packets, by which they are kept off the tunnel's routes.
    pub mark: u32,
    /// Directory of what must outlive a restart.
    pub state: PathBuf,
}

impl Default for Transport {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, 9292))],
            port: PortChoice::Auto,
            interface: None,
            workers: Auto::Auto,
            cores: None,
            gso: true,
            gro: true,
            multishot: true,
            sender: SenderChoice::Auto,
            recovery: Recovery::Auto,
            mark: 0x5354,
            state: PathBuf::from("/var/lib/stoq"),
        }
    }
}

/// `transport.port`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortChoice {
    /// The fastest that works here.
    Auto,
    /// AF_XDP.
    Xdp,
    /// io_uring.
    Uring,
    /// Plain sockets.
    Mio,
}

/// `transport.recovery`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recovery {
    /// While a path loses packets, to peers that have it on too.
    Auto,
    /// Never.
    Off,
}

/// `transport.sender`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SenderChoice {
    /// A thread of its own where there are cores for it.
    Auto,
    /// The worker itself.
    Inline,
    /// A thread of its own.
    Thread,
}

/// `[tunnel]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tunnel {
    /// Name of the TUN device.
    pub device: String,
    /// Its addresses.
    pub addresses: Vec<InterfaceAddress>,
    /// Its MTU in bytes.
    pub mtu: Auto<u16>,
    /// Whether allowed_ips become routes.
    pub routes: Routes,
    /// Work that the kernel may leave to us, or we to it.
    pub offload: Offload,
}

impl Default for Tunnel {
    fn default() -> Self {
        Self {
            device: "stoq0".to_owned(),
            addresses: Vec::new(),
            mtu: Auto::Auto,
            routes: Routes::Auto,
            offload: Offload::default(),
        }
    }
}

/// `tunnel.routes`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Routes {
    /// They are installed.
    Auto,
    /// The operator installs them.
    Off,
}

/// `[tunnel] offload`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Offload {
    /// TCP packets come from the kernel unsegmented.
    pub tso: bool,
    /// UDP packets come from the kernel unsegmented.
    pub uso: bool,
    /// Packets come from the kernel with checksums still to be completed.
    pub checksum: bool,
    /// Received packets are joined before they are given to the kernel.
    pub gro: bool,
    /// Super-packets cross links uncut, where the peer takes them.
    pub slice: bool,
}

impl Default for Offload {
    fn default() -> Self {
        Self { tso: true, uso: true, checksum: true, gro: true, slice: true }
    }
}

/// `[control]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Control {
    /// Path of the control socket.
    pub socket: PathBuf,
    /// The most that the control plane may push; nothing if empty.
    #[serde(with = "prefixes")]
    pub prefixes: Vec<Prefix>,
    /// Users that may read the state.
    pub read_uids: Vec<u32>,
    /// Users that may also reload, drain, capture and open streams.
    pub operate_uids: Vec<u32>,
    /// Users that may push peers.
    pub push_uids: Vec<u32>,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            socket: PathBuf::from(stoq_control::DEFAULT_SOCKET),
            prefixes: Vec::new(),
            read_uids: Vec::new(),
            operate_uids: Vec::new(),
            push_uids: Vec::new(),
        }
    }
}

/// `[metrics]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Where metrics, health and readiness are served.
    #[serde(default = "default_metrics")]
    pub listen: SocketAddr,
}

fn default_metrics() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9293))
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// What is written.
    pub level: LogLevel,
    /// How it is written.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Plain }
    }
}

/// `log.level`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// What stops work.
    Error,
    /// What the operator should mend, and the above.
    Warn,
    /// What happens, and the above.
    Info,
    /// Why it happens, and the above.
    Debug,
    /// Everything.
    Trace,
}

/// `log.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Lines for people.
    Plain,
    /// One JSON object a line.
    Json,
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Most QUIC connections of the whole node.
    pub connections: u32,
    /// Most handshake packets that one worker handles in one turn of its loop.
    pub handshakes_per_poll: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 16_384, handshakes_per_poll: 16 }
    }
}

/// `[tier]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tier {
    /// Readings in a row that make another tier.
    pub readings: u32,
    /// Seconds for which a tier stays at least.
    pub stay_s: u32,
}

impl Default for Tier {
    fn default() -> Self {
        let rules = stoq_tuning::tier::Rules::default();
        let stay_s = u32::try_from(rules.stay.as_secs()).unwrap_or(u32::MAX);
        Self { readings: rules.readings, stay_s }
    }
}

impl Tier {
    /// The rules that tiers change by.
    #[must_use]
    pub fn rules(self) -> stoq_tuning::tier::Rules {
        let stay = std::time::Duration::from_secs(self.stay_s.into());
        stoq_tuning::tier::Rules { readings: self.readings, stay }
    }
}

/// `[[peer]]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// The peer's name, as in its certificate.
    pub name: String,
    /// Where it can be reached; none if only it dials.
    #[serde(default)]
    pub endpoints: Vec<SocketAddr>,
    /// The prefixes behind it.
    #[serde(default, with = "prefixes")]
    pub allowed_ips: Vec<Prefix>,
}

/// `[[service]]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its name, by which peers ask for it.
    pub name: String,
    /// The Unix socket that it listens on.
    pub socket: PathBuf,
    /// The peers that may open streams to it.
    pub peers: Allowed,
    /// The service is told who opened a stream, in a line before the peer's bytes.
    #[serde(default)]
    pub announce: bool,
}

/// `service.peers`: a list of names, or `"*"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Every peer.
    All,
    /// These peers.
    These(Vec<String>),
}

impl Serialize for Allowed {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => to.serialize_str("*"),
            Self::These(names) => names.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Allowed {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Names(Vec<String>),
            Text(String),
            Other(de::IgnoredAny),
        }
        let refuse =
            |got| de::Error::custom(format!("expected a list of peers' names or \"*\", got {got}"));
        match Raw::deserialize(from)? {
            Raw::Names(names) => Ok(Self::These(names)),
            Raw::Text(text) if text == "*" => Ok(Self::All),
            Raw::Text(text) => Err(refuse(format!("`{text}`"))),
            Raw::Other(_) => Err(refuse("another type".to_owned())),
        }
    }
}

/// A number, or `"auto"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auto<T> {
    /// stoqd chooses.
    #[default]
    Auto,
    /// The operator chose.
    Fixed(T),
}

impl<T: Serialize> Serialize for Auto<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => to.serialize_str("auto"),
            Self::Fixed(value) => value.serialize(to),
        }
    }
}

impl<'de, T: TryFrom<i64>> Deserialize<'de> for Auto<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(i64),
            Text(String),
            Other(de::IgnoredAny),
        }
        let refuse = |got| de::Error::custom(format!("expected a number or \"auto\", got {got}"));
        match Raw::deserialize(from)? {
            Raw::Text(text) if text == "auto" => Ok(Self::Auto),
            Raw::Text(text) => Err(refuse(format!("`{text}`"))),
            Raw::Number(n) => T::try_from(n).map(Self::Fixed).map_err(|_| refuse(n.to_string())),
            Raw::Other(_) => Err(refuse("another type".to_owned())),
        }
    }
}
