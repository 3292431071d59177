//! Tests against the real kernel, each in a network namespace of its own.

use std::process::Command;

use netlink_packet_route::link::{LinkAttribute, LinkMessage};

use super::*;
use crate::config::InterfaceAddress;
use crate::netlink::link::LinkSettings;
use crate::testing::in_namespace;

/// What `ip` prints, to compare with what was asked for.
fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn ip_ok(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// A namespace with the link `d0`, up, and its index.
fn with_link(test: impl FnOnce(&mut Netlink, u32) + Send + 'static) {
    in_namespace(|| {
        ip_ok("link add d0 type veth peer name d1");
        ip_ok("link set d1 up");
        let mut netlink = Netlink::open().unwrap();
        let index = netlink.index_of("d0").unwrap();
        let settings = LinkSettings { up: Some(true), ..LinkSettings::default() };
        netlink.set_link(index, settings).unwrap();
        test(&mut netlink, index);
    });
}

/// What `ip` of Debian 12 does not show; kernels before 6.3 have one limit for both families.
fn gso_ipv4_max_size(netlink: &mut Netlink, index: u32) -> Option<u32> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    let task = || "tell of a link".to_owned();
    let answer = netlink.request(Ask::Get, RouteNetlinkMessage::GetLink(message), task).unwrap();
    let RouteNetlinkMessage::NewLink(link) = &answer[0] else { panic!("{answer:?}") };
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::GsoIpv4MaxSize(size) => Some(*size),
        _ => None,
    })
}

#[test]
fn a_link_takes_its_settings() {
    with_link(|netlink, index| {
        let settings = LinkSettings { mtu: Some(1380), gso_max_size: Some(61_600), up: Some(true) };
        netlink.set_link(index, settings).unwrap();
        assert_eq!(netlink.mtu_of(index).unwrap(), 1380);
        let shown = ip("-d link show d0");
        assert!(shown.contains("gso_max_size 61600"), "{shown}");
        assert!(gso_ipv4_max_size(netlink, index).is_none_or(|size| size == 61_600));
        assert!(shown.contains(",UP"), "{shown}");
    });
}

#[test]
fn addresses_come_and_go() {
    with_link(|netlink, index| {
        for text in ["10.92.0.1/24", "fd48:4d00::1/64"] {
            let address: InterfaceAddress = text.parse().unwrap();
            netlink.add_address(index, address).unwrap();
            netlink.add_address(index, address).unwrap();
            let shown = ip("-o addr show dev d0 -tentative");
            assert!(shown.contains(text), "{shown}");
            netlink.remove_address(index, address).unwrap();
            netlink.remove_address(index, address).unwrap();
            assert!(!ip("addr show dev d0").contains(text));
        }
    });
}

#[test]
fn routes_come_and_go_and_can_be_found_again() {
    with_link(|netlink, index| {
        for (text, show) in [
            ("10.2.0.0/16", "route show proto 92"),
            ("0.0.0.0/0", "route show proto 92"),
            ("fd01::/48", "-6 route show proto 92"),
            ("::/0", "-6 route show proto 92"),
        ] {
            let prefix = text.parse().unwrap();
            netlink.add_route(index, prefix, Table::MAIN).unwrap();
            netlink.add_route(index, prefix, Table::MAIN).unwrap();
            assert_eq!(ip(show).lines().count(), 1, "{}", ip(show));
            let path = netlink.path_to(prefix.address(), 7);
            if !prefix.address().is_unspecified() {
                let path = path.unwrap();
                assert_eq!((path.interface, path.gateway, path.mtu), (index, None, None));
            }
            netlink.remove_route(index, prefix, Table::MAIN).unwrap();
            netlink.remove_route(index, prefix, Table::MAIN).unwrap();
            assert_eq!(ip(show), "");
        }
    });
}

#[test]
fn a_foreign_route_is_neither_replaced_nor_removed() {
    with_link(|netlink, index| {
        ip_ok("route add 10.2.0.0/16 dev d1");
        let prefix = "10.2.0.0/16".parse().unwrap();
        let error = netlink.add_route(index, prefix, Table::MAIN).unwrap_err().to_string();
        assert!(error.contains("route to 10.2.0.0/16") && error.contains("remove"), "{error}");
        netlink.remove_route(index, prefix, Table::MAIN).unwrap();
        assert!(ip("route show").contains("10.2.0.0/16 dev d1"));
    });
}

#[test]
fn the_kernels_own_route_of_the_same_interface_serves() {
    with_link(|netlink, index| {
        netlink.add_address(index, "10.92.0.1/24".parse().unwrap()).unwrap();
        netlink.add_route(index, "10.92.0.0/24".parse().unwrap(), Table::MAIN).unwrap();
    });
}

#[test]
fn the_mtu_of_a_route_is_told() {
    with_link(|netlink, index| {
        ip_ok("route add 10.9.0.0/16 dev d0 mtu 1300");
        let path = netlink.path_to("10.9.1.1".parse().unwrap(), 0).unwrap();
        assert_eq!((path.interface, path.gateway, path.mtu), (index, None, Some(1300)));
        assert!(netlink.path_to("192.0.2.1".parse().unwrap(), 0).is_err());
    });
}

#[test]
fn rules_come_and_go_and_stale_ones_are_found() {
    with_link(|netlink, _| {
        for v6 in [false, true] {
            let show = if v6 { "-6 rule show" } else { "rule show" };
            let before = ip(show);
            let table = Table(9_200);
            let unless =
                Rule { v6, priority: 5201, table, unless_mark: Some(21332), longer_than: None };
            let main = Table::MAIN;
            let main =
                Rule { v6, priority: 5200, table: main, unless_mark: None, longer_than: Some(0) };
            for rule in [unless, main, main] {
                netlink.add_rule(rule).unwrap();
            }
            let shown = ip(show);
            assert!(shown.contains("not from all fwmark 0x5354 lookup 9200"), "{shown}");
            assert!(shown.contains("lookup main suppress_prefixlength 0"), "{shown}");
            assert_eq!(shown.lines().count(), before.lines().count() + 2, "{shown}");
            netlink.remove_rule(unless).unwrap();
            netlink.remove_rule(unless).unwrap();
            assert_eq!(netlink.remove_stale_rules(5300..5400).unwrap(), 0);
            assert_eq!(netlink.remove_stale_rules(5200..5300).unwrap(), 1);
            assert_eq!(ip(show), before);
        }
    });
}

#[test]
fn an_absent_interface_is_named() {
    let error = Netlink::open().unwrap().index_of("no-such-if").unwrap_err().to_string();
    assert!(error.contains("no-such-if"), "{error}");
}
