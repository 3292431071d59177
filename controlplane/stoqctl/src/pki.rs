//! `stoqctl pki`: the mesh's root and its node certificates.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use crate::cli::Pki;
use crate::failure::Failure;
use crate::output::answer;

/// What was made.
#[derive(Serialize)]
struct Made {
    /// The mesh's name, or the node's.
    name: String,
    /// The files, which hold a secret key.
    files: Vec<PathBuf>,
}

fn files(directory: &Path, names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(|name| directory.join(name)).collect()
}

/// Carries out one of the commands and says what was made and what to do with it.
pub fn run(command: &Pki, json: bool) -> Result<(), Failure> {
    let now = SystemTime::now();
    match command {
        Pki::Init { directory, mesh } => {
            stoq_pki::init(directory, mesh, now)?;
            let shown = directory.display();
            let made = Made { name: mesh.clone(), files: files(directory, &["ca.crt", "ca.key"]) };
            answer(json, &made, |_| {
                format!(
                    "Root of mesh {mesh} made: {shown}/ca.crt, {shown}/ca.key.\n\
                 Keep {shown}/ca.key secret, backed up, and off the edge hosts.\n"
                )
            })
        }
        Pki::Issue { directory, node, out } => {
            stoq_pki::issue(directory, node, out, now)?;
            let shown = out.display();
            let made =
                Made { name: node.clone(), files: files(out, &["node.crt", "node.key", "ca.crt"]) };
            answer(json, &made, |_| {
                format!(
                    "Certificate of {node} issued: {shown}/node.crt, {shown}/node.key, {shown}/ca.crt.\n\
                 Copy the three to /etc/stoq/pki on {node}; issue again within 90 days.\n"
                )
            })
        }
    }
}
