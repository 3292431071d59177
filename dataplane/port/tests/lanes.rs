//! The `xdp` port between two interfaces of this kernel: a veth pair with the real XDP program on both
//! ends, in a network namespace of the test's own. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;
use stoq_port::socket::{SocketSpec, open};
use stoq_port::xdp::{Destination, Hop, Hops, Lane, LaneSpec, Link, NextHops};
use stoq_port::{Port, PortError, PortKind, PortOptions, RxMeta, Sender, Socket, TxMeta};
use stoq_telemetry::{DropReason, Drops};
use stoq_xdp::{Attached, Program, Rules, Settings};

const PATIENCE: Duration = Duration::from_secs(60);

const MAC: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];

/// One interface with its program, its port and its addresses.
struct End {
    port: Box<dyn Port>,
    drops: Arc<Drops>,
    hops: Arc<NextHops>,
    local: SocketAddr,
    name: &'static str,
    program: Program,
}

fn sh(command: &str) {
    let status = Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(status.success(), "{command}");
}

/// Runs `test` with both ends of a veth pair of this MTU.
fn between(mtu: u16, sender: Sender, test: fn(&mut End, &mut End)) {
    if !geteuid().is_root() {
        eprintln!("skipped: a network namespace and XDP need root");
        return;
    }
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        sh("ip link set lo up; ip link add left type veth peer name right");
        for (name, mac) in [("left", "02:00:00:00:00:01"), ("right", "02:00:00:00:00:02")] {
            sh(&format!("ip link set {name} address {mac} mtu {mtu} up"));
        }
        let (mut left, mut right) =
            (End::new("left", 1, mtu, sender), End::new("right", 2, mtu, sender));
        test(&mut left, &mut right);
    });
    thread.join().unwrap();
}

fn address(number: u8, v6: bool) -> IpAddr {
    let text = if v6 { format!("fd00:1a::{number}") } else { format!("10.26.0.{number}") };
    text.parse().unwrap()
}

impl End {
    fn new(name: &'static str, number: u8, mtu: u16, sender: Sender) -> Self {
        let opened = open(&SocketSpec::new("[::]:0".parse().unwrap())).unwrap();
        let local = opened.local;
        let settings = Settings {
            ports: vec![local.port()],
            addresses: vec![address(number, false), address(number, true)],
            rules: Rules::OFF,
            ..Settings::default()
        };
        let program = Program::attach(name, &settings).unwrap();
        let drops = Arc::new(Drops::default());
        let hops = Arc::new(NextHops::new().unwrap());
        let options = PortOptions { sender, ..PortOptions::default() };
        let sockets = vec![(Socket::Dial, opened.fd)];
        let (shared, counted) = (Arc::clone(&hops), Arc::clone(&drops));
        let port = stoq_port::open_xdp(PortKind::Mio, sockets, &options, shared, counted).unwrap();
        let mut end = Self { port, drops, hops, local, name, program };
        end.plug(mtu);
        end
    }

    fn plug(&mut self, mtu: u16) {
        let interface = if_nametoindex(self.name).unwrap();
        let native = self.program.attached() == Attached::Native;
        let spec = LaneSpec { interface, queue: 0, mtu, native };
        let lane = Lane::open::<PortError>(spec, |memory| Ok(memory.open_socket().unwrap()));
        let lane = lane.unwrap();
        self.program.set_socket(0, lane.as_fd()).unwrap();
        self.port.plug(vec![lane]).unwrap();
    }

    /// Lets it know the way to the other end.
    fn learn(&self, here: u8, there: u8, vlan: Option<u16>, mtu: u16) {
        let link = Link {
            source: MAC[usize::from(here) - 1],
            destination: MAC[usize::from(there) - 1],
            vlan,
        };
        let hop = |v6| {
            let destination = Destination { to: address(there, v6), from: None };
            let hop = Hop::new(link, address(here, v6), mtu, false);
            (destination, Some(Arc::new(hop)))
        };
        self.hops.publish(Hops::from([hop(false), hop(true)]));
        // Publications are taken over by a flush.
    }

    fn send(&mut self, datagram: &[u8], to: SocketAddr) {
        let deadline = Instant::now() + PATIENCE;
        while self.port.slot().is_none() {
            assert!(Instant::now() < deadline, "no transmit room came back");
            self.port.flush().unwrap();
            self.port.wait(Some(PATIENCE)).unwrap();
        }
        self.port.slot().unwrap()[..datagram.len()].copy_from_slice(datagram);
        self.port.commit(datagram.len(), &TxMeta { to, from: None, socket: Socket::Dial });
    }

    fn take(&mut self, count: usize) -> Vec<(Vec<u8>, RxMeta)> {
        let deadline = Instant::now() + PATIENCE;
        let mut taken = Vec::new();
        while taken.len() < count {
            assert!(Instant::now() < deadline, "{} of {count} datagrams came", taken.len());
            self.port.wait(Some(Duration::from_millis(500))).unwrap();
            self.port.receive(&mut |bytes, meta| taken.push((bytes.to_vec(), *meta))).unwrap();
        }
        taken
    }

    fn at(&self, number: u8, v6: bool) -> SocketAddr {
        SocketAddr::new(address(number, v6), self.local.port())
    }
}

/// A datagram that says its number.
fn datagram(number: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![number as u8; len];
    bytes[..4].copy_from_slice(&(number as u32).to_be_bytes());
    bytes
}

/// Datagrams of many lengths cross whole and in order, both families, with the right addresses.
fn crosses(left: &mut End, right: &mut End, vlan: Option<u16>, mtu: u16, lens: &[usize]) {
    left.learn(1, 2, vlan, mtu);
    left.port.flush().unwrap();
    for v6 in [false, true] {
        let to = right.at(2, v6);
        for (number, len) in lens.iter().enumerate() {
            left.send(&datagram(number, *len), to);
        }
        left.port.flush().unwrap();
        let taken = right.take(lens.len());
        for (number, (bytes, meta)) in taken.iter().enumerate() {
            assert!(*bytes == datagram(number, lens[number]), "datagram {number}");
            assert_eq!((meta.to, meta.from), (to, left.at(1, v6)));
            assert_eq!((meta.socket, meta.ecn), (Socket::Dial, 0));
        }
    }
    for end in [left, right] {
        assert_eq!(end.port.mode().to_string(), "native+copy");
        for reason in [DropReason::PortSend, DropReason::PortReceive, DropReason::RingFull] {
            assert_eq!(end.drops.get(reason), 0, "{reason:?} at {}", end.name);
        }
    }
}

#[test]
fn every_datagram_crosses_whole_and_in_order() {
    between(1500, Sender::Inline, |left, right| {
        crosses(left, right, None, 1500, &[4, 60, 1200, 1452, 700, 1452])
    });
}

#[test]
fn tagged_frames_cross() {
    between(1500, Sender::Inline, |left, right| {
        crosses(left, right, Some(7), 1500, &[4, 1452, 60, 1452])
    });
}

#[test]
fn jumbo_frames_cross_in_several_frames() {
    between(9000, Sender::Thread, |left, right| {
        crosses(left, right, None, 9000, &[8952, 4, 4096, 8952, 3900])
    });
}

#[test]
fn a_full_ring_holds_the_sender_back_and_loses_nothing() {
    for sender in [Sender::Inline, Sender::Thread] {
        between(1500, sender, all_come_through);
    }
}

fn all_come_through(left: &mut End, right: &mut End) {
    const COUNT: usize = 20_000;
    left.learn(1, 2, None, 1500);
    left.port.flush().unwrap();
    let to = right.at(2, true);
    let mut seen = 0;
    let mut in_order = |bytes: &mut [u8], _: &RxMeta| {
        assert_eq!(bytes[..4], (seen as u32).to_be_bytes());
        seen += 1;
    };
    for number in 0..COUNT {
        left.send(&datagram(number, 1200), to);
        if number % 64 == 63 {
            left.port.flush().unwrap();
            right.port.receive(&mut in_order).unwrap();
        }
    }
    left.port.flush().unwrap();
    let rest = right.take(COUNT - seen);
    assert_eq!(rest.len() + seen, COUNT);
    assert_eq!(left.drops.get(DropReason::PortSend), 0);
}

#[test]
fn a_datagram_beyond_the_mtu_is_counted_and_the_port_goes_on() {
    between(1500, Sender::Inline, |left, right| {
        left.learn(1, 2, None, 1400);
        left.port.flush().unwrap();
        let to = right.at(2, true);
        left.send(&datagram(0, 1400), to);
        left.send(&datagram(1, 1352), to);
        left.port.flush().unwrap();
        assert_eq!(right.take(1)[0].0, datagram(1, 1352));
        assert_eq!(left.drops.get(DropReason::PortSend), 1);
    });
}

#[test]
fn without_its_lane_a_port_goes_on_through_the_kernel_and_back() {
    between(1500, Sender::Inline, |left, right| {
        sh("ip addr add 10.26.0.1/24 dev left; ip addr add fd00:1a::1/64 dev left nodad");
        left.learn(1, 2, None, 1500);
        left.port.flush().unwrap();
        let to = right.at(2, false);
        left.send(b"by the lane", to);
        left.port.flush().unwrap();
        assert_eq!(right.take(1)[0].0, b"by the lane");
        assert_eq!(left.port.plug(Vec::new()).unwrap().len(), 1);
        assert_eq!(left.port.mode().to_string(), "gso+gro");
        // The kernel knows its own interfaces: the neighbour is told, or nobody would answer.
        sh("ip neigh add 10.26.0.2 lladdr 02:00:00:00:00:02 dev left nud permanent");
        left.send(b"by the kernel", to);
        left.port.flush().unwrap();
        assert_eq!(right.take(1)[0].0, b"by the kernel");
        left.plug(1500);
        left.send(b"by a new lane", to);
        left.port.flush().unwrap();
        assert_eq!(right.take(1)[0].0, b"by a new lane");
    });
}
