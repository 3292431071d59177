//! From the configured peers to what workers use: numbers and the forwarding table.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Result;
use stoq::PeerId;
use stoq_tunnel::forward::Table;

use crate::config::Peer;
use crate::worker::Peering;

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
    pub fn peering(&mut self, peers: &[Peer]) -> Result<Peering> {
        let mut entries = Vec::new();
        let mut list = Vec::new();
        for peer in peers {
            let id = self.of(&peer.name);
            entries.extend(peer.allowed_ips.iter().map(|prefix| (*prefix, id)));
            let (name, endpoints) = (peer.name.clone(), peer.endpoints.clone());
            list.push(stoq::Peer { id, name, endpoints });
        }
        Ok(Peering { peers: list, table: Arc::new(Table::build(entries)?) })
    }
}
