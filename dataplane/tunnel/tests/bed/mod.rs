//! Two namespaces with a TUN device each, and the pump between them. Nothing is left behind: a
//! namespace goes with the last descriptor of it.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use stoq_telemetry::{DropReason, Drops};
use stoq_tunnel::coalesce::Coalescer;
use stoq_tunnel::device::{self, GSO_MAX_SIZE, Offloads, Queue, Sink, SuperBuf};
use stoq_tunnel::packet::{View, parse, protocol};
use stoq_tunnel::segment::Plan;
use stoq_tunnel::vnet::{Gso, VnetHeader};

pub const LEFT_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 92, 0, 1));
pub const RIGHT_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 92, 0, 2));
pub const LEFT_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd48, 0x4d00, 0, 0, 0, 0, 0, 1));
pub const RIGHT_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd48, 0x4d00, 0, 0, 0, 0, 0, 2));

const MTU: &str = "1400";
/// Packets read from one queue before the other side has its turn.
const BURST: usize = 64;

/// One network namespace.
pub struct Host {
    namespace: Arc<File>,
}

impl Host {
    fn new() -> io::Result<Self> {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        });
        Ok(Self { namespace: Arc::new(made.join().unwrap()?) })
    }

    /// Starts a thread in the namespace.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let namespace = Arc::clone(&self.namespace);
        thread::spawn(move || {
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }

    /// Runs something in the namespace.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(work).join().unwrap()
    }
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split_whitespace()).status().unwrap();
    assert!(done.success(), "ip {arguments}");
}

/// All counters of this name in this thread's namespace.
pub fn counters(name: &str) -> Vec<u64> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{file}"));
    let (v4, v6) = (read("snmp").unwrap(), read("snmp6").unwrap());
    let lines: Vec<_> = v4.lines().collect();
    let pairs = lines
        .chunks_exact(2)
        .flat_map(|pair| pair[0].split_whitespace().zip(pair[1].split_whitespace()));
    let v4 = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value);
    let v6 = v6.lines().filter_map(|line| line.split_once(char::is_whitespace));
    let v6 = v6.filter(|(key, _)| key.ends_with(name)).map(|(_, value)| value);
    v4.chain(v6).map(|value| value.trim().parse().unwrap()).collect()
}

/// Two hosts with a device each.
pub struct Bed {
    pub left: Host,
    pub right: Host,
    devices: std::sync::Mutex<Option<[Vec<Queue>; 2]>>,
}

impl Bed {
    /// `None`, with a word of why, when namespaces cannot be made here.
    pub fn new(name: &str, offloads: Offloads, queues: usize) -> Option<Self> {
        let (left, right) = match (Host::new(), Host::new()) {
            (Ok(left), Ok(right)) => (left, right),
            (Err(error), _) | (_, Err(error)) => {
                eprintln!("skipped {name}: needs root to make network namespaces ({error})");
                return None;
            }
        };
        if let Err(error) = File::open("/dev/net/tun") {
            eprintln!("skipped {name}: needs the TUN driver, /dev/net/tun ({error})");
            return None;
        }
        let device = |host: &Host, v4: IpAddr, v6: IpAddr| {
            host.run(move || {
                let made = device::create("tun0", queues, offloads).unwrap();
                assert_eq!(made.granted, offloads, "the kernel refused some offload");
                ip(&format!("link set tun0 mtu {MTU} gso_max_size {GSO_MAX_SIZE} up"));
                ip(&format!("addr add {v4}/24 dev tun0"));
                ip(&format!("addr add {v6}/64 dev tun0 nodad"));
                let granted = made.granted;
                made.queues.into_iter().map(|fd| Queue::from_fd(fd, granted)).collect()
            })
        };
        let devices = [device(&left, LEFT_V4, LEFT_V6), device(&right, RIGHT_V4, RIGHT_V6)];
        Some(Self { left, right, devices: std::sync::Mutex::new(Some(devices)) })
    }
}

/// What went through.
#[derive(Debug, Default)]
pub struct Seen {
    pub tcp_read: u64,
    pub udp_read: u64,
    pub partial_read: u64,
    pub tcp_written: u64,
    pub udp_written: u64,
    pub unreadable: u64,
    pub refused: u64,
    pub corrupted: u64,
}

/// A queue that counts the super-packets written to it.
struct Counting<'a> {
    queue: &'a mut Queue,
    seen: &'a mut Seen,
}

impl Sink for Counting<'_> {
    fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let headers = [&parts[0][..], &[0; 100]].concat();
        match VnetHeader::parse(&headers).unwrap().0.gso.map(|gso| gso.kind) {
            Some(Gso::Udp) => self.seen.udp_written += 1,
            Some(_) => self.seen.tcp_written += 1,
            None => {}
        }
        self.queue.write(parts)
    }
}

/// Carries packets between the two devices until it is stopped.
pub struct Pump {
    stop: UnixStream,
    thread: JoinHandle<Seen>,
}

impl Pump {
    /// `corrupt` changes the last byte of each so manyth TCP packet that has a payload.
    pub fn start(bed: &Bed, corrupt: Option<u64>) -> Self {
        let (stop, stopped) = UnixStream::pair().unwrap();
        let devices = bed.devices.lock().unwrap().take().unwrap();
        let thread = thread::spawn(move || Work::new(devices, corrupt).run(&stopped));
        Self { stop, thread }
    }

    pub fn stop(mut self) -> Seen {
        self.stop.write_all(&[1]).unwrap();
        self.thread.join().unwrap()
    }
}

struct Work {
    devices: [Vec<Queue>; 2],
    coalescers: [Coalescer; 2],
    corrupt: Option<u64>,
    packets: u64,
    buf: SuperBuf,
    drops: Drops,
    seen: Seen,
}

impl Work {
    fn new(devices: [Vec<Queue>; 2], corrupt: Option<u64>) -> Self {
        let coalescers = [0, 1].map(|side: usize| Coalescer::new(devices[side][0].granted()));
        let (buf, drops, seen) = (SuperBuf::default(), Drops::default(), Seen::default());
        Self { devices, coalescers, corrupt, packets: 0, buf, drops, seen }
    }

    fn run(mut self, stopped: &UnixStream) -> Seen {
        while self.wait(stopped) {
            for from in [0, 1] {
                (0..self.devices[from].len()).for_each(|queue| self.carry(from, queue));
            }
        }
        self.seen.refused = self.drops.get(DropReason::DeviceWrite);
        self.seen
    }

    /// Waits for packets; false when it is to stop.
    fn wait(&self, stopped: &UnixStream) -> bool {
        let queues = self.devices.iter().flatten().map(AsFd::as_fd);
        let watched = std::iter::once(stopped.as_fd()).chain(queues);
        let mut fds: Vec<_> = watched.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        poll(&mut fds, PollTimeout::NONE).unwrap();
        !fds[0].any().unwrap()
    }

    /// One burst from one queue of a device to the other device.
    fn carry(&mut self, from: usize, queue: usize) {
        for _ in 0..BURST {
            if self.devices[from][queue].read(&mut self.buf).unwrap().is_none() {
                break;
            }
            self.one(1 - from, queue);
        }
        let mut sink = Counting { queue: &mut self.devices[1 - from][queue], seen: &mut self.seen };
        self.coalescers[1 - from].flush(&mut sink, &self.drops);
    }

    fn one(&mut self, to: usize, queue: usize) {
        let Ok((header, packet)) = self.buf.parts() else {
            self.seen.unreadable += 1;
            return;
        };
        self.seen.partial_read += u64::from(header.partial.is_some());
        match header.gso.map(|gso| gso.kind) {
            Some(Gso::Udp) => self.seen.udp_read += 1,
            Some(_) => self.seen.tcp_read += 1,
            None => {}
        }
        let view = parse(packet).unwrap();
        let plan = Plan::new(header, packet, &view).unwrap();
        let mut pieces = Vec::with_capacity(plan.count());
        plan.emit(|piece| pieces.push(piece));
        for mut piece in pieces {
            let view = parse(piece.as_slice()).unwrap();
            self.spoil(piece.as_mut_slice(), &view);
            let mut sink = Counting { queue: &mut self.devices[to][queue], seen: &mut self.seen };
            self.coalescers[to].push(piece, &view, &mut sink, &self.drops);
        }
    }

    fn spoil(&mut self, packet: &mut [u8], view: &View) {
        let Some(every) = self.corrupt else { return };
        if view.protocol != protocol::TCP || packet.len() < 1_000 {
            return;
        }
        self.packets += 1;
        if self.packets.is_multiple_of(every) {
            let last = packet.len() - 1;
            packet[last] ^= 0x55;
            self.seen.corrupted += 1;
        }
    }
}
