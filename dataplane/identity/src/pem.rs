//! PEM sections (RFC 7468) with labels of our own, which the certificate library's reader skips.

use pem_rfc7468::{LineEnding, decode_vec, encode_string};
use zeroize::Zeroizing;

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
