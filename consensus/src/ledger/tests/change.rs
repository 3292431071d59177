//! What happens to members, operators and issuers once they are there.

use super::*;

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

fn keep_revoked(kind: RevokedKind, node: &str, with: u8, sequence: u64) -> CommandV1 {
    CommandV1::KeepRevoked { keys: keys(with), kind, node: node.to_owned(), at_s: NOW, sequence }
}

#[test]
fn a_revocation_from_a_lost_part_of_the_ledger_stays_in_force_whoever_is_known_here() {
    let mut ledger = two();
    ledger.must(route("edge-b", "10.2.0.0/16"));
    let kept = ledger.must(keep_revoked(RevokedKind::Node, "edge-b", 2, 7));
    assert_eq!(kept, Effect::Revoked { node: "edge-b".to_owned(), sequence: 8 });
    assert!(ledger.member("edge-b").is_none() && ledger.is_retired("edge-b"));
    assert_eq!(ledger.revocation(&keys(2)).unwrap().sequence, 8);
    // Said again it changes nothing.
    let before = ledger.hash();
    ledger.must(keep_revoked(RevokedKind::Node, "edge-b", 2, 9));
    assert_eq!(ledger.hash(), before);
    // Nobody here has ever had these keys; a token that waits for the name is gone.
    ledger.must(token("edge-c", 0xc0));
    ledger.must(keep_revoked(RevokedKind::Node, "edge-c", 3, 1));
    assert_eq!(ledger.revocation_sequence(), 9);
    let retired = Rejected::NameRevoked { name: "edge-c".to_owned() };
    assert_eq!(ledger.refused(enrol("edge-c", 0xc0, 3)), retired);
    // Somebody else has the name by now.
    ledger.must(token("edge-d", 0xd0));
    ledger.must(enrol("edge-d", 0xd0, 4));
    ledger.must(keep_revoked(RevokedKind::Node, "edge-d", 5, u64::MAX));
    assert!(ledger.member("edge-d").is_some() && !ledger.is_retired("edge-d"));
    ledger.must(revoke("edge-d"));
    ledger.must(issuer("edge-a", 0xa1, 0xa2));
    let last = ledger.refused(keep_revoked(RevokedKind::Log, "edge-a", 0xa2, 1));
    assert!(matches!(last, Rejected::LastIssuer { .. }), "{last}");
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
