//! Members, their routes and endpoints, operators, revocation.

use hypermesh_api::{Done, Endpoints, Member, Members, Operator, Operators, Revoked, Route};
use hypermesh_consensus::{CommandV1, Effect};
use stoq_identity::NodeId;

use super::{Core, hex};
use crate::refused::Refused;
use crate::{bundling, roles};

impl Core {
    /// All members.
    ///
    /// # Errors
    /// Where there is no mesh.
    pub fn members(&mut self) -> Result<Members, Refused> {
        let ledger = self.mesh()?.chain.ledger();
        let mesh = ledger.mesh().map(|mesh| mesh.id.clone()).unwrap_or_default();
        let id = |node| NodeId::new(&mesh, node).map(|id| id.to_string()).unwrap_or_default();
        let members = ledger.members().map(|(node, member)| Member {
            node: node.to_owned(),
            id: id(node),
            issuer: ledger.issuer(node).is_some(),
            addresses: bundling::addresses(ledger, member),
            routes: member.routes.iter().copied().collect(),
            endpoints: member.endpoints.clone(),
            keys: hex(&member.keys),
        });
        let members = members.collect();
        let height = ledger.height();
        Ok(Members { mesh, height, members })
    }

    /// Cuts a node or an operator off for good.
    ///
    /// # Errors
    /// When there is no such name, or it is the last issuer.
    pub fn revoke(&mut self, name: &str, now_s: u64) -> Result<Revoked, Refused> {
        let receipt = self.submit(CommandV1::Revoke { node: name.to_owned(), at_s: now_s })?;
        let sequence = match receipt.effect {
            Effect::Revoked { sequence, .. } => sequence,
            _ => self.mesh()?.chain.ledger().revocation_sequence(),
        };
        Ok(Revoked { height: receipt.height, sequence, not_pushed: None })
    }

    /// Puts a network behind a node.
    ///
    /// # Errors
    /// When the ledger refuses: it overlaps another.
    pub fn add_route(&mut self, route: Route) -> Result<Done, Refused> {
        let Route { node, prefix } = route;
        Ok(Done { height: self.submit(CommandV1::AddRoute { node, prefix })?.height })
    }

    /// Takes a network away from a node.
    ///
    /// # Errors
    /// When it is not behind it.
    pub fn remove_route(&mut self, route: Route) -> Result<Done, Refused> {
        let Route { node, prefix } = route;
        Ok(Done { height: self.submit(CommandV1::RemoveRoute { node, prefix })?.height })
    }

    /// Says where a node is reached now; what a restored sequencer says of itself holds once it orders again.
    ///
    /// # Errors
    /// When the ledger refuses.
    pub fn set_endpoints(&mut self, node: &str, request: Endpoints) -> Result<Done, Refused> {
        if self.sets_endpoints_later(node, &request.endpoints)? {
            return Ok(Done { height: self.height() });
        }
        let (node, endpoints) = (node.to_owned(), request.endpoints);
        Ok(Done { height: self.submit(CommandV1::SetEndpoints { node, endpoints })?.height })
    }

    /// Takes a node out of the mesh, by its own will.
    ///
    /// # Errors
    /// When it is the last issuer.
    pub fn leave(&mut self, node: &str, now_s: u64) -> Result<Done, Refused> {
        Ok(Done {
            height: self.submit(CommandV1::Leave { node: node.to_owned(), at_s: now_s })?.height,
        })
    }

    /// All operators.
    ///
    /// # Errors
    /// Where there is no mesh.
    pub fn operators(&mut self) -> Result<Operators, Refused> {
        let operators = self.mesh()?.chain.ledger().operators();
        let operators = operators.map(|(name, operator)| Operator {
            name: name.to_owned(),
            role: roles::from_ledger(operator.role),
        });
        Ok(Operators { operators: operators.collect() })
    }
}
