//! Two edge hosts and the wire between them, in network namespaces.
//!
//! ```text
//!  lan-a ── lan [a] wan ── m-a ┐                ┌ m-b ── wan [b] lan ── lan-b
//!                              └─ br0 [mid] ────┘
//! ```
//!
//! The bed is in *wire mode*: no frame on the middle is larger than the MTU, as on a cable (super-packets
//! that a veth passes whole would flatter every figure). Only one bed exists at a time on a host,
//! whichever process made it, because two would disturb each other's measurements.
//!
//! A [`Bed`] owns its namespaces and a scratch folder; both are gone when it is dropped, and when its
//! process is killed. Tests, the benchmarks and the demo make one and run programs in it.

mod address;
mod guardian;
mod guest;
mod impair;
mod namespace;
mod relay;

pub use address::{Family, STOQ_PORT, Side, middle};
pub use guest::{Guest, hardware_address};
pub use impair::Shape;
pub use namespace::Namespace;
pub use relay::{Impairment, Relay, RelayStats};

use crate::{Error, Result};
use guardian::Guardian;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// The device of an edge that faces the wire.
pub const WAN: &str = "wan";
/// The device of an edge that faces its site.
pub const LAN: &str = "lan";

/// Most bytes of each log that are shown when a test fails.
const LOG_SHOWN: usize = 4000;

static SERIAL: AtomicU32 = AtomicU32::new(0);

/// One edge host.
#[derive(Debug)]
pub struct Edge {
    /// Which one it is, and so its addresses.
    pub side: Side,
    /// The host itself.
    pub namespace: Namespace,
    /// The host behind it, if the bed was made with sites.
    pub lan: Option<Namespace>,
}

/// What is between the edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Bridge,
    Direct,
}

/// Two edges, the bridge between them, and a scratch folder.
#[derive(Debug)]
pub struct Bed {
    /// The edge `edge-a`.
    pub a: Edge,
    /// The edge `edge-b`.
    pub b: Edge,
    /// The wire: a bridge, with an address of its own for hostile senders.
    pub middle: Namespace,
    folder: PathBuf,
    // Dropped last, in this order: first the namespaces go, then the next bed may be made.
    _guardian: Guardian,
    _turn: Flock<File>,
}

impl Bed {
    /// Makes a bed of two edges without sites behind them. Waits for its turn if another bed exists.
    ///
    /// # Errors
    /// [`Error::NotRoot`], or the step that the host refused.
    pub fn new() -> Result<Self> {
        Self::build(false, Wire::Bridge)
    }

    /// Makes a bed of two edges joined by one cable, with nothing in the middle: no shapes, no loss.
    ///
    /// # Errors
    /// [`Error::NotRoot`], or the step that the host refused.
    pub fn direct() -> Result<Self> {
        Self::build(false, Wire::Direct)
    }

    /// Makes a bed with a host behind each edge, which routes through it.
    ///
    /// # Errors
    /// [`Error::NotRoot`], or the step that the host refused.
    pub fn with_sites() -> Result<Self> {
        Self::build(true, Wire::Bridge)
    }

    fn build(sites: bool, wire: Wire) -> Result<Self> {
        check_root()?;
        let turn = take_turn()?;
        guardian::sweep()?;
        let name = guardian::name(SERIAL.fetch_add(1, Ordering::Relaxed));
        let folder = guardian::folder(&name);
        fs::create_dir(&folder).map_err(Error::io(format!("create {}", folder.display())))?;
        let guardian = Guardian::watch(&name)?;
        let middle = Namespace::create(format!("{name}-mid"))?;
        make_bridge(&middle)?;
        let bed = Self {
            a: Edge::build(Side::A, &name, sites)?,
            b: Edge::build(Side::B, &name, sites)?,
            middle,
            folder,
            _guardian: guardian,
            _turn: turn,
        };
        match wire {
            Wire::Bridge => {
                bed.a.plug_into(&bed.middle)?;
                bed.b.plug_into(&bed.middle)?;
            }
            Wire::Direct => {
                join(&bed.a.namespace, WAN, &bed.b.namespace, WAN)?;
                bed.a.configure_wan()?;
                bed.b.configure_wan()?;
            }
        }
        Ok(bed)
    }

    /// One of the two edges.
    #[must_use]
    pub fn edge(&self, side: Side) -> &Edge {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }

    /// A folder for logs, keys and configuration; it goes with the bed.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if thread::panicking() {
            show_logs(&self.folder);
        }
    }
}

impl Edge {
    fn build(side: Side, bed: &str, site: bool) -> Result<Self> {
        let namespace = Namespace::create(format!("{bed}-{}", side.letter()))?;
        let name = format!("{bed}-lan{}", side.letter());
        let lan = site.then(|| make_site(side.number(), &namespace, name)).transpose()?;
        Ok(Self { side, namespace, lan })
    }

    /// The host behind the edge.
    ///
    /// # Errors
    /// [`Error::Missing`] when the bed was made without sites.
    pub fn site_host(&self) -> Result<&Namespace> {
        self.lan.as_ref().ok_or_else(|| Error::Missing {
            program: format!("a host behind {}", self.side.node()),
            advice: "make the bed by Bed::with_sites".to_owned(),
        })
    }

    fn plug_into(&self, middle: &Namespace) -> Result<()> {
        let port = bridge_port(self.side);
        join(&self.namespace, WAN, middle, &port)?;
        middle.sysctl(&format!("net.ipv6.conf.{port}.disable_ipv6"), "1")?;
        middle.ip(&format!("link set {port} master br0 up"))?;
        wire_mode(middle, &port, false)?;
        self.configure_wan()
    }

    fn configure_wan(&self) -> Result<()> {
        wire_mode(&self.namespace, WAN, true)?;
        give_addresses(&self.namespace, WAN, [self.side.wan(Family::V4), self.side.wan(Family::V6)])
    }
}

fn check_root() -> Result<()> {
    let uid = nix::unistd::geteuid();
    if uid.is_root() { Ok(()) } else { Err(Error::NotRoot { uid: uid.as_raw() }) }
}

fn take_turn() -> Result<Flock<File>> {
    let path = env::temp_dir().join("stoqbed.lock");
    let file = File::create(&path).map_err(Error::io(format!("create {}", path.display())))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(turn) => Ok(turn),
        Err((file, Errno::EWOULDBLOCK)) => {
            eprintln!("waiting until another test bed on this host is done ({})", path.display());
            Flock::lock(file, FlockArg::LockExclusive)
                .map_err(|(_, errno)| Error::errno("wait for another test bed")(errno))
        }
        Err((_, errno)) => Err(Error::errno(format!("lock {}", path.display()))(errno)),
    }
}

/// The bridge's port towards an edge.
fn bridge_port(side: Side) -> String {
    format!("m-{}", side.letter())
}

fn make_bridge(middle: &Namespace) -> Result<()> {
    // Otherwise netfilter would look at every frame on the wire and tax it. The keys are there only
    // where the kernel's br_netfilter is.
    for table in ["iptables", "ip6tables", "arptables"] {
        if Path::new(&format!("/proc/sys/net/bridge/bridge-nf-call-{table}")).exists() {
            middle.sysctl(&format!("net.bridge.bridge-nf-call-{table}"), "0")?;
        }
    }
    middle.ip("link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0")?;
    give_addresses(middle, "br0", [address::middle(Family::V4), address::middle(Family::V6)])
}

fn make_site(site: u8, edge: &Namespace, name: String) -> Result<Namespace> {
    let host = Namespace::create(name)?;
    join(edge, LAN, &host, LAN)?;
    wire_mode(edge, LAN, true)?;
    wire_mode(&host, LAN, true)?;
    let both = |number| [Family::V4, Family::V6].map(|f| address::site_host(site, f, number));
    give_addresses(edge, LAN, both(1))?;
    give_addresses(&host, LAN, both(2))?;
    for gateway in both(1) {
        host.ip(&format!("route add default via {gateway}"))?;
    }
    edge.sysctl("net.ipv4.ip_forward", "1")?;
    edge.sysctl("net.ipv6.conf.all.forwarding", "1")?;
    Ok(host)
}

fn join(left: &Namespace, left_device: &str, right: &Namespace, right_device: &str) -> Result<()> {
    let right_name = right.name();
    left.ip(&format!(
        "link add {left_device} type veth peer name {right_device} netns {right_name}"
    ))?;
    left.ip(&format!("link set {left_device} up"))?;
    right.ip(&format!("link set {right_device} up"))?;
    Ok(())
}

/// Prefix lengths are the same everywhere in the bed: /24 and /64.
fn give_addresses(
    namespace: &Namespace,
    device: &str,
    addresses: [std::net::IpAddr; 2],
) -> Result<()> {
    namespace.ip(&format!("link set {device} up"))?;
    for address in addresses {
        let length = if address.is_ipv4() { 24 } else { 64 };
        namespace.ip(&format!("addr add {address}/{length} dev {device} nodad"))?;
    }
    Ok(())
}

/// Frames of at most the MTU on the wire; only an edge joins what it receives.
fn wire_mode(namespace: &Namespace, device: &str, is_edge: bool) -> Result<()> {
    let gro = if is_edge { "on" } else { "off" };
    let features = ["gso", "off", "tso", "off", "tx-udp-segmentation", "off", "gro", gro];
    namespace.run("ethtool", ["-K", device].into_iter().chain(features)).map(drop)
}

fn show_logs(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.extension().is_some_and(|extension| extension == "log") {
            show_log(&path);
        }
    }
}

fn show_log(path: &Path) {
    let bytes = fs::read(path).unwrap_or_default();
    let end = &bytes[bytes.len().saturating_sub(LOG_SHOWN)..];
    eprintln!("--- {} ---\n{}", path.display(), String::from_utf8_lossy(end));
}
