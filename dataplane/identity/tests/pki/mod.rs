//! Certificates for tests, made fresh: a root, what it issues, and ways to spoil both.

use std::time::{Duration, SystemTime};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SignatureAlgorithm,
};

pub const HOUR: Duration = Duration::from_secs(3600);

/// An authority: its certificate, and the means to sign.
pub struct Authority {
    pub certificate: Certificate,
    pub issuer: Issuer<'static, KeyPair>,
}

/// What a node has.
pub struct Node {
    pub certificate: Certificate,
    pub key: KeyPair,
}

pub fn authority_params(name: &str, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = (now - 10 * HOUR).into();
    params.not_after = (now + 10 * HOUR).into();
    params
}

pub fn root(name: &str, now: SystemTime) -> Authority {
    self_signed(authority_params(name, now), &PKCS_ECDSA_P256_SHA256)
}

pub fn self_signed(params: CertificateParams, kind: &'static SignatureAlgorithm) -> Authority {
    let key = KeyPair::generate_for(kind).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Authority { certificate, issuer: Issuer::new(params, key) }
}

impl Authority {
    pub fn intermediate(&self, name: &str, now: SystemTime) -> Authority {
        let params = authority_params(name, now);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    pub fn issue(&self, params: &CertificateParams) -> Node {
        self.issue_for(params, &PKCS_ECDSA_P256_SHA256)
    }

    pub fn issue_for(&self, params: &CertificateParams, kind: &'static SignatureAlgorithm) -> Node {
        let key = KeyPair::generate_for(kind).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Node { certificate, key }
    }
}

/// A faultless node certificate with these URIs, valid from an hour ago for two hours.
pub fn node_params(uris: &[&str], now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "edge");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = (now - HOUR).into();
    params.not_after = (now + HOUR).into();
    let name = |uri: &&str| SanType::URI(Ia5String::try_from(*uri).unwrap());
    params.subject_alt_names = uris.iter().map(name).collect();
    params
}
