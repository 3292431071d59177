//! A wire with a delay, which loses, reorders and duplicates: a relay in user space, because these
//! hosts have no netem. It stands in for the bridge while it exists.
//!
//! One thread for each direction reads frames from one bridge port (AF_PACKET) and writes them to
//! the other one when they are due. It is slower than the bridge: `stoq-perf relay` prints its
//! ceiling, and no throughput near that says anything about a tunnel.

use super::{Bed, Side, WAN, bridge_port};
use crate::{Error, Result};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};
use nix::sys::time::TimeSpec;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Most frames on their way in one direction: 100 ms of full frames at 5 Gbit/s.
const IN_FLIGHT_MAX: usize = 40_000;

/// Most frames read before those that are due are sent, so that reading cannot hold them up.
const BURST: usize = 64;

/// Room for one frame: the wire is never given a larger MTU than 9000.
const FRAME_MAX: usize = 9216;

/// How soon the relay sees that it shall end.
const STOP_LOOK: Duration = Duration::from_millis(20);

/// What the relay does to frames, in each direction. Percentages are of all frames.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Impairment {
    /// How long a frame takes.
    pub delay: Duration,
    /// How many are lost.
    pub loss_percent: f64,
    /// How many come later than those sent after them, by [`Impairment::reorder_by`].
    pub reorder_percent: f64,
    /// How much later these are.
    pub reorder_by: Duration,
    /// How many come twice.
    pub duplicate_percent: f64,
}

/// What the relay has done, in both directions together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayStats {
    /// Frames handed on, copies included.
    pub forwarded: u64,
    /// Frames lost on purpose.
    pub lost: u64,
    /// Frames sent late on purpose.
    pub reordered: u64,
    /// Frames sent twice on purpose.
    pub duplicated: u64,
    /// Frames lost because more than 40,000 were under way, or a device was full: the
    /// relay's own doing, to be near zero in a run that is to say anything.
    pub overflowed: u64,
}

#[derive(Debug, Default)]
struct Counters {
    forwarded: AtomicU64,
    lost: AtomicU64,
    reordered: AtomicU64,
    duplicated: AtomicU64,
    overflowed: AtomicU64,
}

/// A relay in place of the bridge; the bridge is back when it is dropped.
#[derive(Debug)]
pub struct Relay<'bed> {
    bed: &'bed Bed,
    stop: Arc<AtomicBool>,
    counters: Arc<Counters>,
    threads: Vec<JoinHandle<()>>,
}

impl Bed {
    /// Puts a relay in place of the bridge. `seed` makes its choices repeatable.
    ///
    /// # Errors
    /// When the host refuses the sockets.
    pub fn relay(&self, impairment: Impairment, seed: u64) -> Result<Relay<'_>> {
        let sockets =
            self.middle.enter(|| Ok((packet_socket(Side::A)?, packet_socket(Side::B)?)))?;
        let (a, b) = sockets.map(|(a, b)| (Arc::new(a), Arc::new(b)))?;
        self.checksum_offload("off")?;
        for side in [Side::A, Side::B] {
            self.middle.ip(&format!("link set {} nomaster", bridge_port(side)))?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let counters = Arc::new(Counters::default());
        let lane = |from: &Arc<OwnedFd>, to: &Arc<OwnedFd>, seed| Lane {
            from: Arc::clone(from),
            to: Arc::clone(to),
            impairment,
            random: fastrand::Rng::with_seed(seed),
            on_way: BinaryHeap::new(),
            serial: 0,
            counters: Arc::clone(&counters),
        };
        let lanes = [lane(&a, &b, seed), lane(&b, &a, seed.wrapping_add(1))];
        let threads = lanes.map(|lane| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || lane.run(&stop))
        });
        Ok(Relay { bed: self, stop, counters, threads: threads.into() })
    }

    /// A packet socket sees frames before a device would fill in their checksums, so the sender
    /// must do it.
    fn checksum_offload(&self, state: &str) -> Result<()> {
        for side in [Side::A, Side::B] {
            self.edge(side).namespace.run("ethtool", ["-K", WAN, "tx", state])?;
        }
        Ok(())
    }
}

impl Relay<'_> {
    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> RelayStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RelayStats {
            forwarded: read(&self.counters.forwarded),
            lost: read(&self.counters.lost),
            reordered: read(&self.counters.reordered),
            duplicated: read(&self.counters.duplicated),
            overflowed: read(&self.counters.overflowed),
        }
    }

    fn give_back(&self) -> Result<()> {
        for side in [Side::A, Side::B] {
            self.bed.middle.ip(&format!("link set {} master br0", bridge_port(side)))?;
        }
        // `tx on` brings the segmentation back that wire mode forbids.
        self.bed.checksum_offload("on")?;
        for side in [Side::A, Side::B] {
            super::wire_mode(&self.bed.edge(side).namespace, WAN, true)?;
        }
        Ok(())
    }
}

impl Drop for Relay<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A lane that panicked has been reported on standard error by the panic itself.
            let _ = thread.join();
        }
        if let Err(error) = self.give_back() {
            eprintln!("the bridge is not back after a relay: {error}");
        }
    }
}

/// A frame under way. Ordered by when it is due, then by when it came.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct InFlight {
    due: Instant,
    serial: u64,
    frame: Vec<u8>,
}

/// One direction of the wire.
struct Lane {
    from: Arc<OwnedFd>,
    to: Arc<OwnedFd>,
    impairment: Impairment,
    random: fastrand::Rng,
    on_way: BinaryHeap<Reverse<InFlight>>,
    serial: u64,
    counters: Arc<Counters>,
}

impl Lane {
    fn run(mut self, stop: &AtomicBool) {
        let mut buffer = vec![0; FRAME_MAX];
        while !stop.load(Ordering::Relaxed) {
            self.sleep();
            self.take_burst(&mut buffer);
            self.send_due();
        }
    }

    /// Sleeps until a frame comes or one is due.
    fn sleep(&self) {
        let next = self
            .on_way
            .peek()
            .map(|Reverse(first)| first.due.saturating_duration_since(Instant::now()));
        let timeout = next.unwrap_or(STOP_LOOK).min(STOP_LOOK);
        let mut descriptors = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
        // An interrupted sleep is only a short one.
        let _ = ppoll(&mut descriptors, Some(TimeSpec::from_duration(timeout)), None);
    }

    fn take_burst(&mut self, buffer: &mut [u8]) {
        for _ in 0..BURST {
            match recv(self.from.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(len) => self.accept(&buffer[..len]),
                Err(_) => return,
            }
        }
    }

    fn accept(&mut self, frame: &[u8]) {
        let Impairment { delay, loss_percent, reorder_percent, reorder_by, duplicate_percent } =
            self.impairment;
        if self.happens(loss_percent) {
            self.counters.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut due = Instant::now() + delay;
        if self.happens(reorder_percent) {
            self.counters.reordered.fetch_add(1, Ordering::Relaxed);
            due += reorder_by;
        }
        if self.happens(duplicate_percent) {
            self.counters.duplicated.fetch_add(1, Ordering::Relaxed);
            self.queue(due, frame);
        }
        self.queue(due, frame);
    }

    fn happens(&mut self, percent: f64) -> bool {
        percent > 0.0 && self.random.f64() * 100.0 < percent
    }

    fn queue(&mut self, due: Instant, frame: &[u8]) {
        if self.on_way.len() >= IN_FLIGHT_MAX {
            self.counters.overflowed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.serial += 1;
        self.on_way.push(Reverse(InFlight { due, serial: self.serial, frame: frame.to_vec() }));
    }

    fn send_due(&mut self) {
        let now = Instant::now();
        while self.on_way.peek().is_some_and(|Reverse(first)| first.due <= now) {
            let Some(Reverse(first)) = self.on_way.pop() else { return };
            let counter = match send(self.to.as_raw_fd(), &first.frame, MsgFlags::empty()) {
                Ok(_) => &self.counters.forwarded,
                Err(_) => &self.counters.overflowed,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A socket that reads and writes whole frames at a bridge port. One socket does both, because the
/// kernel shows a socket all frames but those that it sent itself.
fn packet_socket(side: Side) -> Result<OwnedFd> {
    let device = bridge_port(side);
    let opened =
        socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
            .map_err(Error::errno("open a packet socket"))?;
    let address = link_address(&device)?;
    bind(opened.as_raw_fd(), &address).map_err(Error::errno(format!("bind to {device}")))?;
    Ok(opened)
}

fn link_address(device: &str) -> Result<LinkAddr> {
    let interfaces = getifaddrs().map_err(Error::errno("list the interfaces"))?;
    let found = interfaces
        .filter(|interface| interface.interface_name == device)
        .find_map(|interface| interface.address?.as_link_addr().copied());
    found.ok_or_else(|| Error::errno(format!("find {device}"))(Errno::ENODEV))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    /// Sends 40 numbered frames through a lane and gives what comes out, in order.
    fn pass(impairment: Impairment) -> (Vec<u8>, Arc<Counters>) {
        let (sender, from) = UnixDatagram::pair().unwrap();
        let (to, receiver) = UnixDatagram::pair().unwrap();
        receiver.set_nonblocking(true).unwrap();
        let counters = Arc::new(Counters::default());
        let mut lane = Lane {
            from: Arc::new(from.into()),
            to: Arc::new(to.into()),
            impairment,
            random: fastrand::Rng::with_seed(7),
            on_way: BinaryHeap::new(),
            serial: 0,
            counters: Arc::clone(&counters),
        };
        let (mut buffer, mut out, mut byte) = (vec![0; FRAME_MAX], Vec::new(), [0]);
        for number in 0..40 {
            sender.send(&[number]).unwrap();
            lane.take_burst(&mut buffer);
        }
        while !lane.on_way.is_empty() {
            lane.sleep();
            lane.send_due();
            while receiver.recv(&mut byte).is_ok() {
                out.push(byte[0]);
            }
        }
        (out, counters)
    }

    #[test]
    fn a_plain_wire_keeps_all_frames_in_order_for_its_delay() {
        let begin = Instant::now();
        let delay = Duration::from_millis(5);
        let (out, _) = pass(Impairment { delay, ..Impairment::default() });
        assert_eq!(out, (0..40).collect::<Vec<_>>());
        assert!(begin.elapsed() >= delay);
    }

    #[test]
    fn loss_and_duplication_are_counted_as_they_happen() {
        let (out, counters) = pass(Impairment {
            loss_percent: 30.0,
            duplicate_percent: 30.0,
            ..Impairment::default()
        });
        let lost = counters.lost.load(Ordering::Relaxed);
        let duplicated = counters.duplicated.load(Ordering::Relaxed);
        assert!(lost > 0 && duplicated > 0);
        assert_eq!(out.len() as u64, 40 - lost + duplicated);
    }

    #[test]
    fn reordered_frames_are_overtaken_and_none_is_lost() {
        let (mut out, counters) = pass(Impairment {
            reorder_percent: 30.0,
            reorder_by: Duration::from_millis(3),
            ..Impairment::default()
        });
        assert!(counters.reordered.load(Ordering::Relaxed) > 0);
        assert!(!out.is_sorted());
        out.sort_unstable();
        assert_eq!(out, (0..40).collect::<Vec<_>>());
    }
}
