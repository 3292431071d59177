//! Neighbours: which address on the link an IP address has. Called by the resolver of next hops.

use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};

use super::{Ask, Netlink, NetlinkError, family};

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
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = interface;
        message.attributes.push(NeighbourAttribute::Destination(address.into()));
        let task = || format!("know the neighbour {address}");
        match self.request(Ask::Get, RouteNetlinkMessage::GetNeighbour(message), task) {
            Ok(answer) => Ok(answer.iter().find_map(usable)),
            Err(error) if error.is(super::libc_error::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }
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
