//! The node's identity, as the configuration names it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use stoq::tls::Credentials;
use stoq_control::Certificate;
use stoq_identity::{File, Identity, Policy, Role};

use crate::broker::{Broker, ConfiguredFile};
use crate::config::Config;

/// Reads certificate, keys and root; the broker opens them, because the user that this process has
/// become need not be able to read them. The policy is that of the start.
pub(super) fn credentials(config: &Config, policy: Policy, broker: &Broker) -> Result<Credentials> {
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
    let identity = Identity::load_under(policy, certificate, key, authority, &open)?;
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
    let verifier = identity.verifier();
    let identity = Arc::new(identity);
    Ok(Credentials { identity, verifier, policy, leaf_only: false, clock: SystemTime::now })
}

/// Whether peers would accept our certificate now.
pub(super) fn check(credentials: &Credentials) -> Result<()> {
    let (chain, now) = (credentials.identity.chain(), (credentials.clock)());
    for role in [Role::Client, Role::Server] {
        let (leaf, rest) = chain.split_first().context("a certificate")?;
        let verified = credentials.verifier.verify(leaf, rest, role, now);
        verified.context("this node's own certificate")?;
    }
    Ok(())
}

/// What the status shows of our certificate. One that peers refuse by now has less to show.
pub(super) fn described(credentials: &Credentials) -> Certificate {
    let (identity, now) = (&credentials.identity, (credentials.clock)());
    let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut shown = Certificate {
        node: identity.id().to_string(),
        not_after_s: seconds(identity.not_after()),
        policy: credentials.policy.to_string(),
        logged: identity.log_proof().is_some(),
        ..Certificate::default()
    };
    let Some((leaf, rest)) = identity.chain().split_first() else { return shown };
    if let Ok(own) = credentials.verifier.verify(leaf, rest, Role::Server, now) {
        shown.kind = own.kind.to_string();
        shown.serial = own.serial;
        shown.not_before_s = seconds(own.not_before);
        shown.keys = own.keys.fingerprint().iter().map(|byte| format!("{byte:02x}")).collect();
    }
    shown
}
