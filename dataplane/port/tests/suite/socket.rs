//! Sockets are opened as the ports need them, and packets steered to the worker that they name.

use std::num::NonZeroU8;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use stoq_port::socket::{self, SocketSpec, SocketWarning};
use stoq_port::{PortKind, PortOptions, Sender, Socket, steer};

use crate::rig::{PATIENCE, hear, plain};

#[test]
fn a_receive_buffer_is_granted_or_the_sysctl_named() {
    let mut spec = SocketSpec::new("[::1]:0".parse().unwrap());
    let opened = socket::open(&spec).unwrap();
    let granted = getsockopt(&opened.fd, sockopt::RcvBuf).unwrap() / 2;
    match &opened.warnings[..] {
        [] => assert!(granted >= socket::RECEIVE_BUFFER),
        [warning] => assert!(warning.to_string().contains("net.core.rmem_max=8388608")),
        more => panic!("{more:?}"),
    }
    // More than the kernel gives anyone: always a warning.
    spec.receive_buffer = usize::MAX >> 33;
    let warnings = socket::open(&spec).unwrap().warnings;
    assert!(warnings.iter().all(|w| matches!(w, SocketWarning::Buffer { .. })), "{warnings:?}");
}

#[test]
fn an_address_in_use_or_of_another_host_is_refused_with_advice() {
    let held = plain("127.0.0.1:0");
    for bind in [held.local_addr().unwrap(), "192.0.2.77:9292".parse().unwrap()] {
        let error = socket::open(&SocketSpec::new(bind)).unwrap_err().to_string();
        assert!(error.contains(&bind.to_string()) && error.contains("no other process"), "{error}");
    }
}

fn shared_group(count: usize) -> Vec<OwnedFd> {
    let mut spec = SocketSpec::new("[::1]:0".parse().unwrap());
    spec.reuse_port = true;
    let mut group = Vec::new();
    for _ in 0..count {
        let opened = socket::open(&spec).unwrap();
        spec.bind = opened.local;
        group.push(opened.fd);
    }
    group
}

#[test]
fn a_packet_goes_to_the_worker_that_its_connection_id_names() {
    let workers = 3;
    let group = shared_group(workers);
    steer::attach(&group[0], NonZeroU8::new(workers as u8).unwrap()).unwrap();
    let options = PortOptions { sender: Sender::Inline, ..PortOptions::default() };
    let to = std::net::UdpSocket::from(group[0].try_clone().unwrap()).local_addr().unwrap();
    let mut ports: Vec<_> = group
        .into_iter()
        .map(|fd| {
            let sockets = vec![(Socket::Listen(0), fd)];
            stoq_port::open(PortKind::Mio, sockets, &options, Default::default()).unwrap()
        })
        .collect();
    let sender = plain("[::1]:0");
    for worker in [0u8, 1, 2, 5, 255] {
        let short = [0x40, 9, worker, 1, 2, 3, 4, 5, 6, 7];
        let long = [0xc0, 0, 0, 0, 1, 20, 9, worker, 1, 2, 3];
        for packet in [&short[..], &long[..]] {
            sender.send_to(packet, to).unwrap();
            let right = &mut ports[usize::from(worker) % workers];
            let mut taken = Vec::new();
            while taken.is_empty() {
                right.wait(Some(PATIENCE)).unwrap();
                right.receive(&mut |bytes, _| taken.push(bytes.to_vec())).unwrap();
            }
            assert_eq!(taken, [packet], "{worker}");
        }
    }
    // None of them strayed.
    for port in &mut ports {
        port.wait(Some(Duration::ZERO)).unwrap();
        assert_eq!(port.receive(&mut |_, _| {}).unwrap(), 0);
    }
}

#[test]
fn a_packet_too_short_to_name_a_worker_goes_to_the_first() {
    let group = shared_group(2);
    steer::attach(&group[1], NonZeroU8::new(2).unwrap()).unwrap();
    let first = std::net::UdpSocket::from(group[0].try_clone().unwrap());
    first.set_read_timeout(Some(PATIENCE)).unwrap();
    for packet in [&[][..], &[0x40], &[0x40, 1], &[0xc0, 0, 0, 0, 1, 0, 1]] {
        plain("[::1]:0").send_to(packet, first.local_addr().unwrap()).unwrap();
        assert_eq!(hear(&first, &mut [0; 64]).0, packet.len());
    }
}

/// Names the port and address to a process that opens and closes it, and ends.
const CHILD: &str = "STOQ_PORT_CHILD";

/// The other half of the test below; does nothing on its own.
#[test]
fn a_process_that_uses_a_port_and_ends() {
    let Ok(what) = std::env::var(CHILD) else { return };
    let (mode, bind) = what.split_once(' ').unwrap();
    let (_, kind, options) = crate::modes().swap_remove(mode.parse().unwrap());
    let opened = socket::open(&SocketSpec::new(bind.parse().unwrap())).unwrap();
    let sockets = vec![(Socket::Listen(0), opened.fd)];
    let mut port = stoq_port::open(kind, sockets, &options, Default::default()).unwrap();
    plain("[::1]:0").send_to(b"to one that ends", opened.local).unwrap();
    port.wait(Some(PATIENCE)).unwrap();
}

#[test]
fn a_closed_port_gives_its_address_back_at_once() {
    let bind = plain("[::1]:0").local_addr().unwrap();
    let modes = crate::modes();
    for mode in (0..modes.len()).cycle().take(100) {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "socket::a_process_that_uses_a_port_and_ends"]);
        let output = child.env(CHILD, format!("{mode} {bind}")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        drop(socket::open(&SocketSpec::new(bind)).expect(&modes[mode].0));
    }
}
