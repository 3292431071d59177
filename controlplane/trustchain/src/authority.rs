//! An authority that is open for issuing: the root, or an issuer below it.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, Issuer};
use rustls_pki_types::CertificateDer;
use stoq_identity::{CertificateInfo, Kind, PrivateKeys, PublicKeys, check_name, mesh_id};
use x509_parser::parse_x509_certificate;

use crate::hybrid::{self, Signer};
use crate::profile::{self, Prefixes, Subject};
use crate::{Dates, TrustError, library};

/// A root or an issuer with its private keys.
pub struct Authority {
    mesh: String,
    /// `None` for a root.
    prefixes: Option<Vec<ipnet::IpNet>>,
    certificate: Vec<u8>,
    keys: Arc<PrivateKeys>,
    not_before_s: i64,
    not_after_s: i64,
    issuer: Issuer<'static, Signer>,
}

impl Authority {
    /// A new root for the mesh `name`, whose identifier follows from `keys`.
    ///
    /// # Errors
    /// An invalid name, or a failure of the cryptographic library.
    pub fn found(name: &str, keys: Arc<PrivateKeys>, dates: Dates) -> Result<Self, TrustError> {
        let named = |source| TrustError::Name { what: "mesh", name: name.to_owned(), source };
        let mesh = mesh_id(name, keys.public()).map_err(named)?;
        Self::found_as(&mesh, keys, dates)
    }

    /// A new root for a mesh that is called `mesh` and nothing else: one that is run by hand, with
    /// certificates carried about in files.
    ///
    /// # Errors
    /// Those of [`Authority::found`].
    pub fn found_as(mesh: &str, keys: Arc<PrivateKeys>, dates: Dates) -> Result<Self, TrustError> {
        let named = |source| TrustError::Name { what: "mesh", name: mesh.to_owned(), source };
        check_name(mesh).map_err(named)?;
        let certificate = hybrid::issue_self_signed(profile::root(mesh, dates)?, &keys)?;
        Self::open(&certificate, keys)
    }

    /// Opens the root or issuer with this certificate (DER) and these keys.
    ///
    /// # Errors
    /// When the certificate is no authority's, or not that of the keys.
    pub fn open(certificate: &[u8], keys: Arc<PrivateKeys>) -> Result<Self, TrustError> {
        let bad = |expected, got: String| TrustError::Authority { expected, got };
        let form = "the certificate of a mesh's root or issuer";
        let (rest, parsed) =
            parse_x509_certificate(certificate).map_err(|error| bad(form, error.to_string()))?;
        if !rest.is_empty() || !parsed.is_ca() {
            return Err(bad(form, "another certificate".to_owned()));
        }
        let mesh = parsed.subject().iter_organization().next();
        let mesh = mesh.and_then(|name| name.as_str().ok()).unwrap_or_default().to_owned();
        check_name(&mesh).map_err(|error| bad(form, format!("mesh {mesh:?}: {error}")))?;
        let info = CertificateInfo::read(certificate)?;
        if info.keys != *keys.public() {
            return Err(bad("the certificate of these keys", "that of others".to_owned()));
        }
        let prefixes = match info.kind {
            None => None,
            Some(Kind::Issuer) => Some(constrained(&parsed)),
            Some(other) => return Err(bad(form, format!("one for `{other}`"))),
        };
        let not_before_s = parsed.validity().not_before.timestamp();
        let not_after_s = parsed.validity().not_after.timestamp();
        let signer = Signer(Arc::clone(&keys));
        let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(certificate), signer);
        let issuer = issuer.map_err(library)?;
        let certificate = certificate.to_vec();
        Ok(Self { mesh, prefixes, certificate, keys, not_before_s, not_after_s, issuer })
    }

    /// The identifier of its mesh.
    #[must_use]
    pub fn mesh(&self) -> &str {
        &self.mesh
    }

    /// Whether it is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.prefixes.is_none()
    }

    /// Its certificate, in DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Its keys.
    #[must_use]
    pub fn keys(&self) -> &Arc<PrivateKeys> {
        &self.keys
    }

    /// Issues a certificate (DER) for `subject` and its `keys`, whose possession the caller has
    /// verified ([`crate::Request::verify`]). It ends no later than the authority.
    ///
    /// # Errors
    /// Names, addresses, dates or keys outside what this authority may issue.
    pub fn issue(
        &self,
        subject: &Subject,
        keys: &PublicKeys,
        dates: Dates,
    ) -> Result<Vec<u8>, TrustError> {
        self.check_subject(subject)?;
        let mut params = profile::below(&self.mesh, subject, dates)?;
        self.fit_dates(&mut params)?;
        hybrid::issue(params, keys, &self.issuer)
    }

    fn check_subject(&self, subject: &Subject) -> Result<(), TrustError> {
        match (subject, &self.prefixes) {
            (Subject::Issuer { .. }, Some(_)) => Err(TrustError::NotAllowed {
                what: "the certificate of an issuer",
                expected: "the root",
                got: "an issuer",
            }),
            (Subject::Node { addresses, .. }, Some(prefixes)) => {
                let inside = |address: &&std::net::IpAddr| {
                    prefixes.iter().any(|prefix| prefix.contains(*address))
                };
                match addresses.iter().find(|address| !inside(address)) {
                    None => Ok(()),
                    Some(outside) => {
                        let prefixes: Vec<_> = prefixes.iter().map(ToString::to_string).collect();
                        let (prefixes, got) = (prefixes.join(", "), outside.to_string());
                        Err(TrustError::Address { prefixes, got })
                    }
                }
            }
            _ => Ok(()),
        }
    }

    fn fit_dates(&self, params: &mut CertificateParams) -> Result<(), TrustError> {
        let (begin, end) = (params.not_before.unix_timestamp(), params.not_after.unix_timestamp());
        if begin >= end {
            return Err(TrustError::Dates { got: "ends before it begins" });
        }
        if begin >= self.not_after_s {
            return Err(TrustError::Dates { got: "begins after the issuer's end" });
        }
        if begin < self.not_before_s {
            return Err(TrustError::Dates { got: "begins before the issuer does" });
        }
        let excess_s = end.saturating_sub(self.not_after_s).max(0);
        params.not_after -= Duration::from_secs(excess_s.unsigned_abs());
        Ok(())
    }
}

/// The prefixes that an issuer's name constraints permit.
fn constrained(certificate: &x509_parser::certificate::X509Certificate<'_>) -> Vec<ipnet::IpNet> {
    use x509_parser::extensions::GeneralName;
    let constraints = certificate.name_constraints().ok().flatten();
    let permitted = constraints.and_then(|found| found.value.permitted_subtrees.as_ref());
    let octets = permitted.into_iter().flatten().filter_map(|subtree| match subtree.base {
        GeneralName::IPAddress(octets) => Some(octets),
        _ => None,
    });
    octets.filter_map(net).collect()
}

/// An address and its mask (RFC 5280 §4.2.1.10).
fn net(octets: &[u8]) -> Option<ipnet::IpNet> {
    let (address, mask) = octets.split_at(octets.len() / 2);
    let length = mask.iter().map(|byte| byte.leading_ones()).sum::<u32>();
    let address: std::net::IpAddr = match address.len() {
        4 => <[u8; 4]>::try_from(address).ok()?.into(),
        16 => <[u8; 16]>::try_from(address).ok()?.into(),
        _ => return None,
    };
    ipnet::IpNet::new(address, u8::try_from(length).ok()?).ok()
}

impl Prefixes {
    /// Whether all of `addresses` are the mesh's.
    #[must_use]
    pub fn contain(&self, addresses: &[std::net::IpAddr]) -> bool {
        addresses.iter().all(|address| self.nets().iter().any(|net| net.contains(address)))
    }
}
