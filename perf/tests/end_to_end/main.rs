//! The product as its users have it: two edges with `stoqd`, hosts behind them, and a wire that does
//! what wires do. Each test runs on every port.
//!
//! They need root and the release binaries (`STOQD_BIN`, `STOQCTL_BIN`, or `target/release`), and say
//! why when they are skipped. Binaries that are named but missing are a failure.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

mod bypass;
mod carries;
mod continuity;
mod faults;
mod hostile;
mod identity;
mod lifecycle;
mod mtu;
mod offload;
mod reload;
mod secrecy;
mod syscalls;
mod tiers;
mod tls;

use std::time::Duration;
use stoq_perf::bed::{Bed, Family, Namespace, Side};
use stoq_perf::measure::{file, ping};
use stoq_perf::node::{Deployment, Node, NodeConfig};
use stoq_perf::workspace::Binaries;

/// How long to wait for what should happen at once: a limit for a machine that does much else, no measure.
pub const SOON: Duration = Duration::from_secs(60);

/// How soon the tunnel should carry packets again once the network does. That it does so in this time
/// is demanded where the network is simulated; here a machine that does much else is only told of.
pub const RECOVERY: Duration = Duration::from_secs(3);

/// One mebibyte.
pub const MIB: u64 = 1 << 20;

/// What every test stands on.
pub struct Fixture<'bed> {
    /// Two edges with sites.
    pub bed: &'bed Bed,
    /// Their keys and daemons.
    pub deployment: Deployment<'bed>,
    /// The port under test.
    pub port: &'static str,
}

impl Fixture<'_> {
    /// The configuration of a node on the port under test.
    pub fn config(&self) -> NodeConfig {
        NodeConfig::new(self.port)
    }

    /// Starts both nodes with it and waits for the link.
    pub fn start(&self) -> (Node, Node) {
        self.deployment.start_both(&self.config()).unwrap()
    }

    /// The host behind an edge.
    pub fn host(&self, side: Side) -> &Namespace {
        self.bed.edge(side).site_host().unwrap()
    }

    /// Waits until the hosts behind the edges reach each other, over both families.
    pub fn wait_for_sites(&self, timeout: Duration) {
        for family in Family::BOTH {
            ping::wait_for_answer(self.host(Side::A), Side::B.host(family), timeout).unwrap();
        }
    }

    /// Copies a file from the host behind A to the one behind B.
    pub fn copy(&self, bytes: u64, family: Family) {
        let hosts = (self.host(Side::A), self.host(Side::B));
        let copied = file::copy(hosts, Side::B.host(family), bytes, self.bed.folder()).unwrap();
        assert_eq!(copied.sent, copied.arrived, "{bytes} bytes over {family:?}");
    }
}

/// Runs a test in a bed of its own, unless this host cannot.
pub fn run(test: &str, port: &'static str, body: fn(&Fixture)) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("{test} on {port}: SKIPPED, network namespaces need root");
        return;
    }
    match Binaries::find() {
        Err(missing) if !Binaries::are_named() => {
            eprintln!("{test} on {port}: SKIPPED, {missing}");
            return;
        }
        found => found.unwrap(),
    };
    let bed = Bed::with_sites().unwrap();
    let deployment = Deployment::new(&bed).unwrap();
    body(&Fixture { bed: &bed, deployment, port });
}

/// Makes each function of a [`Fixture`] a test on every port.
#[macro_export]
macro_rules! on_each_port {
    ($($test:ident),* $(,)?) => {
        mod mio {
            $(#[test] fn $test() { $crate::run(stringify!($test), "mio", super::$test) })*
        }
        mod uring {
            $(#[test] fn $test() { $crate::run(stringify!($test), "uring", super::$test) })*
        }
        mod xdp {
            $(#[test] fn $test() { $crate::run(stringify!($test), "xdp", super::$test) })*
        }
    };
}
