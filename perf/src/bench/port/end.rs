//! One end of a run: a process in a namespace that opens a port as a worker does, and sends as fast as
//! the port takes packets, or counts what arrives.
//!
//! It is told what to do by one argument in JSON, prints `ready`, and at its end one line of figures.

use super::Transport;
use crate::bed::WAN;
use crate::bypass::{self, Bypass};
use crate::{Error, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stoq_port::socket::{self, SocketSpec};
use stoq_port::xdp::{Destination, Hop, Hops, Link, NextHops};
use stoq_port::{Port, PortKind, PortOptions, Sender, Socket, TxMeta};
use stoq_telemetry::{DropReason, Drops};

/// The UDP port of either end.
const PORT: u16 = 9300;

/// Datagrams between two calls of `flush`: what a worker makes of one super-packet, and a GSO train.
const BURST: usize = 64;

/// The receiver ends when nothing came for so long, after something did.
const IDLE: Duration = Duration::from_millis(300);

/// The receiver ends when nothing came at all for so long.
const SILENCE: Duration = Duration::from_secs(10);

/// How long what was committed may take to leave at the end.
const DRAIN: Duration = Duration::from_millis(200);

/// MTU of the wire in bytes.
const MTU: u16 = 1500;

/// What an end prints when it is open.
pub(super) const READY: &str = "ready";

/// What the line of figures begins with.
const FIGURES: &str = "figures ";

/// Which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Role {
    Send,
    Receive,
}

/// What an end is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EndSpec {
    pub(super) role: Role,
    pub(super) transport: Transport,
    /// Bytes of each datagram.
    pub(super) len: usize,
    /// How long to send, in milliseconds.
    pub(super) run_ms: u64,
    /// The core that it is pinned to.
    pub(super) core: Option<usize>,
    pub(super) own: IpAddr,
    pub(super) far: IpAddr,
    /// The hardware address of the far end.
    pub(super) far_link: [u8; 6],
}

/// What an end has counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Figures {
    /// What the port said it used.
    pub(super) mode: String,
    /// Datagrams sent or received.
    pub(super) packets: u64,
    /// From the first to the last of them.
    pub(super) seconds: f64,
    /// Processor time of this process, user and system, with the kernel's work that interrupted it.
    pub(super) cpu_ns: u64,
    /// Processor time of threads that received for the interface meanwhile (threaded NAPI).
    pub(super) napi_ns: u64,
    /// Datagrams that the port dropped, by reason.
    pub(super) drops: BTreeMap<String, u64>,
}

impl Figures {
    /// Finds the line in what an end printed.
    pub(super) fn parse(printed: &str) -> Result<Self> {
        let line = printed.lines().find_map(|line| line.strip_prefix(FIGURES));
        let found = line.and_then(|line| serde_json::from_str(line).ok());
        found.ok_or_else(|| Error::Output {
            what: "an end of the port benchmark".to_owned(),
            expected: "a line of figures".to_owned(),
            got: printed.to_owned(),
        })
    }
}

/// An open port with what must outlive it.
struct Open {
    port: Box<dyn Port>,
    drops: Arc<Drops>,
    /// Detached when it is dropped.
    _bypass: Option<Bypass>,
}

/// Runs one end as `spec` says.
///
/// # Errors
/// When the port cannot be opened, or goes wrong.
pub fn run(spec: &str) -> Result<()> {
    let spec: EndSpec = serde_json::from_str(spec).map_err(|error| Error::Output {
        what: "the argument of an end".to_owned(),
        expected: "a specification in JSON".to_owned(),
        got: error.to_string(),
    })?;
    if let Some(core) = spec.core {
        pin(core)?;
    }
    let mut open = open(&spec)?;
    bypass::set_threaded(WAN, spec.transport.napi)?;
    println!("{READY} {}", open.port.mode());
    let (cpu, napi) = (cpu_ns(), napi_ns());
    let port = open.port.as_mut();
    let (packets, time) = match spec.role {
        Role::Send => send(port, &spec),
        Role::Receive => receive(port),
    }
    .map_err(Error::io("use the port"))?;
    let counted = DropReason::ALL.iter().map(|r| (r.label().to_owned(), open.drops.get(*r)));
    let drops: BTreeMap<String, u64> = counted.filter(|(_, count)| *count > 0).collect();
    let refused = if spec.role == Role::Send { drops.values().sum() } else { 0 };
    let figures = Figures {
        mode: open.port.mode().to_string(),
        packets: packets.saturating_sub(refused),
        seconds: time.as_secs_f64(),
        cpu_ns: cpu_ns().saturating_sub(cpu),
        napi_ns: napi_ns().saturating_sub(napi),
        drops,
    };
    println!("{FIGURES}{}", serde_json::json!(figures));
    Ok(())
}

fn open(spec: &EndSpec) -> Result<Open> {
    let failed = |error: stoq_port::PortError| Error::Io {
        what: "open the port".to_owned(),
        source: std::io::Error::other(error),
    };
    let opened = socket::open(&SocketSpec::new(SocketAddr::new(spec.own, PORT))).map_err(failed)?;
    let sockets = vec![(Socket::Dial, opened.fd)];
    let drops = Arc::new(Drops::default());
    let whole = !spec.transport.is_plain();
    // Who makes the send calls is another question: here nobody else does.
    let options =
        PortOptions { gso: whole, gro: whole, sender: Sender::Inline, ..PortOptions::default() };
    let kind = spec.transport.kind();
    if kind != PortKind::Xdp {
        let port = stoq_port::open(kind, sockets, &options, Arc::clone(&drops)).map_err(failed)?;
        return Ok(Open { port, drops, _bypass: None });
    }
    let hops = Arc::new(NextHops::new().map_err(Error::io("open the next hops"))?);
    hops.publish(one_hop(spec)?);
    let port = stoq_port::open_xdp(PortKind::Mio, sockets, &options, hops, Arc::clone(&drops));
    let mut port = port.map_err(failed)?;
    let mut bypass = Bypass::attach(WAN, &[PORT], &[spec.own])?;
    port.plug(vec![bypass.open_lane()?]).map_err(Error::io("plug the lane"))?;
    Ok(Open { port, drops, _bypass: Some(bypass) })
}

/// The one next hop there is, on a cable.
fn one_hop(spec: &EndSpec) -> Result<Hops> {
    let source = bypass::hardware_address(WAN)?;
    let link = Link { source, destination: spec.far_link, vlan: None };
    let hop = Arc::new(Hop::new(link, spec.own, MTU, false));
    Ok(Hops::from([(Destination { to: spec.far, from: None }, Some(hop))]))
}

/// Sends for as long as it is told; gives the datagrams and the time.
fn send(port: &mut dyn Port, spec: &EndSpec) -> std::io::Result<(u64, Duration)> {
    let meta = TxMeta { to: (spec.far, PORT).into(), from: None, socket: Socket::Dial };
    let run = Duration::from_millis(spec.run_ms);
    let (start, mut sent) = (Instant::now(), 0_u64);
    // The port takes over next hops when it flushes.
    port.flush()?;
    while start.elapsed() < run {
        let mut full = false;
        for _ in 0..BURST {
            let Some(slot) = port.slot() else {
                full = true;
                break;
            };
            slot[..8].copy_from_slice(&sent.to_be_bytes());
            port.commit(spec.len, &meta);
            sent += 1;
        }
        port.flush()?;
        port.wait(Some(if full { Duration::from_millis(10) } else { Duration::ZERO }))?;
    }
    let time = start.elapsed();
    drain(port)?;
    Ok((sent, time))
}

/// Lets what was committed leave.
fn drain(port: &mut dyn Port) -> std::io::Result<()> {
    let end = Instant::now() + DRAIN;
    while Instant::now() < end {
        port.flush()?;
        port.wait(Some(Duration::from_millis(20)))?;
    }
    Ok(())
}

/// Counts what arrives until nothing does; gives the datagrams and the time from first to last.
fn receive(port: &mut dyn Port) -> std::io::Result<(u64, Duration)> {
    let (mut packets, start) = (0_u64, Instant::now());
    let (mut first, mut last) = (None, start);
    loop {
        port.wait(Some(Duration::from_millis(50)))?;
        let taken = port.receive(&mut |_, _| {})?;
        let now = Instant::now();
        if taken > 0 {
            packets += taken as u64;
            first.get_or_insert(now);
            last = now;
            continue;
        }
        let patience = if first.is_some() { IDLE } else { SILENCE };
        if now.duration_since(last) > patience {
            return Ok((packets, first.map_or(Duration::ZERO, |first| last.duration_since(first))));
        }
    }
}

fn pin(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    let pinned = cores.set(core).and_then(|()| sched_setaffinity(Pid::from_raw(0), &cores));
    pinned.map_err(Error::errno(format!("pin to core {core}")))
}

/// Processor time of this process so far.
fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from);
    u64::try_from(time.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

/// Processor time so far of all threads that receive for interfaces of the bed's name.
fn napi_ns() -> u64 {
    let name = format!("napi/{WAN}-");
    let folders = fs::read_dir("/proc").into_iter().flatten().flatten();
    let paths = folders.map(|folder| folder.path()).filter(|path| {
        let comm = fs::read_to_string(path.join("comm")).unwrap_or_default();
        comm.starts_with(&name)
    });
    let time = |path: std::path::PathBuf| {
        let text = fs::read_to_string(path.join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    paths.filter_map(time).sum()
}
