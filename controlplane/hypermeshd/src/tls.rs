//! TLS as the API serves it: this node's certificate with the chain up to the root, operators'
//! certificates asked for and verified under the root.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hypermesh_api::{ErrorCode, Refusal};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::time_provider::TimeProvider;
use stoq_identity::{CertificateInfo, Expected, Options, Verifier};
use stoq_trustchain::{ClientVerifier, server_config, tls_reason};

use crate::app::App;
use crate::caller::Caller;
use crate::core::Membership;
use crate::files::{self, Dir};
use crate::refused::Refused;
use crate::server::{Porter, Tls};
use crate::{bundling, clock, pem};

/// The daemon's clock for rustls.
#[derive(Debug)]
pub struct Clock;

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(clock::now_s())))
    }
}

/// The configuration of the API's server.
///
/// # Errors
/// When the certificate, its issuer or the keys do not fit.
pub fn config(dir: &Dir, membership: &Membership) -> Result<Arc<ServerConfig>, Refused> {
    let ledger = membership.chain.ledger();
    let mesh = ledger.mesh().ok_or_else(|| Refused::internal("a ledger without a mesh"))?;
    let text = dir.read(files::IDENTITY)?.unwrap_or_default();
    let leaf = pem::first_certificate("the identity's certificate", &text)?;
    let issuers: Vec<&[u8]> = ledger.issuers().map(|(_, i)| i.certificate.as_slice()).collect();
    let options = Options { policy: bundling::policy(mesh.policy), ..Options::default() };
    let verifier = Verifier::with(&[&mesh.root], &mesh.id, &issuers, options);
    let verifier = Arc::new(verifier.map_err(Refused::internal)?);
    let issuer = issuer_of(&leaf, &issuers)?;
    let chain = [leaf.as_slice(), issuer, &mesh.root];
    let chain = chain.map(|der| CertificateDer::from(der.to_vec())).to_vec();
    let clients = ClientVerifier { verifier, expected: Expected::Operator, mandatory: false };
    let key = membership.keys.classical_der();
    let config = server_config(Arc::new(clients), chain, key, Arc::new(Clock));
    config.map(Arc::new).map_err(Refused::internal)
}

/// The issuer whose name the leaf bears.
pub(crate) fn issuer_of<'a>(leaf: &[u8], issuers: &[&'a [u8]]) -> Result<&'a [u8], Refused> {
    let name = CertificateInfo::read(leaf).map_err(Refused::internal)?.issuer;
    let signed = |issuer: &&&'a [u8]| {
        CertificateInfo::read(issuer).is_ok_and(|issuer| issuer.subject == name)
    };
    issuers.iter().find(signed).copied().ok_or_else(|| {
        Refused::new(
            ErrorCode::Unavailable,
            "the issuer of this node's certificate is none any more",
        )
    })
}

impl Porter for App {
    async fn turned_away(&self, what: String, reason: String) {
        self.metrics().refuse(ErrorCode::Unauthenticated);
        let refusal = Refusal::new(ErrorCode::Unauthenticated, reason);
        self.audit_refusal(&Caller::Stranger { what }, "connect", &refusal).await;
    }
}

impl Tls for App {
    async fn config(&self) -> Option<Arc<ServerConfig>> {
        match self.core(crate::core::Core::tls).await {
            Ok(config) => config,
            Err(error) => {
                tracing::warn!(%error, "cannot serve TLS");
                None
            }
        }
    }

    async fn caller(&self, address: IpAddr, leaf: Option<Vec<u8>>) -> Caller {
        let Some(leaf) = leaf else { return Caller::Anonymous { address } };
        let unknown = Caller::Stranger { what: "nobody".to_owned() };
        self.core(move |core| Ok(core.operator(&leaf))).await.unwrap_or(unknown)
    }

    async fn refused(&self, address: SocketAddr, error: &std::io::Error) {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let Some(reason) = tls.and_then(tls_reason) else { return };
        self.metrics().refuse(ErrorCode::Unauthenticated);
        let caller = Caller::Anonymous { address: address.ip().to_canonical() };
        let refusal = Refusal::new(ErrorCode::Unauthenticated, reason.to_string());
        self.audit_refusal(&caller, "connect", &refusal).await;
    }
}
