//! Links and their addresses. Called by the broker for the tunnel device, and by the daemon for the
//! MTU of the interface towards a peer.

use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use nix::net::if_::if_nametoindex;

use super::{Ask, Netlink, NetlinkError, family, gone_is_fine};
use crate::config::InterfaceAddress;

/// What to set on a link; `None` leaves it as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkSettings {
    /// Largest packet in bytes.
    pub mtu: Option<u32>,
    /// Largest super-packet that the kernel hands over, in bytes; up to 65,536 it holds for both
    /// families.
    pub gso_max_size: Option<u32>,
    /// Whether it is up.
    pub up: Option<bool>,
}

impl Netlink {
    /// The index of the interface `name`.
    ///
    /// # Errors
    /// When there is none.
    pub fn index_of(&self, name: &str) -> Result<u32, NetlinkError> {
        let task = || format!("know the interface {name}");
        if_nametoindex(name).map_err(|errno| NetlinkError::new(task(), errno.into()))
    }

    /// Changes a link.
    ///
    /// # Errors
    /// When the kernel refuses one of the settings.
    pub fn set_link(&mut self, index: u32, settings: LinkSettings) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        if let Some(up) = settings.up {
            message.header.change_mask = LinkFlags::Up;
            message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        }
        message.attributes.extend(settings.mtu.map(LinkAttribute::Mtu));
        message.attributes.extend(settings.gso_max_size.map(LinkAttribute::GsoMaxSize));
        let task = || format!("set {settings:?} on interface {index}");
        self.request(Ask::Change, RouteNetlinkMessage::SetLink(message), task).map(drop)
    }

    /// The MTU of a link in bytes.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn mtu_of(&mut self, index: u32) -> Result<u32, NetlinkError> {
        let task = || format!("tell the MTU of interface {index}");
        let mut message = LinkMessage::default();
        message.header.index = index;
        let answer = self.request(Ask::Get, RouteNetlinkMessage::GetLink(message), task)?;
        let mtu = answer.iter().find_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => mtu_in(&link.attributes),
            _ => None,
        });
        mtu.ok_or_else(|| {
            NetlinkError::new(task(), std::io::Error::other("an answer without an MTU"))
        })
    }

    /// Adds an address; one that is there already is fine. IPv6 addresses work at once, without
    /// duplicate address detection: nobody else is on a tunnel device.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn add_address(
        &mut self,
        index: u32,
        address: InterfaceAddress,
    ) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewAddress(address_message(index, address));
        let task = || format!("add {address} to interface {index}");
        self.request(Ask::Replace, message, task).map(drop)
    }

    /// Removes an address; one that is gone already is fine.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn remove_address(
        &mut self,
        index: u32,
        address: InterfaceAddress,
    ) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelAddress(address_message(index, address));
        let task = || format!("remove {address} from interface {index}");
        gone_is_fine(self.request(Ask::Change, message, task))
    }
}

fn mtu_in(attributes: &[LinkAttribute]) -> Option<u32> {
    attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    })
}

fn address_message(index: u32, of: InterfaceAddress) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(of.address);
    message.header.index = index;
    message.header.prefix_len = of.length;
    // IPv4 tells the own address (local) from the peer's; on a network they are the same.
    message.attributes.push(AddressAttribute::Local(of.address));
    message.attributes.push(AddressAttribute::Address(of.address));
    if matches!(of.address, IpAddr::V6(_)) {
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    message
}
