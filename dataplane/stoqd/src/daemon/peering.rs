//! From the configured peers to what workers use: numbers and the forwarding table.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Result;
use stoq::PeerId;
use stoq_tunnel::forward::Table;

use crate::config::{Peer, Service};
use crate::worker::{Offer, Peering};

/// Numbers of peers. A name keeps its number for the life of the process, so that a reload does not
/// disturb the link of a peer that stays.
#[derive(Debug, Default)]
pub(super) struct PeerNumbers(HashMap<String, PeerId>);

impl PeerNumbers {
    /// The number of the peer with this name.
    pub fn of(&mut self, name: &str) -> PeerId {
        // The configuration is bounded in size, and so are the names of one process's life.
        let next = PeerId(u32::try_from(self.0.len()).unwrap_or(u32::MAX));
        *self.0.entry(name.to_owned()).or_insert(next)
    }

    /// What workers need to know of these peers.
    pub fn peering(&mut self, peers: &[Peer], services: &[Service]) -> Result<Peering> {
        let mut entries = Vec::new();
        let mut list = Vec::new();
        for peer in peers {
            let id = self.of(&peer.name);
            entries.extend(peer.allowed_ips.iter().map(|prefix| (*prefix, id)));
            let (name, endpoints) = (peer.name.clone(), peer.endpoints.clone());
            list.push(stoq::Peer { id, name, endpoints });
        }
        let offers = services.iter().map(|service| self.offer(service)).collect::<Result<_>>()?;
        Ok(Peering { peers: list, table: Arc::new(Table::build(entries)?), offers })
    }

    /// A service as workers know it. Its peers may not be configured (yet): they may be pushed.
    fn offer(&mut self, service: &Service) -> Result<Offer> {
        Ok(Offer {
            service: service.name.parse()?,
            socket: service.socket.clone(),
            peers: service.peers.iter().map(|name| self.of(name)).collect(),
        })
    }
}
