//! Networks behind members: each behind one, none of them the mesh's own.

use ipnet::IpNet;

use super::founding::is_reserved;
use super::tokens::check_room;
use super::{Ledger, ROUTES_MAX, ROUTES_TOTAL_MAX};
use crate::effect::Effect;
use crate::rejected::Rejected;

/// Shortest prefix of an IPv4 network: the largest that a site has is 10.0.0.0/8, and two halves of
/// the default route would be one in all but name.
const LEAST_V4: u8 = 8;
/// Shortest prefix of an IPv6 network, far above the /29 to /32 that registries give to providers.
const LEAST_V6: u8 = 16;

impl Ledger {
    pub(super) fn add_route(&mut self, node: &str, prefix: IpNet) -> Result<Effect, Rejected> {
        let member = self.known(node)?;
        check_network(prefix)?;
        self.check_apart_from_mesh(prefix)?;
        if let Some((held, by)) = self.overlapping(prefix) {
            return Err(Rejected::RouteHeld { got: prefix, held, by: by.to_owned() });
        }
        check_room("networks behind this member", member.routes.len(), ROUTES_MAX)?;
        check_room("networks behind all members", self.routes.len(), ROUTES_TOTAL_MAX)?;
        self.edit(node, |member| {
            member.routes.insert(prefix);
        })?;
        self.routes.insert(prefix, node.to_owned());
        Ok(Effect::RouteAdded { node: node.to_owned() })
    }

    pub(super) fn remove_route(&mut self, node: &str, prefix: IpNet) -> Result<Effect, Rejected> {
        if !self.known(node)?.routes.contains(&prefix) {
            return Err(Rejected::RouteUnknown { node: node.to_owned(), got: prefix });
        }
        self.edit(node, |member| {
            member.routes.remove(&prefix);
        })?;
        self.routes.remove(&prefix);
        Ok(Effect::RouteRemoved { node: node.to_owned() })
    }

    fn check_apart_from_mesh(&self, prefix: IpNet) -> Result<(), Rejected> {
        let mesh = self.founded()?;
        let own = [Some(IpNet::from(mesh.prefix)), mesh.ipv4.map(IpNet::from)];
        match own.into_iter().flatten().find(|own| overlap(*own, prefix)) {
            Some(mesh) => Err(Rejected::RouteMesh { got: prefix, mesh }),
            None => Ok(()),
        }
    }

    /// The network that overlaps this one, and whose it is. Networks are ordered by address, then
    /// length, and no two overlap: so one that contains `prefix` is the last that is not behind it,
    /// and one that lies in it is the first that is not before it.
    fn overlapping(&self, prefix: IpNet) -> Option<(IpNet, &str)> {
        let rows = self.routes.rows();
        let neighbours = [rows.range(..=prefix).next_back(), rows.range(prefix..).next()];
        let mut neighbours = neighbours.into_iter().flatten();
        let (held, by) = neighbours.find(|(held, _)| overlap(**held, prefix))?;
        Some((*held, by))
    }
}

fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

fn check_network(prefix: IpNet) -> Result<(), Rejected> {
    let least = if prefix.addr().is_ipv4() { LEAST_V4 } else { LEAST_V6 };
    if prefix.prefix_len() < least {
        let (least_v4, least_v6) = (LEAST_V4, LEAST_V6);
        return Err(Rejected::RouteWide { got: prefix, least_v4, least_v6 });
    }
    if prefix != prefix.trunc() {
        return Err(Rejected::RouteHostBits { got: prefix, expected: prefix.trunc() });
    }
    if is_reserved(prefix) {
        return Err(Rejected::RouteReserved { got: prefix });
    }
    Ok(())
}
