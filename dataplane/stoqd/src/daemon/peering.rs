//! From the configured peers to what workers use: numbers and the forwarding table.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Result;
use stoq::PeerId;
use stoq_tunnel::forward::Table;

use crate::config::{Allowed, Service};
use crate::control::Known;
use crate::worker::{Offer, Peering, Users};

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
    pub fn peering(&mut self, peers: &[Known], services: &[Service]) -> Result<Peering> {
        let mut entries = Vec::new();
        let mut list = Vec::new();
        for Known { peer, keys } in peers {
            let id = self.of(&peer.name);
            entries.extend(peer.allowed_ips.iter().map(|prefix| (*prefix, id)));
            let (name, endpoints) = (peer.name.clone(), peer.endpoints.clone());
            list.push(stoq::Peer { id, name, endpoints, keys: *keys });
        }
        let offers = services.iter().map(|service| self.offer(service)).collect::<Result<_>>()?;
        Ok(Peering { peers: list, table: Arc::new(Table::build(entries)?), offers })
    }

    /// A service as workers know it. Its peers may not be configured (yet): they may be pushed.
    fn offer(&mut self, service: &Service) -> Result<Offer> {
        let peers = match &service.peers {
            Allowed::All => Users::All,
            Allowed::These(names) => Users::These(names.iter().map(|name| self.of(name)).collect()),
        };
        let (socket, announce) = (service.socket.clone(), service.announce);
        Ok(Offer { service: service.name.parse()?, socket, peers, announce })
    }
}
