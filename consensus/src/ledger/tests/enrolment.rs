//! Tokens, enrolment, addresses.

use super::*;

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
