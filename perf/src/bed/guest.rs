//! Other hosts on the bed's wire: one that floods, one that a flood is aimed at, the hosts of a larger
//! mesh with their sites. Made by benchmarks and tests beside the edges; they go with the bed.

use super::{Bed, Family, Namespace, WAN, address, give_addresses, join, make_site, wire_mode};
use crate::{Error, Result};
use std::net::IpAddr;

/// A host on the bridge that is no edge.
#[derive(Debug)]
pub struct Guest {
    /// The host; its device on the wire is called as an edge's.
    pub namespace: Namespace,
    number: u8,
}

impl Guest {
    /// Its address on the wire.
    #[must_use]
    pub fn wan(&self, family: Family) -> IpAddr {
        address::wan_host(family, self.number)
    }

    /// The address of the host behind it, if [`Bed::site_of`] made one.
    #[must_use]
    pub fn site_host(&self, family: Family) -> IpAddr {
        address::site_host(self.number, family, 2)
    }

    /// The networks of its site: 10.N.0.0/16 and fd48:4d00:N::/64.
    #[must_use]
    pub fn site(&self, family: Family) -> String {
        address::site(self.number, family)
    }

    /// Drops all that arrives from the wire, before the host's network stack sees it.
    ///
    /// # Errors
    /// [`Error::Command`] when `nft` refuses.
    pub fn drop_all(&self) -> Result<()> {
        let chain = "type filter hook ingress device wan priority 0; policy drop;";
        self.namespace.nft(&format!("table netdev sink {{ chain in {{ {chain} }}\n}}\n")).map(drop)
    }
}

impl Bed {
    /// Plugs another host called `name` (at most six characters) into the bridge, with the host
    /// `number` of the wire's networks, above those of the edges and the middle.
    ///
    /// # Errors
    /// [`Error::Command`] with what the kernel refused.
    pub fn guest(&self, name: &str, number: u8) -> Result<Guest> {
        debug_assert!(number > 3, "those below are taken");
        let bed = self.middle.name().trim_end_matches("mid");
        let namespace = Namespace::create(format!("{bed}{name}"))?;
        let port = format!("m-{name}");
        join(&namespace, WAN, &self.middle, &port)?;
        self.middle.sysctl(&format!("net.ipv6.conf.{port}.disable_ipv6"), "1")?;
        self.middle.ip(&format!("link set {port} master br0 up"))?;
        let guest = Guest { namespace, number };
        let addresses = [guest.wan(Family::V4), guest.wan(Family::V6)];
        give_addresses(&guest.namespace, WAN, addresses)?;
        // The bridge must know where it is before it has said anything: what is for an unknown
        // address goes to all.
        let own = hardware_address(&guest.namespace)?;
        let words = ["fdb", "replace", &own, "dev", &port, "master", "static"];
        self.middle.run("bridge", words)?;
        Ok(guest)
    }

    /// Puts a host behind a guest, which routes through it, and gives the guest a default route, as a
    /// site's gateway to the Internet has one.
    ///
    /// # Errors
    /// [`Error::Command`] with what the kernel refused.
    pub fn site_of(&self, guest: &Guest) -> Result<Namespace> {
        wire_mode(&guest.namespace, WAN, true)?;
        for family in Family::BOTH {
            let gateway = address::middle(family);
            guest.namespace.ip(&format!("route add default via {gateway}"))?;
        }
        let name = format!("{}lan", guest.namespace.name());
        make_site(guest.number, &guest.namespace, name)
    }
}

/// The hardware address of a host on the wire.
///
/// # Errors
/// [`Error::Command`] when it has none.
pub fn hardware_address(host: &Namespace) -> Result<String> {
    let text = host.run("cat", [format!("/sys/class/net/{WAN}/address")])?;
    let text = text.trim().to_owned();
    if crate::bypass::parse_address(&text).is_some() {
        return Ok(text);
    }
    Err(Error::Output {
        what: format!("the hardware address of {WAN}"),
        expected: "six hexadecimal bytes".to_owned(),
        got: text,
    })
}
