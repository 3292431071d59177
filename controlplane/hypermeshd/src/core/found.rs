//! Founding a mesh, and making issuers.

use hypermesh_api::{
    AddIssuerRequest, Base64, Done, ErrorCode, FoundReply, FoundRequest, IssuerRequest,
    IssuerRequestOf,
};
use hypermesh_consensus::{Command, CommandV1, Founder, Policy as LedgerPolicy};
use stoq_identity::{
    Expected, Kind, NodeId, Options, PrivateKeys, Role, Verifier, mesh_id, root_keys,
};
use stoq_trustchain::{Prefixes, Request};

use super::{Core, Standing};
use crate::bundling;
use crate::chain::Chain;
use crate::clock;
use crate::files;
use crate::identity;
use crate::pem;
use crate::refused::Refused;
use crate::store::{Change, STANDING};

/// The certificates that make an issuer, verified under the root.
struct Certificates {
    root: Vec<u8>,
    issuer: Vec<u8>,
    issuer_keys: [u8; 32],
    log: Vec<u8>,
    log_keys: [u8; 32],
}

impl Core {
    /// Makes the keys of an issuer and its log, once, and returns what the root signs.
    ///
    /// # Errors
    /// When the names are invalid, or the node or mesh is another than this one.
    pub fn issuer_request(&mut self, of: &IssuerRequestOf) -> Result<IssuerRequest, Refused> {
        if let Ok(membership) = self.mesh() {
            let mesh = membership.chain.ledger().mesh().map(|mesh| mesh.id.clone());
            let own = (mesh.unwrap_or_default(), membership.standing.node.clone());
            if own != (of.mesh.clone(), of.node.clone()) {
                let text = format!(
                    "this host is {} of mesh {}, not {} of {}",
                    own.1, own.0, of.node, of.mesh
                );
                return Err(Refused::new(ErrorCode::Initialised, text));
            }
        }
        let id = NodeId::new(&of.mesh, &of.node).map_err(invalid)?;
        let request = |file, kind| -> Result<Base64, Refused> {
            let keys = identity::keys_or_new(&self.dir, file)?;
            let request = Request::new(&keys, kind, &id, &[]).map_err(Refused::internal)?;
            Ok(Base64(request.to_bytes().map_err(Refused::internal)?))
        };
        let issuer = request(files::ISSUER_KEYS, Kind::Issuer)?;
        let log = request(files::LOG_KEYS, Kind::Log)?;
        Ok(IssuerRequest { node: of.node.clone(), issuer, log })
    }

    /// Founds a mesh: this node is its first member, its first issuer and its sequencer. Said again
    /// after it was interrupted, it goes on.
    ///
    /// # Errors
    /// When there is another mesh here already, or the certificates do not fit.
    pub fn found(&mut self, request: &FoundRequest) -> Result<FoundReply, Refused> {
        let interrupted =
            self.membership.as_ref().is_some_and(|m| m.issuer.is_none() && m.standing.sequencer);
        if !interrupted {
            self.no_mesh()?;
        }
        let policy = policy(request.policy.as_deref())?;
        let root = pem::first_certificate("the root's certificate", &request.root)?;
        let root_keys = root_keys(&root, bundling::policy(policy)).map_err(invalid)?;
        let mesh = mesh_id(&request.name, &root_keys).map_err(invalid)?;
        let certificates = self.certificates(&mesh, policy, root, &request.issuer, &request.log)?;
        let keys = identity::keys_or_new(&self.dir, files::NODE_KEYS)?;
        if !interrupted {
            // Of a restore that failed: there is no mesh here.
            self.dir.remove(files::RESTORING)?;
            self.write_first(request, &mesh, policy, &certificates, &keys)?;
            self.reopen()?;
        }
        self.dir.write(files::ROOT, 0o644, pem::certificate(&certificates.root).as_bytes())?;
        self.submit(add_issuer(&request.node, certificates))?;
        self.reopen()?;
        self.renew_self()?;
        self.founded()
    }

    fn write_first(
        &mut self,
        request: &FoundRequest,
        mesh: &str,
        policy: LedgerPolicy,
        certificates: &Certificates,
        keys: &PrivateKeys,
    ) -> Result<(), Refused> {
        let command = CommandV1::Found {
            mesh: mesh.to_owned(),
            name: request.name.clone(),
            prefix: Prefixes::of(mesh, request.ipv4).ipv6,
            ipv4: request.ipv4,
            policy,
            root: certificates.root.clone(),
            founder: Founder {
                node: request.node.clone(),
                keys: keys.public().fingerprint(),
                endpoints: request.endpoints.clone(),
            },
            at_s: clock::now_s(),
        };
        let standing = Standing { node: request.node.clone(), sequencer: true, left: false };
        let standing = postcard::to_stdvec(&standing).map_err(Refused::internal)?;
        let change = Change { values: vec![(STANDING, standing)], ..Change::default() };
        let mut chain = Chain::open(&self.store, true)?;
        match chain.submit(Command::V1(command), change) {
            Some(receipt) => receipt.map(drop).map_err(Into::into),
            None => Err(Refused::internal("a sequencer that does not decide")),
        }
    }

    /// Verifies that the root signed this daemon's issuer keys and log keys.
    fn certificates(
        &self,
        mesh: &str,
        policy: LedgerPolicy,
        root: Vec<u8>,
        issuer: &str,
        log: &str,
    ) -> Result<Certificates, Refused> {
        let issuer = pem::first_certificate("the issuer's certificate", issuer)?;
        let log = pem::first_certificate("the log's certificate", log)?;
        let options = Options { policy: bundling::policy(policy), ..Options::default() };
        let verifier = Verifier::with(&[&root], mesh, &[&issuer], options).map_err(invalid)?;
        let now = clock::system_time();
        let of_issuer = verifier.verify_issuer(&issuer, now).map_err(invalid)?;
        let none: &[&[u8]] = &[];
        let of_log = verifier.verify_as(Expected::Log, &log, none, Role::Client, now);
        let of_log = of_log.map_err(invalid)?;
        let (issuer_keys, log_keys) = (of_issuer.keys.fingerprint(), of_log.keys.fingerprint());
        Ok(Certificates { root, issuer, issuer_keys, log, log_keys })
    }

    /// What a founding or joining reports.
    ///
    /// # Errors
    /// Where there is no mesh.
    pub(crate) fn founded(&mut self) -> Result<FoundReply, Refused> {
        let path = |dir: &files::Dir, name| dir.path(name).display().to_string();
        let (identity, root) = (path(&self.dir, files::IDENTITY), path(&self.dir, files::ROOT));
        let membership = self.mesh()?;
        let ledger = membership.chain.ledger();
        let node = membership.standing.node.clone();
        let (Some(mesh), Some(member)) = (ledger.mesh(), ledger.member(&node)) else {
            return Err(Refused::internal("a ledger without this node"));
        };
        let addresses = bundling::addresses(ledger, member);
        let (prefix, ipv4) = (mesh.prefix, mesh.ipv4);
        Ok(FoundReply { mesh: mesh.id.clone(), node, prefix, ipv4, addresses, identity, root })
    }

    /// Makes a member an issuer.
    ///
    /// # Errors
    /// When the certificates are not signed by the root, or the ledger refuses.
    pub fn promote(&mut self, request: &AddIssuerRequest) -> Result<Done, Refused> {
        let mesh = self.mesh()?.chain.ledger().mesh().cloned();
        let mesh = mesh.ok_or_else(|| Refused::internal("a ledger without a mesh"))?;
        let (issuer, log) = (&request.issuer, &request.log);
        let certificates = self.certificates(&mesh.id, mesh.policy, mesh.root, issuer, log)?;
        let height = self.submit(add_issuer(&request.node, certificates))?.height;
        Ok(Done { height })
    }
}

fn add_issuer(node: &str, certificates: Certificates) -> CommandV1 {
    CommandV1::AddIssuer {
        node: node.to_owned(),
        keys: certificates.issuer_keys,
        certificate: certificates.issuer,
        log: certificates.log_keys,
        log_certificate: certificates.log,
    }
}

fn policy(text: Option<&str>) -> Result<LedgerPolicy, Refused> {
    match text {
        None | Some("hybrid") => Ok(LedgerPolicy::Hybrid),
        Some("classical") => Ok(LedgerPolicy::Classical),
        Some(other) => {
            Err(invalid(format!("expected the policy hybrid or classical, got {other:?}")))
        }
    }
}

fn invalid(error: impl std::fmt::Display) -> Refused {
    Refused::new(ErrorCode::Invalid, error.to_string())
}
