//! Who gets what: the host everything, peers the mesh's names; and that nothing goes round in circles
//! nor leaves the host that should not.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::NODES;
use super::bed::{Bed, HOST_V6, Served, UPSTREAM, Upstream, can_run, zone};
use stoq_names::host::{Change, ResolvConf};
use stoq_names::{LOOPBACK, Outcome, ZoneKey};

fn served(bed: &Bed, upstreams: &str) -> Served {
    let file = bed.host.etc().join("upstreams");
    std::fs::write(&file, upstreams).unwrap();
    Served::start(&bed.host, zone(&ZoneKey::generate().unwrap(), NODES, 1), vec![file])
}

#[test]
fn the_host_gets_everything_and_asks_twice_only_once() {
    if !can_run() {
        return;
    }
    let bed = Bed::new();
    let upstream = Upstream::start(&bed.host);
    let directory = tempfile::tempdir().unwrap();
    let stage = ResolvConf {
        path: bed.host.etc().join("resolv.conf"),
        original: directory.path().join("original"),
        server: LOOPBACK.into(),
    };
    let before = std::fs::read(&stage.path).unwrap();
    assert_eq!(stage.apply().unwrap(), Change::Made);
    let upstreams = vec![stage.original.clone(), stage.path.clone()];
    let served = Served::start(&bed.host, zone(&ZoneKey::generate().unwrap(), NODES, 1), upstreams);
    for _ in 0..3 {
        assert!(bed.host.text("getent ahostsv4 www.example.org").contains("198.51.100.7"));
        assert!(bed.host.text("getent hosts edge-b.lab.internal").contains("fd42:1:2::2"));
    }
    let asked = upstream.asked();
    assert_eq!(asked.iter().filter(|name| name.contains(" A")).count(), 1, "{asked:?}");
    assert!(asked.iter().all(|name| !name.contains("internal")), "{asked:?}");
    assert!(served.count(Outcome::Forwarded) >= 3);
    assert_eq!(stage.undo().unwrap(), Change::Made);
    assert_eq!(std::fs::read(&stage.path).unwrap(), before);
    assert!(bed.host.text("getent ahostsv4 www.example.org").contains("198.51.100.7"));
}

#[test]
fn names_of_the_mesh_and_of_any_internal_never_leave_the_host() {
    if !can_run() {
        return;
    }
    let bed = Bed::new();
    let upstream = Upstream::start(&bed.host);
    let served = served(&bed, &format!("nameserver {UPSTREAM}\n"));
    for what in [
        "edge-x.lab.internal A",
        "lab.internal MX",
        "printer.internal A",
        "INTERNAL SOA",
        "a.b.other.Internal TXT",
        "-x fd42:1:2::99",
        "-x 10.9.7.7",
    ] {
        let said = bed.host.text(&format!("dig @{LOOPBACK} {what}"));
        assert!(said.contains("status: NXDOMAIN") || said.contains("status: NOERROR"), "{said}");
        assert!(said.contains("ANSWER: 0"), "{said}");
    }
    assert_eq!(upstream.asked(), Vec::<String>::new());
    assert_eq!(served.count(Outcome::Kept), 3);
    // What only ends like it does leave.
    bed.host.text(&format!("dig @{LOOPBACK} notinternal A"));
    assert_eq!(upstream.asked().len(), 1);
}

#[test]
fn a_peer_is_refused_whatever_is_no_name_of_the_mesh() {
    if !can_run() {
        return;
    }
    let bed = Bed::new();
    let upstream = Upstream::start(&bed.host);
    let served = served(&bed, &format!("nameserver {UPSTREAM}\n"));
    for what in ["www.example.org A", ". NS", "printer.internal A", "-x 198.51.100.7", "lab CH TXT"]
    {
        let said = bed.peer.text(&format!("dig @{HOST_V6} {what}"));
        assert!(said.contains("status: REFUSED") && said.contains("ANSWER: 0"), "{said}");
        assert!(!said.contains(" ra;") && !said.contains(" ra "), "{said}");
    }
    // The host itself, at the tunnel address, is no better than a peer.
    let said = bed.host.text(&format!("dig @{HOST_V6} www.example.org A"));
    assert!(said.contains("status: REFUSED"), "{said}");
    assert_eq!(upstream.asked(), Vec::<String>::new());
    assert_eq!(served.count(Outcome::Refused), 6);
    assert_eq!(served.count(Outcome::Forwarded), 0);
}

#[test]
fn it_never_asks_itself_even_if_resolv_conf_says_so() {
    if !can_run() {
        return;
    }
    let bed = Bed::new();
    let text = format!("nameserver {LOOPBACK}\nnameserver {HOST_V6}\nnameserver fd42:1:2::2\n");
    let served = served(&bed, &text);
    let said = bed.host.text(&format!("dig +tries=1 @{LOOPBACK} www.example.org"));
    assert!(said.contains("status: SERVFAIL"), "{said}");
    assert_eq!(served.count(Outcome::NoUpstream), 1);
    assert_eq!(served.count(Outcome::Refused), 0, "a query of its own came back");
}

#[test]
fn a_circle_through_another_resolver_ends() {
    if !can_run() {
        return;
    }
    let bed = Bed::new();
    // A resolver of the host that asks us whatever it is asked.
    let bouncer = bed.host.enter(|| {
        let socket = UdpSocket::bind((UPSTREAM, 53)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let (mut bounced, until) = (0, Instant::now() + Duration::from_secs(12));
        let mut buffer = [0; 1500];
        while Instant::now() < until {
            let Ok((len, _)) = socket.recv_from(&mut buffer) else { continue };
            bounced += 1;
            let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
            ours.send_to(&buffer[..len], (LOOPBACK, 53)).unwrap();
            if &buffer[12..16] == b"\x03end" {
                break;
            }
        }
        bounced
    });
    let served = served(&bed, &format!("nameserver {UPSTREAM}\n"));
    let said = bed.host.run(&format!("dig +tries=1 +timeout=12 @{LOOPBACK} www.example.org"));
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("status: SERVFAIL") || said.contains("timed out"), "{said}");
    assert!(bed.host.text(&format!("dig +short @{LOOPBACK} edge-b.lab.internal AAAA")).len() > 5);
    bed.host.run(&format!("dig +tries=1 +timeout=1 @{LOOPBACK} end.example.org"));
    let bounced = bouncer.join().unwrap();
    // Each of the two names is asked a few times, never once for every time it came back.
    assert!((1..=16).contains(&bounced), "{bounced}");
    assert!(served.count(Outcome::Busy) == 0);
}
