//! The addresses of the bed, in one place: outside on the wire, inside the tunnel, and behind each
//! edge. They are those of the examples in the documentation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The UDP port that STOQ listens on.
pub const STOQ_PORT: u16 = 9292;

/// One of the two edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `edge-a`.
    A,
    /// `edge-b`.
    B,
}

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, the preferred one first.
    pub const BOTH: [Self; 2] = [Self::V6, Self::V4];
}

impl Side {
    /// The other edge.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// The name of the node.
    #[must_use]
    pub fn node(self) -> &'static str {
        match self {
            Self::A => "edge-a",
            Self::B => "edge-b",
        }
    }

    /// The letter used in names of namespaces and devices.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::A => 'a',
            Self::B => 'b',
        }
    }

    pub(super) fn number(self) -> u8 {
        match self {
            Self::A => 1,
            Self::B => 2,
        }
    }

    /// Its address on the wire, in 10.99.0.0/24 and fd00:99::/64.
    #[must_use]
    pub fn wan(self, family: Family) -> IpAddr {
        wan_host(family, self.number())
    }

    /// An address on the wire that it does not have at first, for it to move to.
    #[must_use]
    pub fn wan_moved(self, family: Family) -> IpAddr {
        wan_host(family, self.number() + 10)
    }

    /// Its address inside the tunnel, in 10.92.0.0/24 and fd48:4d00::/64.
    #[must_use]
    pub fn tunnel(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(10, 92, 0, self.number()).into(),
            Family::V6 => Ipv6Addr::new(0xfd48, 0x4d00, 0, 0, 0, 0, 0, self.number().into()).into(),
        }
    }

    /// The address of the edge in its own site.
    #[must_use]
    pub fn gateway(self, family: Family) -> IpAddr {
        self.site_host(family, 1)
    }

    /// The address of the host behind the edge.
    #[must_use]
    pub fn host(self, family: Family) -> IpAddr {
        self.site_host(family, 2)
    }

    fn site_host(self, family: Family, host: u8) -> IpAddr {
        site_host(self.number(), family, host)
    }

    /// The networks of the site: 10.N.0.0/16 and fd48:4d00:N::/64.
    #[must_use]
    pub fn site(self, family: Family) -> String {
        site(self.number(), family)
    }

    /// Where its STOQ listens.
    #[must_use]
    pub fn endpoint(self, family: Family) -> SocketAddr {
        SocketAddr::new(self.wan(family), STOQ_PORT)
    }
}

/// The address of the host in the middle, from where hostile packets are sent.
#[must_use]
pub fn middle(family: Family) -> IpAddr {
    wan_host(family, 3)
}

pub(super) fn wan_host(family: Family, host: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 99, 0, host).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0x99, 0, 0, 0, 0, 0, host.into()).into(),
    }
}

/// A host in the site of that number; the edge itself is host 1.
pub(super) fn site_host(site: u8, family: Family, host: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, site, 0, host).into(),
        Family::V6 => Ipv6Addr::new(0xfd48, 0x4d00, site.into(), 0, 0, 0, 0, host.into()).into(),
    }
}

/// The networks of the site of that number.
pub(super) fn site(site: u8, family: Family) -> String {
    match family {
        Family::V4 => format!("10.{site}.0.0/16"),
        // Hexadecimal, as in the addresses of its hosts.
        Family::V6 => format!("fd48:4d00:{site:x}::/64"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_the_documentation() {
        assert_eq!(Side::B.endpoint(Family::V6).to_string(), "[fd00:99::2]:9292");
        assert_eq!(Side::B.endpoint(Family::V4).to_string(), "10.99.0.2:9292");
        assert_eq!(Side::A.tunnel(Family::V6).to_string(), "fd48:4d00::1");
        assert_eq!(Side::B.site(Family::V4), "10.2.0.0/16");
        assert_eq!(Side::B.host(Family::V6).to_string(), "fd48:4d00:2::2");
    }
}
