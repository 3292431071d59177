//! What the tasks ask of the state: whether there is something to follow, to fetch, to renew; who
//! an operator is; how TLS is served now.

use std::net::SocketAddr;
use std::sync::Arc;

use hypermesh_api::{Base64, RenewRequest};
use rustls::ServerConfig;
use stoq_identity::{CertificateInfo, Kind, NodeId, root_keys};
use stoq_trustchain::{Request, renewal_context};

use super::{Core, Phase, Standing};
use crate::caller::Caller;
use crate::refused::Refused;
use crate::store::{Change, STANDING};
use crate::term::number;
use crate::{bundling, roles, tls};

impl Core {
    /// Whether this daemon follows a sequencer.
    #[must_use]
    pub fn follows(&self) -> bool {
        let membership = self.membership.as_ref().filter(|m| !m.standing.left);
        membership.is_some_and(|m| !m.standing.sequencer)
    }

    /// Number of the newest bundle here.
    ///
    /// # Errors
    /// Where there is no mesh.
    pub fn bundle_number(&mut self) -> Result<u64, Refused> {
        let membership = self.mesh()?;
        let made = number(membership.term, membership.chain.ledger().height());
        Ok(if membership.issuer.is_some() { made } else { membership.taken })
    }

    /// Whether the bundle here is older than the ledger.
    #[must_use]
    pub fn needs_bundle(&self) -> bool {
        let membership = self.membership.as_ref().filter(|m| m.issuer.is_none());
        membership.is_some_and(|m| m.taken < number(m.term, m.chain.ledger().height()))
    }

    /// Whether this node's certificate has to be renewed now, or is missing.
    #[must_use]
    pub fn renewal_is_due(&self, now_s: u64) -> bool {
        let member = self.membership.as_ref().is_some_and(|m| {
            !m.standing.left
                && m.phase != Phase::Superseded
                && m.chain.ledger().member(&m.standing.node).is_some()
        });
        member
            && self.certificate.is_none_or(|certificate| {
                // A clock that was set back leaves a certificate of the future.
                now_s >= certificate.renew_at_s || now_s < certificate.not_before_s
            })
    }

    /// Whether this node issues, and which others do.
    ///
    /// # Errors
    /// Where there is no mesh.
    pub fn issuers(&mut self) -> Result<(bool, Vec<String>), Refused> {
        let membership = self.mesh()?;
        let own = &membership.standing.node;
        let others = membership.chain.ledger().issuers().map(|(node, _)| node.to_owned());
        let others = others.filter(|node| node != own).collect();
        Ok((membership.issuer.is_some(), others))
    }

    /// The request by which another issuer renews this node's certificate.
    ///
    /// # Errors
    /// Where there is no mesh.
    pub fn renewal_request(&mut self, at_s: u64) -> Result<RenewRequest, Refused> {
        let membership = self.mesh()?;
        let mesh = membership.chain.ledger().mesh().map(|mesh| mesh.id.clone()).unwrap_or_default();
        let id = NodeId::new(&mesh, &membership.standing.node).map_err(Refused::internal)?;
        let context = renewal_context(&membership.keys.public().fingerprint(), at_s);
        let request = Request::new(&membership.keys, Kind::Node, &id, &context);
        let request = request.map_err(Refused::internal)?.to_bytes().map_err(Refused::internal)?;
        Ok(RenewRequest { request: Base64(request), at_s })
    }

    /// Where the API of a node is, if on the port that this host's is on, and the fingerprint of the root that it must be of.
    ///
    /// # Errors
    /// Where there is no mesh.
    pub fn api_of(&mut self, node: &str) -> Result<(Vec<SocketAddr>, [u8; 32]), Refused> {
        let port = self.api_port;
        let ledger = self.mesh()?.chain.ledger();
        let mesh = ledger.mesh().ok_or_else(|| Refused::internal("a ledger without a mesh"))?;
        let policy = bundling::policy(mesh.policy);
        let root = root_keys(&mesh.root, policy).map_err(Refused::internal)?.fingerprint();
        let endpoints = ledger.member(node).map(|member| member.endpoints.as_slice());
        let on_tcp = |endpoint: &SocketAddr| SocketAddr::new(endpoint.ip(), port);
        Ok((endpoints.unwrap_or_default().iter().map(on_tcp).collect(), root))
    }

    /// Remembers that this node left its mesh.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn left(&mut self) -> Result<(), Refused> {
        let standing = Standing { left: true, ..self.mesh()?.standing.clone() };
        let bytes = postcard::to_stdvec(&standing).map_err(Refused::internal)?;
        self.store.write(&Change { values: vec![(STANDING, bytes)], ..Change::default() })?;
        self.mesh()?.standing = standing;
        Ok(())
    }

    /// Who shows this certificate: the ledger says what role its keys have now.
    #[must_use]
    pub fn operator(&self, leaf: &[u8]) -> Caller {
        let stranger = |what: &str| Caller::Stranger { what: what.to_owned() };
        let Some(membership) = &self.membership else {
            return stranger("nobody: there is no mesh");
        };
        let ledger = membership.chain.ledger();
        let Ok(info) = CertificateInfo::read(leaf) else {
            return stranger("a certificate that cannot be read");
        };
        let keys = info.keys.fingerprint();
        if let Some(revocation) = ledger.revocation(&keys) {
            return stranger(&format!("the revoked operator {}", revocation.node));
        }
        match ledger.operators().find(|(_, operator)| operator.keys == keys) {
            Some((name, operator)) => {
                Caller::Operator { name: name.to_owned(), role: roles::from_ledger(operator.role) }
            }
            None => stranger("a certificate of no operator that the ledger knows"),
        }
    }

    /// The TLS configuration for the certificate and the ledger as they are now; none without them.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn tls(&mut self) -> Result<Option<Arc<ServerConfig>>, Refused> {
        let Some(membership) = &self.membership else { return Ok(None) };
        let Some(certificate) = &self.certificate else { return Ok(None) };
        let key = (certificate.not_before_s, membership.chain.ledger().height());
        if let Some((not_before_s, height, config)) = &self.tls
            && (*not_before_s, *height) == key
        {
            return Ok(Some(Arc::clone(config)));
        }
        let config = tls::config(&self.dir, membership)?;
        self.tls = Some((key.0, key.1, Arc::clone(&config)));
        Ok(Some(config))
    }
}
