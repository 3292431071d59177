//! The process that floods: it replays payloads from many made-up sources through a lane of its own, for
//! nothing else sends as fast from one core. Started by [`super::Arena`].

use super::{payload, source};
use crate::bed::WAN;
use crate::bypass;
use crate::{Error, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stoq_port::socket::{self, SocketSpec};
use stoq_port::xdp::{Destination, Hop, Hops, Link, NextHops};
use stoq_port::{Port, PortKind, PortOptions, Sender, Socket, TxMeta};
use stoq_telemetry::Drops;

/// Made-up sources of each family: all together a port remembers twice as many ways.
const SOURCES: u16 = 1000;

/// Datagrams between two calls of `flush`.
const BURST: usize = 64;

/// How often progress is printed.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// What is printed before the first packet.
pub(super) const READY: &str = "ready";

/// What a line of progress begins with.
const SENT: &str = "sent ";

/// MTU of the wire in bytes.
const MTU: u16 = 1500;

/// What is flooded, and with what.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Target {
    /// The file of payloads.
    pub(super) payloads: PathBuf,
    /// Its hardware address.
    pub(super) link: [u8; 6],
    /// Its addresses.
    pub(super) addresses: [IpAddr; 2],
    pub(super) port: u16,
    /// How long at most, in milliseconds.
    pub(super) run_ms: u64,
    /// The core that it is pinned to.
    pub(super) core: Option<usize>,
}

/// How far a flood is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Packets sent.
    pub packets: u64,
    /// Since the first of them.
    pub seconds: f64,
}

impl Progress {
    /// The last one that was printed.
    pub(super) fn last(printed: &str) -> Option<Self> {
        // A line that is being written does not parse, and the one before it does.
        let lines = printed.lines().rev().filter_map(|line| line.strip_prefix(SENT));
        lines.filter_map(|line| serde_json::from_str(line).ok()).next()
    }

    /// Packets a second since an earlier look.
    #[must_use]
    pub fn rate_since(&self, earlier: &Self) -> f64 {
        let packets = self.packets.saturating_sub(earlier.packets) as f64;
        packets / (self.seconds - earlier.seconds).max(f64::EPSILON)
    }
}

/// Floods as `spec` says, until it is killed or its time is over.
///
/// # Errors
/// When the lane cannot be opened, or goes wrong.
pub fn run(spec: &str) -> Result<()> {
    let target: Target = serde_json::from_str(spec).map_err(|error| Error::Output {
        what: "the argument of a flood".to_owned(),
        expected: "a target in JSON".to_owned(),
        got: error.to_string(),
    })?;
    if let Some(core) = target.core {
        let mut cores = CpuSet::new();
        let pinned = cores.set(core).and_then(|()| sched_setaffinity(Pid::from_raw(0), &cores));
        pinned.map_err(Error::errno(format!("pin to core {core}")))?;
    }
    let payloads = payload::read(&target.payloads)?;
    let ways = ways(&target);
    let mut port = open(&target, &ways)?;
    println!("{READY}");
    send(port.as_mut(), &payloads, &ways, Duration::from_millis(target.run_ms))
        .map_err(Error::io("flood"))
}

/// From every made-up source to the target.
fn ways(target: &Target) -> Vec<TxMeta> {
    let numbers = (0..SOURCES).flat_map(|number| [(number, false), (number, true)]);
    let way = |(number, is_v4)| {
        let to = target.addresses.iter().find(|address| address.is_ipv4() == is_v4)?;
        let to = SocketAddr::new(*to, target.port);
        Some(TxMeta { to, from: Some(source(number, is_v4)), socket: Socket::Dial })
    };
    numbers.filter_map(way).collect()
}

fn open(target: &Target, ways: &[TxMeta]) -> Result<Box<dyn Port>> {
    let failed = |error: stoq_port::PortError| Error::Io {
        what: "open the flood's port".to_owned(),
        source: std::io::Error::other(error),
    };
    let opened = socket::open(&SocketSpec::new(SocketAddr::from(([0; 16], 0)))).map_err(failed)?;
    let sockets = vec![(Socket::Dial, opened.fd)];
    let link =
        Link { source: bypass::hardware_address(WAN)?, destination: target.link, vlan: None };
    let hop = |way: &TxMeta| {
        let source = way.from.unwrap_or(way.to.ip());
        let destination = Destination { to: way.to.ip(), from: way.from };
        (destination, Some(Arc::new(Hop::new(link, source, MTU, false))))
    };
    let hops = Arc::new(NextHops::new().map_err(Error::io("open the next hops"))?);
    hops.publish(ways.iter().map(hop).collect::<Hops>());
    let options = PortOptions { sender: Sender::Inline, ..PortOptions::default() };
    let port =
        stoq_port::open_xdp(PortKind::Mio, sockets, &options, hops, Arc::new(Drops::default()));
    let mut port = port.map_err(failed)?;
    port.plug(vec![bypass::open_lane(WAN, true)?]).map_err(Error::io("plug the lane"))?;
    Ok(port)
}

fn send(
    port: &mut dyn Port,
    payloads: &[Vec<u8>],
    ways: &[TxMeta],
    run: Duration,
) -> std::io::Result<()> {
    let (start, mut told) = (Instant::now(), Instant::now());
    let mut packets = 0_u64;
    let mut next = payloads.iter().cycle().zip(ways.iter().cycle());
    // The port takes over next hops when it flushes.
    port.flush()?;
    while start.elapsed() < run {
        let mut burst = 0;
        while burst < BURST
            && let Some(slot) = port.slot()
            && let Some((payload, way)) = next.next()
        {
            slot[..payload.len()].copy_from_slice(payload);
            port.commit(payload.len(), way);
            burst += 1;
        }
        packets += burst as u64;
        port.flush()?;
        let patience = if burst < BURST { Duration::from_millis(10) } else { Duration::ZERO };
        port.wait(Some(patience))?;
        if told.elapsed() > TELL_EVERY {
            told = Instant::now();
            let progress = Progress { packets, seconds: start.elapsed().as_secs_f64() };
            println!("{SENT}{}", serde_json::json!(progress));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_last_whole_line_counts() {
        let told = "ready\nsent {\"packets\":5,\"seconds\":1.0}\nsent {\"packets\":9,\"seconds\":2.0}\nsent {\"pa";
        let last = Progress::last(told).unwrap();
        assert_eq!(last, Progress { packets: 9, seconds: 2.0 });
        assert_eq!(last.rate_since(&Progress { packets: 5, seconds: 1.0 }), 4.0);
        assert_eq!(Progress::last("ready\n"), None);
    }

    #[test]
    fn sources_differ_in_their_prefixes() {
        let prefixes: BTreeSet<String> = (0..SOURCES)
            .flat_map(|n| [source(n, false).to_string(), source(n, true).to_string()])
            .collect();
        assert_eq!(prefixes.len(), 2 * usize::from(SOURCES));
        assert_eq!(source(1, true).to_string(), "198.18.0.3");
        assert_eq!(source(1, false).to_string(), "2001:db8:1:1::1");
    }
}
