//! PEM sections (RFC 7468) with labels of our own, which the certificate library's reader skips, and
//! the one file that holds a whole identity.

use pem_rfc7468::{LineEnding, decode_vec, encode_string};
use zeroize::Zeroizing;

use crate::keys::PrivateKeys;

/// Label of the PEM section with the proof that the certificate is in its issuer's log.
pub(crate) const PEM_LOG_PROOF: &str = "STOQ LOG PROOF";

/// Longest section that is decoded, as text: an FN-DSA-1024 key is 3.2 KiB in PEM, a log proof
/// below 8 KiB.
const SECTION_MAX: usize = 64 * 1024;

/// The contents of the first section with this label; `None` when there is none.
///
/// # Errors
/// What it is when it can not be decoded.
pub(crate) fn section(text: &str, label: &str) -> Result<Option<Zeroizing<Vec<u8>>>, &'static str> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let Some(start) = text.find(&begin) else { return Ok(None) };
    let rest = &text[start..];
    let length = rest.find(&end).ok_or("a section without an end")? + end.len();
    if length > SECTION_MAX {
        return Err("a section of more than 64 KiB");
    }
    let decoded = decode_vec(&rest.as_bytes()[..length]);
    let (_, contents) = decoded.map_err(|_| "a section that is no base64 in lines of 64")?;
    Ok(Some(Zeroizing::new(contents)))
}

/// A section with this label.
pub(crate) fn write(label: &str, contents: &[u8]) -> Zeroizing<String> {
    // Fails for labels with line breaks and lengths beyond memory only: ours have neither.
    Zeroizing::new(encode_string(label, LineEnding::LF, contents).unwrap_or_default())
}

/// A certificate (DER) in PEM.
#[must_use]
pub fn certificate_to_pem(der: &[u8]) -> String {
    write("CERTIFICATE", der).to_string()
}

/// The contents of an identity file: the certificates (DER, the node's own first), both private keys
/// and the log proof.
#[must_use]
pub fn identity_to_pem<C: AsRef<[u8]>>(
    chain: &[C],
    keys: &PrivateKeys,
    log_proof: Option<&[u8]>,
) -> Zeroizing<String> {
    let mut sections: Vec<_> = chain.iter().map(|der| write("CERTIFICATE", der.as_ref())).collect();
    sections.extend(log_proof.map(|proof| write(PEM_LOG_PROOF, proof)));
    sections.push(keys.to_pem());
    // Reserved at once: growing would leave copies of the keys behind.
    let length = sections.iter().map(|section| section.len()).sum();
    let mut file = Zeroizing::new(String::with_capacity(length));
    sections.iter().for_each(|section| file.push_str(section));
    file
}
