//! From a destination to its next hop on the interface: the kernel's route, and its neighbour.
//!
//! Asks the kernel and decides nothing by itself, so policy routing, several tables and VLANs on the
//! interface hold as they do for the kernel's own packets. What leaves by another interface has no hop
//! here and goes through the kernel.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use stoq_port::xdp::{Destination, Hop, Hops, Link};

use crate::netlink::{Interface, Netlink, NetlinkError};

/// Destinations that are kept true at most: the peers of a large mesh, and their addresses when they
/// move. When there are more, all are forgotten; those in use are asked for again.
const DESTINATIONS_MAX: usize = 4096;

/// See the module.
pub(super) struct Resolver {
    netlink: Netlink,
    mark: u32,
    wanted: HashSet<Destination>,
}

impl Resolver {
    /// `mark` is that of our packets, by which rules tell them.
    pub(super) fn new(mark: u32) -> Result<Self, NetlinkError> {
        Ok(Self { netlink: Netlink::open()?, mark, wanted: HashSet::new() })
    }

    /// From now on this destination is resolved as well.
    pub(super) fn want(&mut self, destination: Destination) {
        if self.wanted.len() >= DESTINATIONS_MAX {
            self.wanted.clear();
        }
        self.wanted.insert(destination);
    }

    /// The hops of all wanted destinations through this interface, as things are now.
    pub(super) fn hops(&mut self, interface: u32) -> Hops {
        let mut known = HashMap::new();
        let wanted: Vec<Destination> = self.wanted.iter().copied().collect();
        let hop = |destination| (destination, self.hop(interface, &destination, &mut known));
        wanted.into_iter().map(hop).collect()
    }

    /// No hop: through the kernel.
    fn hop(
        &mut self,
        interface: u32,
        to: &Destination,
        known: &mut HashMap<u32, Option<Interface>>,
    ) -> Option<Arc<Hop>> {
        let path = self.netlink.path_from(to.from, to.to, self.mark).ok()?;
        let netlink = &mut self.netlink;
        let leaves_by = known
            .entry(path.interface)
            .or_insert_with(|| netlink.interface(path.interface).ok())
            .as_ref()?;
        let tagged = leaves_by.parent == Some(interface) && leaves_by.vlan.is_some();
        if !leaves_by.up || !(leaves_by.index == interface || tagged) {
            return None;
        }
        let vlan = if tagged { leaves_by.vlan } else { None };
        let mtu = path.mtu.map_or(leaves_by.mtu, |mtu| mtu.min(leaves_by.mtu));
        let source_mac = leaves_by.mac?;
        let neighbour = netlink.neighbour(path.interface, path.gateway.unwrap_or(to.to)).ok()??;
        let source = to.from.or(path.source).filter(|source| same_family(*source, to.to))?;
        let link = Link { source: source_mac, destination: neighbour.mac, vlan };
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
        Some(Arc::new(Hop::new(link, source, mtu, neighbour.stale)))
    }

    /// What the interface with this index is; `None` when it is gone.
    pub(super) fn interface(&mut self, index: u32) -> Option<Interface> {
        self.netlink.interface(index).ok()
    }
}

fn same_family(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::testing::in_namespace;

    fn ip(arguments: &str) {
        let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
        assert!(status.success(), "ip {arguments}");
    }

    fn to(address: &str) -> Destination {
        Destination { to: address.parse().unwrap(), from: None }
    }

    /// `wan` with a gateway that is known.
    fn host() -> (Resolver, u32) {
        ip("link add wan type veth peer name other");
        for link in ["wan", "other"] {
            ip(&format!("link set {link} up"));
        }
        ip("link set wan address 02:00:00:00:00:01");
        ip("addr add 10.0.0.1/24 dev wan");
        ip("addr add fd00::1/64 dev wan nodad");
        ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev wan nud permanent");
        ip("neigh add fd00::2 lladdr 02:00:00:00:00:03 dev wan nud stale");
        ip("route add default via 10.0.0.2 mtu 1400");
        let resolver = Resolver::new(0).unwrap();
        let index = resolver.netlink.index_of("wan").unwrap();
        (resolver, index)
    }

    #[test]
    fn each_destination_has_the_hop_that_the_kernel_would_take() {
        in_namespace(|| {
            let (mut resolver, index) = host();
            for address in ["10.0.0.2", "fd00::2", "192.0.2.1", "10.0.0.9", "127.0.0.1"] {
                resolver.want(to(address));
            }
            let hops = resolver.hops(index);
            let found = |address: &str| {
                let hop = hops[&to(address)].as_ref()?;
                let last = hop.link.destination[5];
                Some((last, hop.link.vlan, hop.source.to_string(), hop.mtu))
            };
            assert_eq!(found("10.0.0.2"), Some((2, None, "10.0.0.1".into(), 1500)));
            assert_eq!(found("fd00::2"), Some((3, None, "fd00::1".into(), 1500)));
            // By the gateway, with the route's own MTU.
            assert_eq!(found("192.0.2.1"), Some((2, None, "10.0.0.1".into(), 1400)));
            // A neighbour that nobody has looked for yet, and another interface.
            assert_eq!(found("10.0.0.9"), None);
            assert_eq!(found("127.0.0.1"), None);
        });
    }

    #[test]
    fn what_leaves_by_a_vlan_of_the_interface_is_tagged() {
        in_namespace(|| {
            let (mut resolver, index) = host();
            let vlan = ["link", "add", "link", "wan", "name", "wan.7", "type", "vlan", "id", "7"];
            if !Command::new("ip").args(vlan).status().unwrap().success() {
                eprintln!("SKIPPED: this kernel has no VLANs (module 8021q)");
                return;
            }
            ip("link set wan.7 up");
            ip("addr add 10.7.0.1/24 dev wan.7");
            ip("neigh add 10.7.0.2 lladdr 02:00:00:00:00:04 dev wan.7 nud reachable");
            resolver.want(to("10.7.0.2"));
            let hop = resolver.hops(index)[&to("10.7.0.2")].clone().unwrap();
            assert_eq!((hop.link.destination[5], hop.link.vlan), (4, Some(7)));
            assert_eq!(hop.source.to_string(), "10.7.0.1");
        });
    }

    #[test]
    fn an_interface_that_is_down_has_no_hops() {
        in_namespace(|| {
            let (mut resolver, index) = host();
            resolver.want(to("10.0.0.2"));
            ip("link set wan down");
            assert!(resolver.hops(index)[&to("10.0.0.2")].is_none());
        });
    }

    #[test]
    fn a_flood_of_destinations_is_forgotten() {
        in_namespace(|| {
            let mut resolver = Resolver::new(0).unwrap();
            for n in 0..2 * DESTINATIONS_MAX as u32 {
                resolver.want(Destination { to: IpAddr::V4(n.into()), from: None });
            }
            assert!(resolver.wanted.len() <= DESTINATIONS_MAX);
        });
    }
}
