//! What `delv` validates with the trust anchor that the zone gives, and what it refuses.

use std::io::Write;

use super::NODES;
use super::bed::{Bed, HOST_V6, Namespace, Served, can_run, zone};
use stoq_names::{Anchor, ZoneKey};
use tempfile::NamedTempFile;

/// `delv` in the peer's namespace, trusting this anchor.
fn delv(peer: &Namespace, anchor: &Anchor, what: &str) -> String {
    let mut file = NamedTempFile::new().unwrap();
    writeln!(file, "trust-anchors {{\n{}\n}};", line(anchor)).unwrap();
    let (path, zone) = (file.path().display(), &anchor.zone);
    let output = peer.run(&format!("delv -a {path} +root={zone} @{HOST_V6} {what}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said + &String::from_utf8_lossy(&output.stderr)
}

/// `257 3 13 KEY` in the form of BIND's configuration.
fn line(anchor: &Anchor) -> String {
    let (numbers, key) = anchor.dnskey.rsplit_once(' ').unwrap();
    format!("  \"{}\" static-key {numbers} \"{key}\";", anchor.zone)
}

#[test]
fn delv_validates_answers_and_absence_forward_and_reverse() {
    if !can_run() {
        return;
    }
    let bed = Bed::new();
    let zone = zone(&ZoneKey::generate().unwrap(), NODES, 1);
    let anchors = zone.anchors().to_vec();
    let _served = Served::start(&bed.host, zone, vec![]);
    for (what, part) in [
        ("edge-b.lab.internal AAAA", "; fully validated"),
        ("edge-b.lab.internal A", "; fully validated"),
        ("lab.internal SOA", "; fully validated"),
        ("lab.internal DNSKEY", "; fully validated"),
        ("edge-b.lab.internal MX", "; negative response, fully validated"),
        ("edge-x.lab.internal AAAA", "; negative response, fully validated"),
        ("a.b.edge-x.lab.internal AAAA", "; negative response, fully validated"),
        ("a.edge-b.lab.internal AAAA", "; negative response, fully validated"),
    ] {
        let said = delv(&bed.peer, &anchors[0], what);
        assert!(said.contains(part), "{what}: {said}");
    }
}

#[test]
fn delv_validates_the_reverse_zones() {
    if !can_run() {
        return;
    }
    let bed = Bed::new();
    let zone = zone(&ZoneKey::generate().unwrap(), NODES, 1);
    let anchors = zone.anchors().to_vec();
    let _served = Served::start(&bed.host, zone, vec![]);
    for anchor in &anchors[1..] {
        let root = anchor.zone.clone();
        let ask = |name: &str| delv(&bed.peer, anchor, &format!("{name} PTR"));
        // Of one address and the next, where nothing is, and of the names between that are empty.
        let zeros = if root.contains("ip6") { "0.".repeat(19) } else { "0.".to_owned() };
        let there = ask(&format!("2.{zeros}{root}"));
        assert!(there.contains("; fully validated") && there.contains("edge-b"), "{there}");
        for missing in [format!("9.{zeros}{root}"), format!("{zeros}{root}"), format!("7.{root}")] {
            let said = ask(&missing);
            assert!(said.contains("; negative response, fully validated"), "{missing}: {said}");
        }
    }
}

#[test]
fn delv_refuses_what_another_key_signed() {
    if !can_run() {
        return;
    }
    let bed = Bed::new();
    let other = zone(&ZoneKey::generate().unwrap(), NODES, 1);
    let _served = Served::start(&bed.host, zone(&ZoneKey::generate().unwrap(), NODES, 1), vec![]);
    let said = delv(&bed.peer, &other.anchors()[0], "edge-b.lab.internal AAAA");
    assert!(said.contains("resolution failed") && !said.contains("fully validated"), "{said}");
}

#[test]
fn signatures_end_and_begin_where_they_should() {
    if !can_run() {
        return;
    }
    let bed = Bed::new();
    let _served = Served::start(&bed.host, zone(&ZoneKey::generate().unwrap(), NODES, 1), vec![]);
    let said =
        bed.peer.text(&format!("dig +dnssec +noall +answer @{HOST_V6} edge-b.lab.internal AAAA"));
    let signature = said.lines().find(|line| line.contains("RRSIG")).unwrap();
    let times: Vec<u64> = signature
        .split_whitespace()
        .filter(|word| word.len() == 14)
        .filter_map(|word| word.parse().ok())
        .collect();
    // YYYYMMDDHHMMSS; the expiry comes first (RFC 4034 §3.2).
    assert!(times.len() == 2 && times[0] > times[1] + 1_000_000, "{signature}");
    let plain = bed.peer.text(&format!("dig @{HOST_V6} edge-b.lab.internal AAAA"));
    assert!(!plain.contains("RRSIG") && plain.contains("AUTHORITY: 0"), "{plain}");
}
