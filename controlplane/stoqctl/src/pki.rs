//! `stoqctl pki`: the mesh's root and its node certificates.

use std::time::SystemTime;

use crate::cli::Pki;
use crate::daemon::print;
use crate::failure::Failure;

/// Carries out one of the commands and says what was made and what to do with it.
pub fn run(command: &Pki) -> Result<(), Failure> {
    let now = SystemTime::now();
    match command {
        Pki::Init { directory, mesh } => {
            stoq_pki::init(directory, mesh, now)?;
            let shown = directory.display();
            print(&format!(
                "Root of mesh {mesh} made: {shown}/ca.crt, {shown}/ca.key.\n\
                 Keep {shown}/ca.key secret, backed up, and off the edge hosts.\n"
            ))
        }
        Pki::Issue { directory, node, out } => {
            stoq_pki::issue(directory, node, out, now)?;
            let shown = out.display();
            print(&format!(
                "Certificate of {node} issued: {shown}/node.crt, {shown}/node.key, {shown}/ca.crt.\n\
                 Copy the three to /etc/stoq/pki on {node}; issue again within 90 days.\n"
            ))
        }
    }
}
