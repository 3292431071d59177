//! The rules, one by one: what is accepted, what is refused, and the reason given.

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
    type Edit = fn(&mut CommandV1);
    let cases: [(Edit, &str); 8] = [
        (
            |c| {
                if let CommandV1::Found { mesh, .. } = c {
                    *mesh = "lab-0123".into()
                }
            },
            "16 hex",
        ),
        (
            |c| {
                if let CommandV1::Found { mesh, .. } = c {
                    mesh.make_ascii_uppercase()
                }
            },
            "16 hex",
        ),
        (
            |c| {
                if let CommandV1::Found { name, .. } = c {
                    *name = "a".repeat(47)
                }
            },
            "1 to 46",
        ),
        (
            |c| {
                if let CommandV1::Found { prefix, .. } = c {
                    *prefix = "fd00::/47".parse().unwrap()
                }
            },
            "/48",
        ),
        (
            |c| {
                if let CommandV1::Found { prefix, .. } = c {
                    *prefix = "2001:db8::/48".parse().unwrap()
                }
            },
            "fd00::/8",
        ),
        (
            |c| {
                if let CommandV1::Found { ipv4, .. } = c {
                    *ipv4 = Some("8.8.8.0/24".parse().unwrap())
                }
            },
            "private",
        ),
        (
            |c| {
                if let CommandV1::Found { ipv4, .. } = c {
                    *ipv4 = Some("10.0.0.0/31".parse().unwrap())
                }
            },
            "/30",
        ),
        (
            |c| {
                if let CommandV1::Found { root, .. } = c {
                    root.clear()
                }
            },
            "certificate",
        ),
    ];
    for (edit, expected) in cases {
        let mut command = found();
        edit(&mut command);
        let text = Ledger::default().refused(command).to_string();
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn a_token_holds_its_name_and_address_and_is_consumed_once() {
    let mut ledger = Ledger::default();
    ledger.must(found());
    let Effect::TokenCreated { addresses: held, .. } = ledger.must(token("edge-b", 0xb0)) else {
        panic!()
    };
    let open = ledger.refused(token("edge-b", 0xb1));
    assert_eq!(open, Rejected::TokenOpen { node: "edge-b".to_owned(), left_s: 3600 });
    let first = ledger.must(enrol("edge-b", 0xb0, 2));
    let Effect::Enrolled(Enrolment { addresses, role, .. }) = &first else { panic!() };
    assert_eq!((*addresses, *role), (held, Role::Node));
    assert_eq!(held.unwrap().index, 2);
    let height = ledger.height();
    assert_eq!(ledger.must(enrol("edge-b", 0xb0, 2)), first, "the same keys: the same answer");
    assert_eq!(ledger.height(), height, "which changes nothing");
    let raced = ledger.refused(enrol("edge-b", 0xb0, 3));
    assert_eq!(raced, Rejected::TokenRaced { node: "edge-b".to_owned() });
    assert!(raced.to_string().starts_with("raced token"), "{raced}");
    let held = Rejected::NameHeld { name: "edge-b".to_owned() };
    assert_eq!(ledger.refused(enrol("edge-b", 0xb1, 2)), held);
    assert_eq!(ledger.refused(token("edge-b", 0xb2)), held);
}

#[test]
fn a_token_that_is_unknown_expired_or_for_another_name_is_refused() {
    let mut ledger = Ledger::default();
    ledger.must(found());
    ledger.must(token("edge-b", 0xb0));
    ledger.must(token("edge-c", 0xc0));
    let unknown = |node: &str| Rejected::TokenUnknown { node: node.to_owned() };
    assert_eq!(ledger.refused(enrol("edge-b", 0xbb, 2)), unknown("edge-b"));
    assert_eq!(ledger.refused(enrol("edge-c", 0xb0, 2)), unknown("edge-c"));
    assert_eq!(ledger.refused(enrol("edge-d", 0xb0, 2)), unknown("edge-d"));
    let late = |at_s| CommandV1::Enrol {
        token: keys(0xb0),
        node: "edge-b".to_owned(),
        keys: keys(2),
        endpoints: Vec::new(),
        at_s,
    };
    let expired = ledger.refused(late(NOW + 3600));
    assert_eq!(expired, Rejected::TokenExpired { node: "edge-b".to_owned(), ago_s: 0 });
    ledger.must(late(NOW + 3599));
    ledger.must(CommandV1::DropToken { node: "edge-c".to_owned() });
    assert_eq!(ledger.refused(enrol("edge-c", 0xc0, 3)), unknown("edge-c"));
    let dropped = CommandV1::DropToken { node: "edge-c".to_owned() };
    assert_eq!(ledger.refused(dropped), unknown("edge-c"));
}

#[test]
fn a_token_lives_from_one_second_to_a_week() {
    let mut ledger = Ledger::default();
    ledger.must(found());
    for (life_s, allowed) in [(0, false), (1, true), (7 * DAY, true), (7 * DAY + 1, false)] {
        let command = CommandV1::CreateToken {
            hash: keys(9),
            node: format!("edge-{life_s}"),
            role: Role::Node,
            expires_at_s: NOW + life_s,
            at_s: NOW,
        };
        assert_eq!(ledger.try_do(command).is_ok(), allowed, "{life_s}");
    }
}

#[test]
fn an_expired_token_gives_back_its_name_and_address() {
    let mut ledger = Ledger::default();
    ledger.must(found());
    ledger.must(token("edge-b", 0xb0));
    let later = CommandV1::CreateToken {
        hash: keys(0xb1),
        node: "edge-b".to_owned(),
        role: Role::Operator(OperatorRole::Viewer),
        expires_at_s: NOW + 2 * 3600,
        at_s: NOW + 3600,
    };
    ledger.must(later);
    assert_eq!(ledger.tokens().count(), 1);
    assert_eq!(ledger.token("edge-b").unwrap().index, None);
    assert_eq!(ledger.indexes.len(), 1, "only the founder's");
}

#[test]
fn an_operators_token_makes_an_operator_without_an_address() {
    let mut ledger = two();
    let role = Role::Operator(OperatorRole::Admin);
    ledger.must(CommandV1::CreateToken {
        hash: keys(0xaa),
        node: "alice".to_owned(),
        role,
        expires_at_s: NOW + 60,
        at_s: NOW,
    });
    let with = |endpoints| CommandV1::Enrol {
        token: keys(0xaa),
        node: "alice".to_owned(),
        keys: keys(7),
        endpoints,
        at_s: NOW,
    };
    let refused = ledger.refused(with(endpoints(1)));
    assert!(matches!(refused, Rejected::OperatorEndpoints { .. }));
    let effect = ledger.must(with(Vec::new()));
    let expected = Enrolment { node: "alice".to_owned(), role, addresses: None };
    assert_eq!(effect, Effect::Enrolled(expected));
    assert_eq!(ledger.must(with(Vec::new())), effect, "repeated");
    assert_eq!(ledger.operator("alice").unwrap().role, OperatorRole::Admin);
    assert!(ledger.member("alice").is_none());
}

#[test]
fn a_role_is_bound_to_keys() {
    let mut ledger = two();
    let set = |name: &str, with, role| CommandV1::SetRole {
        operator: name.to_owned(),
        keys: keys(with),
        role,
        at_s: NOW,
    };
    ledger.must(set("alice", 7, OperatorRole::Viewer));
    ledger.must(set("alice", 7, OperatorRole::Admin));
    assert_eq!(ledger.operator("alice").unwrap().role, OperatorRole::Admin);
    let other = ledger.refused(set("alice", 8, OperatorRole::Admin));
    assert_eq!(other, Rejected::OperatorKeys { operator: "alice".to_owned() });
    let node = ledger.refused(set("bob", 2, OperatorRole::Admin));
    assert_eq!(node, Rejected::KeysHeld { by: "edge-b".to_owned() });
    let held = ledger.refused(set("edge-b", 9, OperatorRole::Admin));
    assert_eq!(held, Rejected::NameHeld { name: "edge-b".to_owned() });
    ledger.must(revoke("alice"));
    let back = ledger.refused(set("alice", 9, OperatorRole::Viewer));
    assert_eq!(back, Rejected::NameRevoked { name: "alice".to_owned() });
    let back = ledger.refused(set("carol", 7, OperatorRole::Viewer));
    assert_eq!(back, Rejected::KeysRevoked { node: "alice".to_owned() });
}

#[test]
fn what_was_revoked_never_comes_back() {
    let mut ledger = two();
    ledger.must(route("edge-b", "10.2.0.0/16"));
    let before = ledger.revocation_sequence();
    let effect = ledger.must(revoke("edge-b"));
    let sequence = before + 1;
    assert_eq!(effect, Effect::Revoked { node: "edge-b".to_owned(), sequence });
    assert_eq!(ledger.revocation_sequence(), sequence);
    let revoked = ledger.revocation(&keys(2)).unwrap();
    assert_eq!((revoked.kind, revoked.sequence), (RevokedKind::Node, sequence));
    let name = Rejected::NameRevoked { name: "edge-b".to_owned() };
    assert_eq!(ledger.refused(token("edge-b", 0xb5)), name);
    assert_eq!(ledger.refused(enrol("edge-b", 0xb0, 2)), name);
    assert!(matches!(ledger.refused(revoke("edge-b")), Rejected::UnknownName { .. }));
    ledger.must(token("edge-c", 0xc0));
    let by = Rejected::KeysRevoked { node: "edge-b".to_owned() };
    assert_eq!(ledger.refused(enrol("edge-c", 0xc0, 2)), by);
    ledger.must(enrol("edge-c", 0xc0, 3));
    assert_eq!(ledger.member("edge-c").unwrap().index, 3, "the address is not given again");
    ledger.must(route("edge-c", "10.2.0.0/16"));
}

#[test]
fn who_leaves_gives_back_name_address_and_networks() {
    let mut ledger = two();
    ledger.must(route("edge-b", "10.2.0.0/16"));
    let sequence = ledger.revocation_sequence();
    let effect = ledger.must(leave("edge-b"));
    assert_eq!(effect, Effect::Left { node: "edge-b".to_owned(), sequence });
    assert!(matches!(ledger.refused(leave("edge-b")), Rejected::UnknownMember { .. }));
    ledger.must(route("edge-a", "10.2.0.0/16"));
    ledger.must(token("edge-b", 0xb5));
    ledger.must(enrol("edge-b", 0xb5, 2));
    assert_eq!(ledger.member("edge-b").unwrap().index, 3, "others come first");
}

#[test]
fn addresses_are_given_in_order_and_again_only_when_all_were_given() {
    let mut ledger = Ledger::default();
    let mut command = found();
    if let CommandV1::Found { ipv4, .. } = &mut command {
        *ipv4 = Some("10.92.0.0/29".parse().unwrap());
    }
    ledger.must(command);
    for n in 2..=6 {
        ledger.must(token(&format!("n{n}"), n));
        ledger.must(enrol(&format!("n{n}"), n, n));
    }
    assert!(matches!(ledger.refused(token("n7", 7)), Rejected::AddressesFull { .. }));
    ledger.must(revoke("n3"));
    assert!(matches!(ledger.refused(token("n7", 7)), Rejected::AddressesFull { .. }));
    ledger.must(leave("n5"));
    ledger.must(leave("n4"));
    ledger.must(token("n7", 7));
    assert_eq!(ledger.token("n7").unwrap().index, Some(4), "the lowest free one");
    assert_eq!(ledger.addresses(4).unwrap().ipv4.unwrap().to_string(), "10.92.0.4");
}

#[test]
fn networks_never_overlap() {
    let mut ledger = two();
    ledger.must(route("edge-b", "10.2.0.0/16"));
    ledger.must(route("edge-b", "2001:db8:2::/48"));
    for prefix in ["10.2.0.0/16", "10.2.3.0/24", "10.2.255.255/32", "10.0.0.0/13", "2001:db8::/32"]
    {
        let refused = ledger.refused(route("edge-a", prefix));
        assert!(matches!(&refused, Rejected::RouteHeld { by, .. } if by == "edge-b"), "{refused}");
    }
    ledger.must(route("edge-a", "10.1.0.0/16"));
    ledger.must(route("edge-a", "10.3.0.0/16"));
    ledger.must(route("edge-a", "2001:db8:1::/48"));
    let gone = CommandV1::RemoveRoute {
        node: "edge-a".to_owned(),
        prefix: "10.1.0.0/16".parse().unwrap(),
    };
    ledger.must(gone.clone());
    assert!(matches!(ledger.refused(gone), Rejected::RouteUnknown { .. }));
    ledger.must(route("edge-b", "10.1.128.0/17"));
}

#[test]
fn the_default_route_and_the_meshs_own_addresses_lie_behind_nobody() {
    let mut ledger = two();
    for (prefix, expected) in [
        ("0.0.0.0/0", "never the default route"),
        ("::/0", "never the default route"),
        ("0.0.0.0/1", "never the default route"),
        ("128.0.0.0/1", "never the default route"),
        ("2000::/3", "never the default route"),
        ("10.92.7.0/24", "the mesh's own"),
        ("10.0.0.0/8", "the mesh's own"),
        ("fd12:3456:789a:1::/64", "the mesh's own"),
        ("fd12:3456::/32", "the mesh's own"),
        ("10.2.0.1/16", "clear the host bits"),
        ("127.0.0.0/8", "reserved"),
        ("169.254.0.0/16", "reserved"),
        ("224.0.0.0/8", "reserved"),
        ("fe80::/64", "reserved"),
        ("ff00::/16", "reserved"),
        ("::ffff:10.0.0.0/112", "reserved"),
    ] {
        let text = ledger.refused(route("edge-b", prefix)).to_string();
        assert!(text.contains(expected), "{prefix}: {text}");
    }
}

#[test]
fn a_member_has_at_most_64_networks() {
    let mut ledger = two();
    for n in 0..ROUTES_MAX {
        ledger.must(route("edge-b", &format!("10.2.{n}.0/24")));
    }
    let refused = ledger.refused(route("edge-b", "10.3.0.0/24"));
    assert!(matches!(refused, Rejected::Full { most: ROUTES_MAX, .. }), "{refused}");
    ledger.must(route("edge-a", "10.3.0.0/24"));
}

#[test]
fn only_endpoints_that_can_be_dialled_are_kept() {
    let mut ledger = two();
    let set = |endpoints| CommandV1::SetEndpoints { node: "edge-b".to_owned(), endpoints };
    for wrong in ["0.0.0.0:1", "198.51.100.1:0", "224.0.0.1:1", "[ff02::1]:1", "255.255.255.255:1"]
    {
        let refused = ledger.refused(set(vec![wrong.parse().unwrap()]));
        assert!(matches!(refused, Rejected::Endpoint { .. }), "{wrong}: {refused}");
    }
    let many = ledger.refused(set(endpoints(9)));
    assert!(matches!(many, Rejected::EndpointCount { got: 9, .. }));
    let twice = ledger.refused(set([endpoints(1), endpoints(1)].concat()));
    assert!(matches!(twice, Rejected::EndpointCount { .. }));
    ledger.must(set(endpoints(8)));
    let height = ledger.height();
    assert_eq!(ledger.member("edge-b").unwrap().changed, height);
    ledger.must(set(endpoints(8)));
    assert_eq!(ledger.height(), height, "the same endpoints are no change");
}

#[test]
fn the_last_issuer_stays() {
    let mut ledger = two();
    let unknown = ledger.refused(issuer("edge-x", 10, 11));
    assert!(matches!(unknown, Rejected::UnknownMember { .. }));
    ledger.must(issuer("edge-a", 10, 11));
    let last = Rejected::LastIssuer { node: "edge-a".to_owned() };
    assert_eq!(ledger.refused(revoke("edge-a")), last);
    assert_eq!(ledger.refused(leave("edge-a")), last);
    let same = ledger.refused(issuer("edge-b", 10, 12));
    assert_eq!(same, Rejected::KeysHeld { by: "edge-a".to_owned() });
    let log_is_issuer = ledger.refused(issuer("edge-b", 12, 12));
    assert_eq!(log_is_issuer, Rejected::KeysHeld { by: "edge-b".to_owned() });
    ledger.must(issuer("edge-b", 12, 13));
    let renewed = ledger.must(issuer("edge-b", 12, 13));
    assert!(matches!(renewed, Effect::IssuerAdded { renewed: true, .. }));
    assert!(matches!(ledger.refused(issuer("edge-b", 14, 15)), Rejected::IssuerKeys { .. }));
    let before = ledger.revocation_sequence();
    ledger.must(revoke("edge-a"));
    assert_eq!(ledger.revocation_sequence(), before + 1, "three keys, one sequence");
    let kinds: Vec<_> = ledger.revocations().map(|one| one.revocation.kind).collect();
    assert_eq!(kinds, [RevokedKind::Node, RevokedKind::Issuer, RevokedKind::Log]);
    assert_eq!(ledger.issuers().map(|(name, _)| name).collect::<Vec<_>>(), ["edge-b"]);
}

#[test]
fn an_issuer_that_leaves_takes_its_issuing_keys_along_and_may_come_back() {
    let mut ledger = two();
    ledger.must(issuer("edge-a", 10, 11));
    ledger.must(issuer("edge-b", 12, 13));
    ledger.must(leave("edge-b"));
    let kinds: Vec<_> = ledger.revocations().map(|one| one.revocation.kind).collect();
    assert_eq!(kinds, [RevokedKind::Issuer, RevokedKind::Log]);
    ledger.must(token("edge-b", 0xb5));
    ledger.must(enrol("edge-b", 0xb5, 2));
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
