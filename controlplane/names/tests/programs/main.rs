//! The names asked with the programs that operators have: `getent`, `dig`, `delv`. Needs root, network
//! namespaces and Debian's `bind9-dnsutils`; says so and skips where they are missing.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod bed;
mod flood;
mod forwarding;
mod resolved;
mod signed;
mod upstream;

use bed::{Bed, HOST_V6, Served, can_run, zone};
use stoq_names::{LOOPBACK, Outcome, ZoneKey};

const NODES: &[(&str, u16)] = &[("edge-a", 1), ("edge-b", 2), ("edge-c", 3)];

#[test]
fn getent_finds_nodes_by_name_and_by_address() {
    if !can_run() {
        return;
    }
    let bed = Bed::new();
    let _served = Served::start(&bed.host, zone(&ZoneKey::generate().unwrap(), NODES, 1), vec![]);
    bed.host.set_resolvers(&format!("nameserver {LOOPBACK}\n"));
    let found = bed.host.text("getent ahosts edge-b.lab.internal");
    let addresses: Vec<&str> =
        found.lines().filter(|line| line.contains("STREAM")).map(first_word).collect();
    assert_eq!(addresses, ["fd42:1:2::2", "10.9.0.2"], "{found}");
    for address in ["fd42:1:2::2", "10.9.0.2"] {
        let found = bed.host.text(&format!("getent hosts {address}"));
        assert!(found.contains("edge-b.lab.internal"), "{found}");
    }
    for missing in ["edge-x.lab.internal", "fd42:1:2::99", "10.9.0.99"] {
        let none = bed.host.run(&format!("getent hosts {missing}"));
        assert_eq!(none.status.code(), Some(2), "{missing}: {none:?}");
    }
    assert!(bed.host.text("getent hosts EDGE-C.Lab.Internal").contains("fd42:1:2::3"));
}

#[test]
fn dig_sees_an_authority_by_udp_and_tcp_and_no_zone_transfer() {
    if !can_run() {
        return;
    }
    let bed = Bed::new();
    let served = Served::start(&bed.host, zone(&ZoneKey::generate().unwrap(), NODES, 4711), vec![]);
    for way in ["", "+tcp"] {
        let ask = |what: &str| bed.peer.text(&format!("dig {way} @{HOST_V6} {what}"));
        let answer = ask("edge-b.lab.internal AAAA");
        assert!(answer.contains("NOERROR") && answer.contains("flags: qr aa rd;"), "{answer}");
        assert!(answer.contains("fd42:1:2::2"), "{answer}");
        assert!(ask("+short lab.internal SOA").contains(" 4711 "));
        assert_eq!(ask("+short lab.internal NS").trim(), "edge-a.lab.internal.");
        let reverse = ask("+short -x fd42:1:2::3");
        assert_eq!(reverse.trim(), "edge-c.lab.internal.");
        assert!(ask("edge-b.lab.internal MX").contains("status: NOERROR"));
        assert!(ask("edge-x.lab.internal A").contains("status: NXDOMAIN"));
    }
    let transfer = bed.peer.run(&format!("dig @{HOST_V6} lab.internal AXFR"));
    let transfer = String::from_utf8_lossy(&transfer.stdout).into_owned();
    assert!(!transfer.contains("edge-b"), "{transfer}");
    let update = bed.peer.text(&format!("dig +opcode=UPDATE @{HOST_V6} lab.internal SOA"));
    assert!(update.contains("status: NOTIMP"), "{update}");
    // Six by each way; the transfer and the update.
    assert_eq!((served.count(Outcome::Zone), served.count(Outcome::Refused)), (12, 2));
}

#[test]
fn a_zone_is_replaced_while_it_is_asked_and_no_query_is_lost() {
    if !can_run() {
        return;
    }
    let bed = Bed::new();
    let key = ZoneKey::generate().unwrap();
    let served = Served::start(&bed.host, zone(&key, NODES, 1), vec![]);
    let asking = bed.host.enter(|| {
        let ask = || flood::ask("127.0.92.53:53", "edge-b.lab.internal");
        // An answer is a header, the question and one AAAA record, whatever the serial.
        (0..2000).map(|_| ask()).filter(|answer| answer.len() > 60).count()
    });
    for serial in 2..40 {
        let next = zone(&key, NODES, serial);
        served.with(move |names| names.replace(next));
    }
    assert_eq!(asking.join().unwrap(), 2000);
    let serial = bed.peer.text(&format!("dig +short @{HOST_V6} lab.internal SOA"));
    assert!(serial.contains(" 39 "), "{serial}");
    let gone = zone(&key, &NODES[..1], 40);
    served.with(move |names| names.replace(gone));
    let answer = bed.peer.text(&format!("dig @{HOST_V6} edge-b.lab.internal AAAA"));
    assert!(answer.contains("status: NXDOMAIN"), "{answer}");
}

#[test]
fn with_the_names_their_sockets_go() {
    if !can_run() {
        return;
    }
    let bed = Bed::new();
    for _ in 0..3 {
        let key = ZoneKey::generate().unwrap();
        let served = Served::start(&bed.host, zone(&key, NODES, 1), vec![]);
        assert_eq!(served.with(|names| names.addresses().len()), 2);
    }
}

fn first_word(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}
