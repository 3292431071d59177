//! The node's identity, as the configuration names it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use stoq::tls::Credentials;
use stoq_identity::{File, Identity};

use crate::broker::{Broker, ConfiguredFile};
use crate::config::Config;

/// Reads and checks certificate, key and root; the broker opens them, because the user that this
/// process has become need not be able to read them.
pub(super) fn credentials(config: &Config, broker: &Broker) -> Result<Credentials> {
    let open = |file, _: &Path| {
        let which = match file {
            File::Certificate => ConfiguredFile::Certificate,
            File::Key => ConfiguredFile::Key,
            File::Authority => ConfiguredFile::Authority,
        };
        broker.open_file(which).map_err(io::Error::other)
    };
    let files = &config.identity;
    let (certificate, key, authority) = (&files.certificate, &files.key, &files.authority);
    let identity = Identity::load_with(certificate, key, authority, &open)?;
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
    let policy = config.identity.policy;
    let identity = Arc::new(identity);
    Ok(Credentials { identity, verifier, policy, leaf_only: false, clock: SystemTime::now })
}
