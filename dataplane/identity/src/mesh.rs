//! How a mesh is called, and which addresses are its own: both follow from its root's keys.
//!
//! The identifier is `NAME-` and 16 hexadecimal digits of a hash over the root's public keys: who
//! does not hold these keys can not make a root for this identifier (64 bits: a second pair of keys
//! for a given identifier takes 2^64 tries). The addresses are a unique local prefix (RFC 4193
//! §3.2.2) whose 40 bits come out of a hash over the identifier.

use std::net::Ipv6Addr;

use aws_lc_rs::digest;

use crate::keys::PublicKeys;
use crate::name::{NAME_MAX, NameError, check_name};

/// Hexadecimal digits of the identifier.
const DIGITS: usize = 16;

/// Longest name of a mesh, without its digits: `NAME-0123456789abcdef` has to be a label.
pub const MESH_NAME_MAX: usize = NAME_MAX - 1 - DIGITS;

/// Length of a mesh's own prefix.
pub const MESH_PREFIX_BITS: u8 = 48;

/// The identifier of the mesh `name` whose root has these keys: `NAME-0123456789abcdef`.
///
/// # Errors
/// When the name is invalid or longer than [`MESH_NAME_MAX`].
pub fn mesh_id(name: &str, root: &PublicKeys) -> Result<String, NameError> {
    check_name(name)?;
    if name.len() > MESH_NAME_MAX {
        return Err(NameError::MeshLength { got: name.len() });
    }
    let hash = hash(b"stoq mesh\0", &root.to_bytes());
    let digits: String = hash[..DIGITS / 2].iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{name}-{digits}"))
}

/// The name in an identifier: what stands before the digits, or all of it when there are none.
#[must_use]
pub fn mesh_name(id: &str) -> &str {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    match id.rsplit_once('-') {
        Some((name, digits))
            if !name.is_empty() && digits.len() == DIGITS && digits.bytes().all(hex) =>
        {
            name
        }
        _ => id,
    }
}

/// The first address of the mesh's own prefix, which is [`MESH_PREFIX_BITS`] long.
#[must_use]
pub fn mesh_prefix(id: &str) -> Ipv6Addr {
    let hash = hash(b"stoq mesh prefix\0", id.as_bytes());
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(&hash[..5]);
    octets.into()
}

/// The name of a node in the DNS: `NODE.NAME.internal`.
#[must_use]
pub fn dns_name(mesh_id: &str, node: &str) -> String {
    format!("{node}.{}.internal", mesh_name(mesh_id))
}

fn hash(domain: &[u8], of: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(domain);
    context.update(of);
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_found_in_its_identifier() {
        for (id, name) in [
            ("lab-0123456789abcdef", "lab"),
            ("lab-two-0123456789abcdef", "lab-two"),
            ("lab", "lab"),
            ("lab-0123456789abcde", "lab-0123456789abcde"),
            ("lab-0123456789abcdeg", "lab-0123456789abcdeg"),
            ("-0123456789abcdef", "-0123456789abcdef"),
        ] {
            assert_eq!(mesh_name(id), name);
        }
        assert_eq!(dns_name("lab-0123456789abcdef", "edge-a"), "edge-a.lab.internal");
    }

    #[test]
    fn the_prefix_is_unique_local_and_ends_after_48_bits() {
        let (one, other) = (mesh_prefix("lab-0123456789abcdef"), mesh_prefix("lab-1"));
        assert_ne!(one, other);
        for prefix in [one, other] {
            assert_eq!(prefix.octets()[0], 0xfd);
            assert_eq!(prefix.segments()[3..], [0; 5]);
        }
    }
}
