//! The node's identity, as the configuration names it.

use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use stoq::tls::Credentials;
use stoq_identity::Identity;

use crate::config::Config;

/// Reads and checks certificate, key and root.
pub(super) fn credentials(config: &Config) -> Result<Credentials> {
    let files = &config.identity;
    let identity = Identity::load(&files.certificate, &files.key, &files.authority)?;
    let named = identity.id().node();
    if named != config.node.name {
        bail!(
            "expected a certificate for node.name = \"{}\", got one for \"{named}\" in {}; \
             correct the name or issue another certificate",
            config.node.name,
            files.certificate.display()
        );
    }
    for warning in identity.warnings() {
        tracing::warn!("{warning}");
    }
    identity.check(SystemTime::now()).context("this node's own certificate")?;
    let verifier = identity.verifier();
    Ok(Credentials { identity: Arc::new(identity), verifier, clock: SystemTime::now })
}
