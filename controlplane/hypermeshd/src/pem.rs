//! Certificates and proofs as PEM text (RFC 7468), and back.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hypermesh_api::ErrorCode;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::refused::Refused;

/// Label of a certificate.
pub const CERTIFICATE: &str = "CERTIFICATE";
/// Label of a proof that a certificate is in its issuer's log.
pub const LOG_PROOF: &str = "STOQ LOG PROOF";

/// Characters of a line (RFC 7468 §2).
const LINE: usize = 64;

/// One section.
#[must_use]
pub fn section(label: &str, contents: &[u8]) -> String {
    let text = STANDARD.encode(contents);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(LINE) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

/// A certificate as PEM.
#[must_use]
pub fn certificate(der: &[u8]) -> String {
    section(CERTIFICATE, der)
}

/// The first certificate of a PEM text.
///
/// # Errors
/// [`ErrorCode::Invalid`], naming `what` it was to be.
pub fn first_certificate(what: &str, text: &str) -> Result<Vec<u8>, Refused> {
    let read = CertificateDer::from_pem_slice(text.as_bytes());
    read.map(|der| der.to_vec()).map_err(|error| {
        Refused::new(ErrorCode::Invalid, format!("expected {what} as PEM, got: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_comes_back_and_other_text_is_refused() {
        let der = vec![7; 100];
        assert_eq!(first_certificate("a root", &certificate(&der)).unwrap(), der);
        assert!(first_certificate("a root", "nothing").unwrap_err().0.message.contains("a root"));
    }
}
