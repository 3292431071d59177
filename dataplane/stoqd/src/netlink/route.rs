//! Routes: those of the tunnel, and the way to an address. Called by the broker (the former) and by
//! the daemon (the latter).

use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
    RouteType, RouteVia,
};

use super::{Ask, Netlink, NetlinkError, family, gone_is_fine, libc_error};
use crate::config::Prefix;

/// Who made a route or rule (`ip route show proto 92`): ours carry this number, so that they can be
/// found again, and nobody else's are ever touched. No protocol of rtnetlink.h has it.
pub const PROTOCOL: u8 = 92;

/// RTM_F_FIB_MATCH (rtnetlink.h): answer with the route that matches, not with its result.
const FIB_MATCH: RouteFlags = RouteFlags::from_bits_retain(0x2000);

/// A routing table of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Table(pub u32);

impl Table {
    /// The one that is used unless a rule says otherwise.
    pub const MAIN: Self = Self(254);
}

/// The way to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The interface that packets leave by.
    pub interface: u32,
    /// The next hop, unless the address is on the link itself.
    pub gateway: Option<IpAddr>,
    /// Our address that packets leave from, as the route says.
    pub source: Option<IpAddr>,
    /// The route's own MTU in bytes, if it has one.
    pub mtu: Option<u32>,
}

impl Netlink {
    /// Adds a route to `prefix` through the interface. One of ours is replaced; one that the kernel
    /// made for an address of the same interface serves as well.
    ///
    /// # Errors
    /// When another route to just this prefix is in the way, or the kernel refuses it.
    pub fn add_route(
        &mut self,
        index: u32,
        prefix: Prefix,
        table: Table,
    ) -> Result<(), NetlinkError> {
        self.remove_route(index, prefix, table)?;
        let message = RouteNetlinkMessage::NewRoute(route_message(index, prefix, table));
        let task = || format!("add the route to {prefix} through interface {index}");
        match self.request(Ask::Create, message, task) {
            Err(error) if error.is(libc_error::EEXIST) && self.leads_to(index, prefix) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Removes our route to `prefix`; one that is gone already is fine.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn remove_route(
        &mut self,
        index: u32,
        prefix: Prefix,
        table: Table,
    ) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelRoute(route_message(index, prefix, table));
        let task = || format!("remove the route to {prefix} through interface {index}");
        gone_is_fine(self.request(Ask::Change, message, task))
    }

    /// The way that packets with this mark take to an address.
    ///
    /// # Errors
    /// When there is none.
    pub fn path_to(&mut self, address: IpAddr, mark: u32) -> Result<Path, NetlinkError> {
        self.path_from(None, address, mark)
    }

    /// The way that packets with this mark take from one of our addresses.
    ///
    /// # Errors
    /// When there is none.
    pub fn path_from(
        &mut self,
        source: Option<IpAddr>,
        address: IpAddr,
        mark: u32,
    ) -> Result<Path, NetlinkError> {
        self.look_up(source, address, mark, RouteFlags::empty())
    }

    /// Whether the route to just this prefix leads through the interface.
    fn leads_to(&mut self, index: u32, prefix: Prefix) -> bool {
        let path = self.look_up(None, prefix.address(), 0, FIB_MATCH);
        path.is_ok_and(|path| path.interface == index)
    }

    fn look_up(
        &mut self,
        source: Option<IpAddr>,
        address: IpAddr,
        mark: u32,
        flags: RouteFlags,
    ) -> Result<Path, NetlinkError> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(address);
        message.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
        message.header.flags = flags;
        message.attributes.push(RouteAttribute::Destination(address.into()));
        if let Some(source) = source {
            message.header.source_prefix_length = if source.is_ipv4() { 32 } else { 128 };
            message.attributes.push(RouteAttribute::Source(source.into()));
        }
        if mark != 0 {
            message.attributes.push(RouteAttribute::Mark(mark));
        }
        let task = || format!("know a route to {address}");
        let answer = self.request(Ask::Get, RouteNetlinkMessage::GetRoute(message), task)?;
        let path = answer.into_iter().find_map(|message| match message {
            RouteNetlinkMessage::NewRoute(route) => path_of(&route),
            _ => None,
        });
        path.ok_or_else(|| {
            NetlinkError::new(task(), std::io::Error::other("a route without an interface"))
        })
    }
}

fn path_of(route: &RouteMessage) -> Option<Path> {
    let mut interface = None;
    let (mut gateway, mut source, mut mtu) = (None, None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => interface = Some(*index),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::Via(RouteVia::Inet6(address)) => gateway = Some((*address).into()),
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    interface.map(|interface| Path { interface, gateway, source, mtu })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

fn route_message(index: u32, prefix: Prefix, table: Table) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = family(prefix.address());
    header.destination_prefix_length = prefix.length();
    header.protocol = RouteProtocol::Other(PROTOCOL);
    // IPv4 needs the scope: no gateway is on the way. IPv6 has none.
    let v4 = prefix.address().is_ipv4();
    header.scope = if v4 { RouteScope::Link } else { RouteScope::Universe };
    header.kind = RouteType::Unicast;
    message.attributes.push(RouteAttribute::Table(table.0));
    message.attributes.push(RouteAttribute::Destination(prefix.address().into()));
    message.attributes.push(RouteAttribute::Oif(index));
    message
}
