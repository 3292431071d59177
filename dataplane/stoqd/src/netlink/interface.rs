//! What an interface is, and the addresses of this host. Called by the resolver of next hops and by
//! the broker, which tells the XDP program which addresses are ours.

use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use super::{Ask, Netlink, NetlinkError};

/// What is known of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its index, which stays when it is renamed.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its address on the link, if that is an Ethernet.
    pub mac: Option<[u8; 6]>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
    /// The interface beneath a VLAN.
    pub parent: Option<u32>,
    /// Its 802.1Q tag, if it is a VLAN.
    pub vlan: Option<u16>,
}

impl Interface {
    pub(super) fn of(link: &LinkMessage) -> Self {
        let mut interface = Self {
            index: link.header.index,
            up: link.header.flags.contains(LinkFlags::Up),
            ..Self::default()
        };
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::IfName(name) => interface.name.clone_from(name),
                LinkAttribute::Address(bytes) => interface.mac = bytes.as_slice().try_into().ok(),
                LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
                LinkAttribute::Link(parent) => interface.parent = Some(*parent),
                LinkAttribute::LinkInfo(info) => interface.vlan = vlan(info),
                _ => {}
            }
        }
        interface
    }
}

fn vlan(info: &[LinkInfo]) -> Option<u16> {
    let data = info.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vlan(data)) => Some(data),
        _ => None,
    })?;
    data.iter().find_map(|part| match part {
        InfoVlan::Id(id) => Some(*id),
        _ => None,
    })
}

impl Netlink {
    /// What the interface with this index is.
    ///
    /// # Errors
    /// When there is none.
    pub fn interface(&mut self, index: u32) -> Result<Interface, NetlinkError> {
        let task = || format!("know interface {index}");
        let mut message = LinkMessage::default();
        message.header.index = index;
        let answer = self.request(Ask::Get, RouteNetlinkMessage::GetLink(message), task)?;
        let found = answer.iter().find_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(Interface::of(link)),
            _ => None,
        });
        found.ok_or_else(|| NetlinkError::new(task(), std::io::Error::other("an empty answer")))
    }

    /// All addresses of this host, on whichever interface.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn addresses(&mut self) -> Result<Vec<IpAddr>, NetlinkError> {
        let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answer = self.request(Ask::Dump, message, || "list its addresses".to_owned())?;
        Ok(answer.iter().filter_map(address).collect())
    }
}

/// The address in an answer: `Local` where it differs from the peer's, as on point-to-point links.
fn address(message: &RouteNetlinkMessage) -> Option<IpAddr> {
    let RouteNetlinkMessage::NewAddress(message) = message else { return None };
    let mut found = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => return Some(*address),
            AddressAttribute::Address(address) => found = Some(*address),
            _ => {}
        }
    }
    found
}
