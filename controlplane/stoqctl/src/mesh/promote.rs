//! `stoqctl mesh promote`: a further issuer, signed by the root, so that no single host's death ends
//! renewal. For a node that issues already, new certificates before the old ones end.

use std::path::Path;
use std::time::SystemTime;

use hypermesh_api::{AddIssuerRequest, BundleReply, Done, IssuerRequest, Members, NodeName, path};
use ipnet::Ipv4Net;

use super::root;
use crate::failure::Failure;
use crate::hypermesh::{Way, connect};
use crate::output::{answer, progress};

/// Carries out the command.
pub fn run(way: &Way, node: &str, directory: &Path, json: bool) -> Result<(), Failure> {
    let authority = root::open(directory)?;
    if let Some(key) = root::exposed(directory) {
        let key = key.display();
        progress(&format!("Others than its owner may read {key}: chmod 600 {key}"));
    }
    let mut client = connect(way)?;
    let members: Members = client.get(path::MEMBERS)?;
    if members.mesh != authority.mesh() {
        return Err(Failure::Usage(format!(
            "expected the root of mesh {}, got that of {}; name its directory by --root DIR",
            members.mesh,
            authority.mesh()
        )));
    }
    progress(&format!("Waiting for {node} to make its issuer's keys ..."));
    let asked = NodeName { node: node.to_owned() };
    let request: IssuerRequest = client.post(path::PROMOTE_REQUEST, &asked)?;
    if request.node != node {
        let got = &request.node;
        return Err(Failure::Refused(format!("expected a request of {node}, got one of {got}")));
    }
    let ipv4 = ipv4_prefix(&client.get(path::BUNDLE)?)?;
    let signed = root::sign(&authority, &request, ipv4, SystemTime::now())?;
    let add = AddIssuerRequest { node: node.to_owned(), issuer: signed.issuer, log: signed.log };
    let done: Done = client.post(path::PROMOTE, &add)?;
    answer(json, &done, |_| {
        format!(
            "{node} issues certificates now: nodes renew at it when another issuer does not answer. \
             Move {} away again.\n",
            directory.display()
        )
    })
}

/// The mesh's IPv4 prefix, which an issuer is constrained to.
fn ipv4_prefix(reply: &BundleReply) -> Result<Option<Ipv4Net>, Failure> {
    let bundle = stoq_mesh::Bundle::from_bytes(&reply.bundle.0);
    let bundle = bundle.map_err(|error| Failure::Refused(error.to_string()))?;
    Ok(bundle.mesh.ipv4)
}
