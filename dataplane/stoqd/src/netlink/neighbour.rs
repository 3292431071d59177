//! Neighbours: which address on the link an IP address has. Called by the resolver of next hops.

use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};

use super::{Ask, Netlink, NetlinkError, family, gone_is_fine};

/// A neighbour that packets can be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its address on the link.
    pub mac: [u8; 6],
    /// The kernel has not heard of it for a while, and looks only when it has a packet for it.
    pub stale: bool,
}

impl Netlink {
    /// The neighbour with this address on the interface; `None` while the kernel does not know it.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn neighbour(
        &mut self,
        interface: u32,
        address: IpAddr,
    ) -> Result<Option<Neighbour>, NetlinkError> {
        let message = message(interface, address);
        let task = || format!("know the neighbour {address}");
        match self.request(Ask::Get, RouteNetlinkMessage::GetNeighbour(message), task) {
            Ok(answer) => Ok(answer.iter().find_map(usable)),
            Err(error) if error.is(super::libc_error::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Netlink {
    /// Adds a neighbour that is never looked for; one with this address that is there is replaced.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn add_neighbour(
        &mut self,
        interface: u32,
        address: IpAddr,
        mac: [u8; 6],
    ) -> Result<(), NetlinkError> {
        let mut message = message(interface, address);
        message.header.state = NeighbourState::Permanent;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        let task = || format!("add the neighbour {address}");
        self.request(Ask::Replace, RouteNetlinkMessage::NewNeighbour(message), task).map(drop)
    }

    /// Removes a neighbour; one that is gone already is fine.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn remove_neighbour(
        &mut self,
        interface: u32,
        address: IpAddr,
    ) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelNeighbour(message(interface, address));
        let task = || format!("remove the neighbour {address}");
        gone_is_fine(self.request(Ask::Change, message, task))
    }
}

fn message(interface: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = interface;
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    message
}

fn usable(message: &RouteNetlinkMessage) -> Option<Neighbour> {
    use NeighbourState::{Delay, Noarp, Permanent, Probe, Reachable, Stale};
    let RouteNetlinkMessage::NewNeighbour(message) = message else { return None };
    let state = message.header.state;
    if !matches!(state, Delay | Noarp | Permanent | Probe | Reachable | Stale) {
        return None;
    }
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => bytes.as_slice().try_into().ok(),
        _ => None,
    })?;
    Some(Neighbour { mac, stale: state == Stale })
}
