//! The rules, one by one: what is accepted, what is refused, and the reason given.

mod change;
mod enrolment;

use std::net::SocketAddr;

use super::*;
use crate::command::{Founder, OperatorRole, Policy, Role};
use crate::effect::Enrolment;

const DAY: u64 = 24 * 3600;
const NOW: u64 = 1_800_000_000;

fn keys(n: u8) -> [u8; 32] {
    [n; 32]
}

fn found() -> CommandV1 {
    CommandV1::Found {
        mesh: "lab-0123456789abcdef".to_owned(),
        name: "lab".to_owned(),
        prefix: "fd12:3456:789a::/48".parse().unwrap(),
        ipv4: Some("10.92.0.0/16".parse().unwrap()),
        policy: Policy::Hybrid,
        root: vec![0x30; 64],
        founder: Founder { node: "edge-a".to_owned(), keys: keys(1), endpoints: endpoints(1) },
        at_s: NOW,
    }
}

fn endpoints(count: u16) -> Vec<SocketAddr> {
    (1..=count).map(|n| SocketAddr::from(([198, 51, 100, 1], n))).collect()
}

fn token(node: &str, hash: u8) -> CommandV1 {
    let (node, role) = (node.to_owned(), Role::Node);
    CommandV1::CreateToken { hash: keys(hash), node, role, expires_at_s: NOW + 3600, at_s: NOW }
}

fn enrol(node: &str, hash: u8, with: u8) -> CommandV1 {
    let (node, endpoints) = (node.to_owned(), endpoints(1));
    CommandV1::Enrol { token: keys(hash), node, keys: keys(with), endpoints, at_s: NOW + 60 }
}

fn route(node: &str, prefix: &str) -> CommandV1 {
    CommandV1::AddRoute { node: node.to_owned(), prefix: prefix.parse().unwrap() }
}

fn issuer(node: &str, with: u8, log: u8) -> CommandV1 {
    CommandV1::AddIssuer {
        node: node.to_owned(),
        keys: keys(with),
        certificate: vec![1; 8],
        log: keys(log),
        log_certificate: vec![2; 8],
    }
}

fn revoke(node: &str) -> CommandV1 {
    CommandV1::Revoke { node: node.to_owned(), at_s: NOW + 100 }
}

fn leave(node: &str) -> CommandV1 {
    CommandV1::Leave { node: node.to_owned(), at_s: NOW + 100 }
}

impl Ledger {
    /// Applies a command; a refusal must leave no trace.
    fn try_do(&mut self, command: CommandV1) -> Result<Effect, Rejected> {
        let before = (self.hash(), self.snapshot());
        let result = self.apply(&Command::V1(command));
        if result.is_err() {
            assert_eq!((self.hash(), self.snapshot()), before, "a refused command left a trace");
        }
        result
    }

    fn must(&mut self, command: CommandV1) -> Effect {
        self.try_do(command).unwrap()
    }

    fn refused(&mut self, command: CommandV1) -> Rejected {
        self.try_do(command).unwrap_err()
    }
}

/// A mesh of edge-a (the founder) and edge-b.
fn two() -> Ledger {
    let mut ledger = Ledger::default();
    ledger.must(found());
    ledger.must(token("edge-b", 0xb0));
    ledger.must(enrol("edge-b", 0xb0, 2));
    ledger
}

#[test]
fn the_founder_has_the_first_address_of_either_family() {
    let mut ledger = Ledger::default();
    let Effect::Founded(Enrolment { addresses, .. }) = ledger.must(found()) else { panic!() };
    let addresses = addresses.unwrap();
    assert_eq!(addresses.index, 1);
    assert_eq!(addresses.ipv6.to_string(), "fd12:3456:789a::1");
    assert_eq!(addresses.ipv4.unwrap().to_string(), "10.92.0.1");
    assert_eq!((ledger.height(), ledger.revocation_sequence()), (1, 1));
}

#[test]
fn nothing_happens_before_the_mesh_is_founded_and_it_is_founded_once() {
    let mut ledger = Ledger::default();
    for command in [token("edge-b", 1), route("a", "10.1.0.0/16"), revoke("a"), leave("a")] {
        assert_eq!(ledger.refused(command), Rejected::NotFounded);
    }
    ledger.must(found());
    let again = ledger.refused(found());
    assert_eq!(again, Rejected::Founded { mesh: "lab-0123456789abcdef".to_owned() });
}

#[test]
fn a_mesh_that_is_not_well_formed_is_not_founded() {
    let (id, prefix, ipv4) = ("lab-0123456789abcdef", "fd12:3456:789a::/48", "10.92.0.0/16");
    let long = "a".repeat(47);
    for (given, expected) in [
        (("lab-0123", "lab", prefix, ipv4), "16 hexadecimal"),
        (("lab-0123456789ABCDEF", "lab", prefix, ipv4), "16 hexadecimal"),
        (("hub-0123456789abcdef", "lab", prefix, ipv4), "16 hexadecimal"),
        ((id, long.as_str(), prefix, ipv4), "1 to 46"),
        ((id, "lab", "fd00::/47", ipv4), "/48"),
        ((id, "lab", "2001:db8::/48", ipv4), "fd00::/8"),
        ((id, "lab", "fd12:3456:789a::1/48", ipv4), "/48"),
        ((id, "lab", prefix, "8.8.8.0/24"), "private"),
        ((id, "lab", prefix, "10.0.0.0/31"), "/30"),
    ] {
        let (id, name, prefix, ipv4) = given;
        let mesh = Mesh {
            id: id.to_owned(),
            name: name.to_owned(),
            prefix: prefix.parse().unwrap(),
            ipv4: Some(ipv4.parse().unwrap()),
            policy: Policy::Hybrid,
            root: vec![0x30; 64],
        };
        let text = founding::check_mesh(&mesh).unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
    let mut rootless = found();
    if let CommandV1::Found { root, .. } = &mut rootless {
        root.clear();
    }
    let refused = Ledger::default().refused(rootless);
    assert_eq!(refused, Rejected::Certificate { got: 0 });
}

#[test]
fn a_damaged_snapshot_is_not_restored() {
    let mut ledger = two();
    ledger.must(route("edge-b", "10.2.0.0/16"));
    let snapshot = ledger.snapshot();
    assert_eq!(Ledger::restore(&snapshot).unwrap().hash(), ledger.hash());
    for n in 0..snapshot.len() {
        let mut damaged = snapshot.clone();
        damaged[n] ^= 1;
        assert!(Ledger::restore(&damaged).is_err(), "byte {n}");
        assert!(Ledger::restore(&snapshot[..n]).is_err(), "cut to {n}");
    }
    assert!(Ledger::restore(&[&snapshot[..], &[0]].concat()).is_err());
}

#[test]
fn a_command_has_one_encoding() {
    for command in [found(), token("edge-b", 1), enrol("edge-b", 1, 2), route("a", "10.0.0.0/9")] {
        let command = Command::V1(command);
        let bytes = command.encode().unwrap();
        assert_eq!(Command::decode(&bytes), Ok(command));
        assert!(Command::decode(&[&bytes[..], &[0]].concat()).is_err(), "bytes behind it");
        assert!(Command::decode(&bytes[..bytes.len() - 1]).is_err(), "cut");
        // The version as a longer number of the same value.
        let longer = [&[0x80, 0x00], &bytes[1..]].concat();
        assert!(Command::decode(&longer).is_err(), "another encoding");
    }
    assert!(matches!(Command::decode(&[7; 8]), Err(crate::CommandError::Malformed { .. })));
    let oversized = vec![0; crate::COMMAND_MAX_BYTES + 1];
    assert!(matches!(Command::decode(&oversized), Err(crate::CommandError::Oversized { .. })));
}

#[test]
fn names_are_those_that_the_verifier_accepts_today() {
    for name in
        ["a", "edge-a", "0", "-a", "a-", "A", "a.b", "", "é", &"a".repeat(63), &"a".repeat(64)]
    {
        let here = founding::check_name(name, 63).is_ok();
        assert_eq!(here, stoq_identity::check_name(name).is_ok(), "{name:?}");
    }
}
