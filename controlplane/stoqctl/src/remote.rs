//! hypermeshd on another host: its API over TLS, as an operator with a certificate (`stoqctl --api`); and
//! how an operator gets one, by a token (`stoqctl mesh enrol`), and a new one in time (`stoqctl mesh renew`).
//!
//! Both ends are verified under the mesh's root, the operator's by hypermeshd, which also decides what his
//! role allows. The keys are made here and leave this host never.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hypermesh_api::{
    Base64, BlockingClient, Client, ClientError, EnrolReply, EnrolRequest, RenewReply,
    RenewRequest, path as api,
};
use rustls::client::danger::ServerCertVerifier;
use rustls::time_provider::DefaultTimeProvider;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::Serialize;
use stoq_identity::{CertificateInfo, Kind, NodeId, Policy, PrivateKeys};
use stoq_trustchain::{
    Enrolment, Request, RootFingerprint, ServerVerifier, Token, client_config, renewal_context,
    tls_reason,
};
use tokio::net::TcpStream;

use crate::archive::new_private_file;
use crate::failure::Failure;
use crate::hypermesh::Way;
use crate::mesh::show;
use crate::output::{answer, progress};
use crate::pem;
use crate::verify::Root;

/// How long the connection and the handshake may take: as long as a packet may be resent twice.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The file with an operator's certificates and keys.
const IDENTITY: &str = "operator.pem";

/// The file with the root that it was made under.
const ROOT: &str = "root.crt";

/// Longest identity file in bytes: two certificates and two keys take a tenth of it.
const IDENTITY_MAX: u64 = 1 << 17;

/// Another host's hypermeshd.
#[derive(Debug)]
pub struct Remote {
    /// Its address and port.
    pub address: String,
    /// The operator's certificates and keys.
    pub identity: PathBuf,
    /// The mesh's root.
    pub authority: PathBuf,
}

impl Remote {
    /// Connects as the operator; each answer may take `timeout`.
    pub fn connect(&self, timeout: Duration) -> Result<BlockingClient, Failure> {
        let root = Root::read(&self.authority)?;
        let verifier = ServerVerifier(Arc::new(root.verifier(&[], Policy::Hybrid)?));
        let identity = read_identity(&self.identity)?;
        Ok(connect(&self.address, Arc::new(verifier), Some(identity), timeout)?)
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn read_identity(path: &Path) -> Result<Identity, Failure> {
    let (chain, keys) = read_keys(path)?;
    Ok((chain.into_iter().map(CertificateDer::from).collect(), keys.classical_der()))
}

/// An operator's certificates, his own first, and his keys.
fn read_keys(path: &Path) -> Result<(Vec<Vec<u8>>, PrivateKeys), Failure> {
    let wrong = |got: String| {
        Failure::Usage(format!(
            "{}: expected an operator's certificate and keys, got: {got}; make them by \
             `stoqctl mesh enrol`",
            path.display()
        ))
    };
    let length = fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if length > IDENTITY_MAX {
        return Err(wrong(format!("{length} bytes")));
    }
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let keys = PrivateKeys::from_pem(&text).map_err(|error| wrong(error.to_string()))?;
    Ok((pem::certificates(&text), keys))
}

/// The API at `address`, whose server `verifier` takes.
fn connect(
    address: &str,
    verifier: Arc<dyn ServerCertVerifier>,
    identity: Option<Identity>,
    timeout: Duration,
) -> Result<BlockingClient, ClientError> {
    let broken = |error: &dyn std::fmt::Display| ClientError::Broken(format!("{address}: {error}"));
    let config = client_config(verifier, identity, Arc::new(DefaultTimeProvider));
    let config = config.map_err(|error| broken(&error))?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    // No name is verified: the mesh is, by its root.
    let name = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
    BlockingClient::connect(async {
        let connecting = async {
            let stream = TcpStream::connect(address).await?;
            connector.connect(name, stream).await
        };
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
        let stream = stream.map_err(|_| broken(&format!("none in {CONNECT_TIMEOUT:?}")))?;
        let stream = stream.map_err(|error| broken(&reason(&error)))?;
        Client::over(stream, timeout).await
    })
}

/// Why the server is not of the mesh, if that is what ended the handshake.
fn reason(error: &std::io::Error) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    tls.and_then(tls_reason).map_or_else(|| error.to_string(), ToString::to_string)
}

/// An operator's files.
#[derive(Debug, Serialize)]
struct Enrolled {
    /// The operator's name.
    name: String,
    /// `viewer`, `operator` or `admin`.
    role: String,
    /// MESH-ID.
    mesh: String,
    /// Certificates and keys.
    identity: PathBuf,
    /// The mesh's root.
    authority: PathBuf,
    /// When the certificate ends, Unix seconds.
    not_after_s: u64,
    /// Where the mesh answered: address and port of the API.
    api: String,
}

/// `stoqctl mesh enrol DIR`: exchanges an operator's token for a certificate.
pub fn enrol(text: &str, directory: &Path, timeout: Duration, json: bool) -> Result<(), Failure> {
    let usage = |error: &dyn std::fmt::Display| Failure::Usage(error.to_string());
    let token = Token::from_text(text).map_err(|error| usage(&error))?;
    if token.kind == Kind::Node {
        return Err(usage(&"expected an operator's token, got a node's: stoqctl mesh join"));
    }
    let keys = PrivateKeys::generate().map_err(|error| usage(&error))?;
    let request = enrolment(&token, &keys)?;
    progress("Checking the mesh, enrolling ...");
    let mut last = usage(&"expected an address in the token, got none");
    for address in &token.addresses {
        let verifier = Arc::new(RootFingerprint::new(token.root, Policy::Hybrid));
        let mut client = match connect(address, Arc::clone(&verifier) as _, None, timeout) {
            Ok(client) => client,
            Err(error) => {
                last = error.into();
                continue;
            }
        };
        let reply: EnrolReply = client.post(api::ENROL, &request)?;
        let root = verifier.root().map(<[u8]>::to_vec).unwrap_or_default();
        let enrolled = write(directory, (&token, address), &keys, &reply, &root)?;
        return answer(json, &enrolled, shown);
    }
    Err(last)
}

fn enrolment(token: &Token, keys: &PrivateKeys) -> Result<EnrolRequest, Failure> {
    let usage = |error: &dyn std::fmt::Display| Failure::Usage(error.to_string());
    let id = NodeId::new(&token.mesh, &token.name).map_err(|error| usage(&error))?;
    let hash = token.hash().map_err(|error| usage(&error))?;
    let request = Request::new(keys, token.kind, &id, &hash).map_err(|error| usage(&error))?;
    let request = request.to_bytes().map_err(|error| usage(&error))?;
    let at_s = now_s();
    let proof = token.prove(&Enrolment { request: &request, endpoints: &[], at_s });
    let proof = proof.map_err(|error| usage(&error))?;
    Ok(EnrolRequest { proof: Base64(proof), request: Base64(request), endpoints: Vec::new(), at_s })
}

/// Writes what an operator shows: his certificate, the issuer's, and his keys; and the root.
fn write(
    directory: &Path,
    (token, address): (&Token, &str),
    keys: &PrivateKeys,
    reply: &EnrolReply,
    root: &[u8],
) -> Result<Enrolled, Failure> {
    let refused = |error: &dyn std::fmt::Display| Failure::Refused(error.to_string());
    let leaf = pem::certificates(&reply.certificate).into_iter().next();
    let leaf = leaf.ok_or_else(|| refused(&"expected a certificate from the issuer, got none"))?;
    let info = CertificateInfo::read(&leaf).map_err(|error| refused(&error))?;
    let bundle = stoq_mesh::Bundle::from_bytes(&reply.bundle.0).map_err(|error| refused(&error))?;
    let issuers = bundle.issuers.iter().filter(|issuer| {
        CertificateInfo::read(&issuer.certificate).is_ok_and(|issuer| issuer.subject == info.issuer)
    });
    let chain: String = issuers.map(|issuer| pem::certificate(&issuer.certificate)).collect();
    fs::create_dir_all(directory)
        .map_err(|error| Failure::writing(directory.to_owned(), &error))?;
    let (identity, authority) = (directory.join(IDENTITY), directory.join(ROOT));
    let mut file = new_private_file(&identity)?;
    let keys = keys.to_pem();
    let parts = [pem::certificate(&leaf), chain];
    let written = parts.iter().try_for_each(|part| file.write_all(part.as_bytes()));
    let written = written.and_then(|()| file.write_all(keys.as_bytes()));
    written
        .and_then(|()| file.sync_all())
        .map_err(|error| Failure::writing(identity.clone(), &error))?;
    fs::write(&authority, pem::certificate(root))
        .map_err(|error| Failure::writing(authority.clone(), &error))?;
    let not_after = info.not_after.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Enrolled {
        name: token.name.clone(),
        role: info.kind.map(|kind| kind.to_string()).unwrap_or_default(),
        mesh: token.mesh.clone(),
        identity,
        authority,
        not_after_s: not_after.as_secs(),
        api: address.to_owned(),
    })
}

fn shown(enrolled: &Enrolled) -> String {
    let Enrolled { name, role, mesh, identity, authority, not_after_s, api } = enrolled;
    format!(
        "{name} is {role} of mesh {mesh}, until {}.\n\
         Use it: stoqctl --api https://{api} --identity {} --authority {} mesh members\n\
         Before it ends, `mesh renew` instead of `mesh members` replaces it.\n",
        show::date(*not_after_s),
        identity.display(),
        authority.display()
    )
}

/// A renewed certificate.
#[derive(Debug, Serialize)]
struct Renewed {
    /// The file that it is in.
    identity: PathBuf,
    /// When it ends, Unix seconds.
    not_after_s: u64,
}

/// `stoqctl mesh renew`: exchanges an operator's certificate for a new one of the same keys.
pub fn renew(way: &Way, timeout: Duration, json: bool) -> Result<(), Failure> {
    let Way::Remote(remote) = way else {
        let text = "expected the operator whose certificate is to be renewed, got none: give --api, \
                    --identity and --authority; a node renews its own by itself";
        return Err(Failure::Usage(text.to_owned()));
    };
    let (chain, keys) = read_keys(&remote.identity)?;
    let request = renewal(&chain, &keys)?;
    let reply: RenewReply = remote.connect(timeout)?.post(api::RENEW, &request)?;
    let not_after_s = replace(&remote.identity, &keys, &reply)?;
    let renewed = Renewed { identity: remote.identity.clone(), not_after_s };
    answer(json, &renewed, |renewed| {
        format!("{} is good until {}.\n", renewed.identity.display(), show::date(not_after_s))
    })
}

fn renewal(chain: &[Vec<u8>], keys: &PrivateKeys) -> Result<RenewRequest, Failure> {
    let usage = |error: &dyn std::fmt::Display| Failure::Usage(error.to_string());
    let leaf = chain.first().ok_or_else(|| usage(&"expected a certificate, got none"))?;
    let leaf = CertificateInfo::read(leaf).map_err(|error| usage(&error))?;
    let (Some(id), Some(kind)) = (leaf.id, leaf.kind) else {
        return Err(usage(&"expected the certificate of an operator, got one of a root"));
    };
    let at_s = now_s();
    let context = renewal_context(&keys.public().fingerprint(), at_s);
    let request = Request::new(keys, kind, &id, &context).map_err(|error| usage(&error))?;
    let request = request.to_bytes().map_err(|error| usage(&error))?;
    Ok(RenewRequest { request: Base64(request), at_s })
}

/// Puts the new certificate in place of the old one, whole or not at all; returns when it ends.
fn replace(identity: &Path, keys: &PrivateKeys, reply: &RenewReply) -> Result<u64, Failure> {
    let refused = |error: &dyn std::fmt::Display| Failure::Refused(error.to_string());
    let chain = pem::certificates(&reply.certificate);
    let leaf = chain.first().ok_or_else(|| refused(&"expected a certificate, got none"))?;
    let leaf = CertificateInfo::read(leaf).map_err(|error| refused(&error))?;
    if leaf.keys != *keys.public() {
        return Err(refused(&"expected a certificate of the operator's keys, got one of others"));
    }
    let beside = identity.with_extension("pem.new");
    // Of a run that was interrupted.
    let _left = fs::remove_file(&beside);
    let mut file = new_private_file(&beside)?;
    let chain: String = chain.iter().map(|der| pem::certificate(der)).collect();
    let keys = keys.to_pem();
    let written = file.write_all(chain.as_bytes()).and_then(|()| file.write_all(keys.as_bytes()));
    written
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&beside, identity))
        .map_err(|error| Failure::writing(identity.to_owned(), &error))?;
    Ok(leaf.not_after.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
