//! Certificates as text (RFC 7468). Used for what is shown, written and sent.

use pem_rfc7468::{LineEnding, encode_string};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Most certificates that are taken from one text: a chain has three.
const CERTIFICATES_MAX: usize = 64;

/// The certificates of a text, in DER; what is no certificate is passed over.
pub fn certificates(text: &str) -> Vec<Vec<u8>> {
    let found = CertificateDer::pem_slice_iter(text.as_bytes()).take(CERTIFICATES_MAX);
    found.flatten().map(|certificate| certificate.to_vec()).collect()
}

/// A certificate as text.
pub fn certificate(der: &[u8]) -> String {
    // Fails for labels with line breaks and lengths beyond memory only.
    encode_string("CERTIFICATE", LineEnding::LF, der).unwrap_or_default()
}
