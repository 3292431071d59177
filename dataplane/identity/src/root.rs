//! One trusted root, as the verifier keeps it.

use std::time::SystemTime;

use rustls_pki_types::{CertificateDer, TrustAnchor};
use webpki::anchor_from_trusted_cert;

use crate::algorithm::Algorithm;
use crate::certificate::{Certificate, CertificateError};
use crate::keys::{Policy, PublicKeys};
use crate::refusal::{RootsError, VerifyError};

pub(crate) struct Root {
    pub(crate) anchor: TrustAnchor<'static>,
    pub(crate) keys: PublicKeys,
    pub(crate) subject: Vec<u8>,
    not_before: SystemTime,
    not_after: SystemTime,
}

impl Root {
    /// Reads the root at `index` (from 1) of those given. Under [`Policy::Hybrid`] it has to bear
    /// its own alternative signature. Its classical one says nothing: who could replace the file
    /// could have signed another.
    pub(crate) fn read(
        der: &[u8],
        index: usize,
        policy: Policy,
        allowed: &[Algorithm],
    ) -> Result<Self, RootsError> {
        let invalid = |error| RootsError::Certificate { index, error };
        let certificate = Certificate::parse(der).map_err(invalid)?;
        certificate.key_kind().map_err(invalid)?;
        if !certificate.is_authority() {
            return Err(RootsError::NotAuthority { index });
        }
        let keys = certificate.keys(policy).map_err(invalid)?;
        if policy == Policy::Hybrid {
            let checked = certificate
                .alternative()
                .and_then(|alternative| alternative.verify(der, keys.alternative(), allowed));
            checked.map_err(|error| RootsError::Alternative { index, error })?;
        }
        let owned = CertificateDer::from(der);
        let anchor = anchor_from_trusted_cert(&owned)
            .map_err(|error| invalid(CertificateError::Malformed { got: error.to_string() }))?;
        Ok(Self {
            anchor: anchor.to_owned(),
            keys,
            subject: certificate.subject().to_vec(),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
        })
    }

    /// A root's own dates count as well: RFC 5280 leaves that open, but here the root comes from
    /// our own authority, which dated it on purpose.
    pub(crate) fn check_validity(&self, now: SystemTime) -> Result<(), VerifyError> {
        check_dates(self.not_before, self.not_after, now)
    }
}

/// Whether `now` lies between the two, both included (RFC 5280 §4.1.2.5).
pub(crate) fn check_dates(
    not_before: SystemTime,
    not_after: SystemTime,
    now: SystemTime,
) -> Result<(), VerifyError> {
    if let Ok(ago) = now.duration_since(not_after)
        && !ago.is_zero()
    {
        return Err(VerifyError::Expired { ago });
    }
    match not_before.duration_since(now) {
        Ok(ahead) if !ahead.is_zero() => Err(VerifyError::NotYetValid { ahead }),
        _ => Ok(()),
    }
}
