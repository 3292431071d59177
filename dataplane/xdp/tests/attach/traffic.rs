//! Real packets over the interface: STOQ's and all others.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use stoq_xdp::{Program, Rules, Settings, Verdict};

use crate::bed::{Far, NEAR, with_veth};

/// How long a packet may take over a veth on a busy host.
const PATIENCE: Duration = Duration::from_secs(60);

fn settings(port: u16) -> Settings {
    let addresses = NEAR.map(|text| text.parse().unwrap()).to_vec();
    Settings { ports: vec![port], addresses, ..Settings::default() }
}

fn near(index: usize) -> IpAddr {
    NEAR[index].parse().unwrap()
}

/// Sends one datagram from the far end.
fn send(far: &Far, to: SocketAddr, payload: &'static [u8]) {
    far.run(move || {
        let bind = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(bind).unwrap();
        socket.send_to(payload, to).unwrap();
    });
}

/// A packet with a short header; the last one without the fixed bit.
const GOOD: &[u8] = &[0x40; 100];
const BAD: &[u8] = &[0x00; 100];

/// Without an AF_XDP socket, what is STOQ's reaches the kernel's socket, and what is refused does not.
#[test]
fn the_kernels_socket_gets_what_no_other_takes() {
    with_veth(1500, |far| {
        for index in [0, 1] {
            let socket = UdpSocket::bind((near(index), 0)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let local = socket.local_addr().unwrap();
            let program = Program::attach("wan", &settings(local.port())).unwrap();
            send(far, local, BAD);
            send(far, local, GOOD);
            let mut buffer = [0; 2048];
            let (len, _) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], GOOD);
            let counters = program.counters().unwrap();
            assert_eq!(counters.get(Verdict::NotQuic), 1, "{counters:?}");
            assert_eq!(counters.get(Verdict::NoSocket), 1, "{counters:?}");
        }
    });
}

/// Neighbours are found, pings are answered, TCP flows, and UDP on other ports arrives unjudged.
#[test]
fn all_other_traffic_passes() {
    with_veth(1500, |far| {
        let program = Program::attach("wan", &settings(9292)).unwrap();
        far.run(|| {
            for address in NEAR {
                let ping = Command::new("ping").args(["-c", "1", "-W", "5", address]).output();
                assert!(ping.unwrap().status.success(), "ping {address}");
            }
        });
        for index in [0, 1] {
            // TCP on the very number of STOQ's port, and UDP on another.
            let listener = TcpListener::bind((near(index), 9292)).unwrap();
            let to = listener.local_addr().unwrap();
            far.run(move || drop(TcpStream::connect_timeout(&to, PATIENCE).unwrap()));
            let socket = UdpSocket::bind((near(index), 0)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            send(far, socket.local_addr().unwrap(), BAD);
            assert_eq!(socket.recv_from(&mut [0; 2048]).unwrap().0, BAD.len());
        }
        let counters = program.counters().unwrap();
        assert!(counters.iter().all(|(_, packets)| packets == 0), "{counters:?}");
    });
}

/// What is applied later holds from then on, and what is no longer in the settings holds no more.
#[test]
fn settings_are_changed_while_packets_flow() {
    with_veth(1500, |far| {
        let socket = UdpSocket::bind((near(0), 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let local = socket.local_addr().unwrap();
        let open = Settings { rules: Rules::OFF, ..settings(local.port()) };
        let denied = vec![("192.0.2.2".parse().unwrap(), 32)];
        let deny = Settings { deny: denied, ..settings(local.port()) };
        let elsewhere = settings(local.port().wrapping_add(1));
        let not_here = Settings { addresses: Vec::new(), ..settings(local.port()) };
        let mut program = Program::attach("wan", &open).unwrap();
        for (settings, verdict) in [
            (&open, Some(Verdict::NoSocket)),
            (&deny, Some(Verdict::Denied)),
            (&elsewhere, None),
            (&not_here, None),
            (&open, Some(Verdict::NoSocket)),
        ] {
            program.apply(settings).unwrap();
            let before = program.counters().unwrap();
            send(far, local, GOOD);
            if verdict != Some(Verdict::Denied) {
                socket.recv_from(&mut [0; 2048]).unwrap();
            }
            let after = program.counters().unwrap();
            let moved = after.iter().filter(|(v, packets)| *packets != before.get(*v));
            let moved: Vec<_> = moved.map(|(verdict, _)| verdict).collect();
            assert_eq!(moved, verdict.into_iter().collect::<Vec<_>>(), "{settings:?}");
        }
    });
}
