//! What takes a network of its own: a slow link, a narrow one, a host without IPv6. Need root.

use std::process::Command;

use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare};
use nix::unistd::{Pid, geteuid};
use stoq_port::PortOptions;
use stoq_telemetry::DropReason;

use crate::modes;
use crate::rig::{Rig, dial, loopback};

/// Runs `test` on a thread in a new network namespace, set up by these commands; it goes away with
/// the thread.
fn in_namespace(commands: &'static [&'static str], test: fn()) {
    if !geteuid().is_root() {
        eprintln!("skipped: a network namespace needs root");
        return;
    }
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        for command in commands.iter().chain(&["ip link set lo up"]) {
            let status = Command::new("sh").args(["-c", command]).status().unwrap();
            assert!(status.success(), "{command}");
        }
        test();
    });
    thread.join().unwrap();
}

/// Keeps this thread on one core, and returns it: loopback has a queue for each core, so packets
/// that leave on several of them change places.
fn stay_on_one_core() -> usize {
    let here = Pid::from_raw(0);
    let allowed = sched_getaffinity(here).unwrap();
    let core = (0..CpuSet::count()).find(|core| allowed.is_set(*core).unwrap()).unwrap();
    let mut one = CpuSet::new();
    one.set(core).unwrap();
    sched_setaffinity(here, &one).unwrap();
    core
}

#[test]
fn a_slow_link_holds_the_sender_back_and_loses_nothing() {
    const COUNT: usize = 1_200;
    in_namespace(&["tc qdisc add dev lo root tbf rate 100mbit burst 32k limit 4m"], || {
        let sender_core = Some(stay_on_one_core());
        for (name, kind, options) in modes() {
            let options = PortOptions { sender_core, ..options };
            let mut rx = Rig::new(kind, &options, &["[::]:0"]);
            let mut tx = Rig::new(kind, &options, &["[::]:0"]);
            let meta = dial(loopback(rx.locals[0], false));
            let mut held_back = 0;
            let mut datagram = [0; 1350];
            for number in 0..COUNT {
                held_back += usize::from(tx.port.slot().is_none());
                datagram[..8].copy_from_slice(&number.to_be_bytes());
                tx.queue(&datagram, &meta);
            }
            tx.port.flush().unwrap();
            // Inline, the rest leaves as the worker waits.
            let mut taken = Vec::new();
            while taken.len() < COUNT {
                tx.port.wait(Some(std::time::Duration::from_millis(1))).unwrap();
                tx.port.flush().unwrap();
                let taken_now = rx.take(1);
                taken.extend(taken_now.into_iter().map(|(bytes, _)| bytes));
            }
            for (number, bytes) in taken.iter().enumerate() {
                assert_eq!(bytes[..8], number.to_be_bytes(), "{name}");
            }
            assert!(held_back > 0, "{name}: never held back");
            assert_eq!(tx.dropped(DropReason::PortSend), 0, "{name}");
        }
    });
}

#[test]
fn datagrams_too_long_for_the_link_are_counted_and_trains_stay_on() {
    in_namespace(
        &[
            "ip link add name near mtu 1500 type veth peer name far",
            "ip addr add fd00:92::1/64 dev near nodad",
            "ip link set far up; ip link set near up",
        ],
        || {
            for (name, kind, options) in modes() {
                let mut tx = Rig::new(kind, &options, &["[::]:0"]);
                for _ in 0..10 {
                    tx.queue(&[1; 1490], &dial("[fd00:92::2]:9".parse().unwrap()));
                }
                tx.port.flush().unwrap();
                tx.expect_dropped(DropReason::PortSend, 10);
                assert_eq!(tx.port.mode().gso, options.gso, "{name}");
            }
        },
    );
}

#[test]
fn an_unreachable_network_does_not_end_a_port() {
    in_namespace(&[], || {
        for (name, kind, options) in modes() {
            let mut rx = Rig::new(kind, &options, &["[::]:0"]);
            let mut tx = Rig::new(kind, &options, &["[::]:0"]);
            let unreachable = ["192.0.2.1:9", "[2001:db8::1]:9"];
            for to in unreachable.iter().flat_map(|to| [to; 6]) {
                tx.queue(&[1; 100], &dial(to.parse().unwrap()));
            }
            tx.queue(b"still here", &dial(loopback(rx.locals[0], true)));
            tx.port.flush().unwrap();
            assert_eq!(rx.take(1)[0].0, b"still here", "{name}");
            tx.expect_dropped(DropReason::PortSend, 12);
        }
    });
}

#[test]
fn a_host_with_ipv6_switched_off_still_carries_ipv4() {
    in_namespace(&["sysctl -qw net.ipv6.conf.all.disable_ipv6=1"], || {
        for (name, kind, options) in modes() {
            let mut rx = Rig::new(kind, &options, &["[::]:0"]);
            let mut tx = Rig::new(kind, &options, &["[::]:0"]);
            tx.queue(b"four", &dial(loopback(rx.locals[0], false)));
            tx.port.flush().unwrap();
            let taken = rx.take(1);
            assert!(taken[0].1.from.is_ipv4() && taken[0].1.to.is_ipv4(), "{name}");
        }
    });
}
