//! `stoqctl mesh create`: a new mesh, with this host as its first node, issuer and sequencer.
//!
//! The root's keys are made here and never leave this program but for the directory that the operator
//! carries away. hypermeshd makes the issuer's keys and gets them signed.

use std::path::PathBuf;
use std::time::SystemTime;

use hypermesh_api::{
    ErrorCode, FoundReply, FoundRequest, IssuerRequest, IssuerRequestOf, Refusal, State, Status,
    path,
};
use nix::unistd::gethostname;
use serde::Serialize;
use stoq_trustchain::Authority;

use super::host::{self, Prepared};
use super::{Sockets, root, show};
use crate::cli::Create;
use crate::failure::Failure;
use crate::hypermesh::connect;
use crate::output::{answer, progress};
use crate::pem;

/// What was made.
#[derive(Debug, Serialize)]
struct Created {
    #[serde(flatten)]
    reply: FoundReply,
    /// The directory of the root's keys.
    root_directory: PathBuf,
    #[serde(flatten)]
    host: Prepared,
}

/// Carries out the command.
pub fn run(sockets: Sockets, create: &Create, json: bool) -> Result<(), Failure> {
    let now = SystemTime::now();
    sockets.hypermesh.local()?;
    let node = create.node.clone().map_or_else(host_name, Ok)?;
    root::check_free(&create.root)?;
    let mut client = connect(sockets.hypermesh)?;
    let status: Status = client.get(path::STATUS)?;
    if status.state != State::Uninitialised {
        return Err(belongs_to(&status));
    }
    progress("Making the root's keys ...");
    let authority = root::make(&create.name, now)?;
    let of = IssuerRequestOf { mesh: authority.mesh().to_owned(), node: node.clone() };
    let request: IssuerRequest = client.post(path::ISSUER_REQUEST, &of)?;
    let signed = root::sign(&authority, &request, create.ipv4, now)?;
    // Before the mesh: one whose root is lost could never get another issuer.
    root::write(&authority, &create.root)?;
    let found = found_request(create, node, &authority, signed);
    progress("Founding the mesh ...");
    let reply: Result<FoundReply, _> = client.post(path::FOUND, &found);
    let reply = reply.map_err(Failure::from).inspect_err(|failure| {
        if matches!(failure, Failure::Refused(_)) {
            root::remove(&create.root);
        }
    })?;
    let mut host = host::prepare(sockets, &create.host, &reply)?;
    host.settle_names(sockets.hypermesh);
    let created = Created { reply, root_directory: create.root.clone(), host };
    answer(json, &created, shown)
}

fn found_request(
    create: &Create,
    node: String,
    authority: &Authority,
    signed: root::Signed,
) -> FoundRequest {
    FoundRequest {
        name: create.name.clone(),
        node,
        root: pem::certificate(authority.certificate()),
        issuer: signed.issuer,
        log: signed.log,
        ipv4: create.ipv4,
        endpoints: host::endpoints(&create.host),
        policy: None,
    }
}

fn shown(created: &Created) -> String {
    let Created { reply, root_directory, host } = created;
    let addresses = show::list(reply.addresses.iter().map(ipnet::IpNet::addr));
    let root = root_directory.display();
    format!(
        "Mesh {} made. This host is {}: {addresses}\n\n\
         {root} holds the root's key. It signs issuers, nothing else needs it: move it to where no \
         network reaches it, and bring it back for `stoqctl mesh promote NODE`, at the latest within \
         a year, when this host's issuer ends.\n\n\
         {}Next: stoqctl mesh token NODE, for each further host.\n",
        reply.mesh,
        reply.node,
        host.shown()
    )
}

/// The host's own name up to the first dot, as a node is called.
fn host_name() -> Result<String, Failure> {
    let name = gethostname().map_err(|errno| {
        Failure::Usage(format!("expected this host to have a name, got: {errno}; use --node NODE"))
    })?;
    let name = name.to_string_lossy().to_lowercase();
    let label = name.split('.').next().unwrap_or_default().to_owned();
    stoq_identity::check_name(&label).map_err(|error| {
        Failure::Usage(format!("this host is called {label:?}: {error}; use --node NODE"))
    })?;
    Ok(label)
}

fn belongs_to(status: &Status) -> Failure {
    let mesh = status.mesh.as_deref().unwrap_or("(left)");
    Failure::from(hypermesh_api::ClientError::from(Refusal::new(
        ErrorCode::Initialised,
        format!(
            "expected a host without a mesh, got one of {mesh}: run `stoqctl mesh leave` first"
        ),
    )))
}
