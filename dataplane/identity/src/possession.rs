//! What a node signs on the control stream to prove that it holds both keys of its certificate.
//!
//! TLS proves the classical key only. The alternative key is proven by a signature over what is
//! particular to this connection and this direction: the TLS exporter's value (RFC 8446 §7.5), the
//! signer's role, and both leaf certificates. A proof is therefore worth nothing on another
//! connection, and none when it is sent back to its maker, whose role and certificate differ.

use crate::verify::Role;

/// The body that the end which acts as `role` signs with [`crate::Label::POSSESSION`], and that the
/// other end verifies with the same role: `exporter` is the connection's exporter value, the others
/// are SHA-256 of the leaf certificates' DER, `signer_leaf` that of the end that signs.
#[must_use]
pub fn possession_body(
    role: Role,
    exporter: &[u8; 32],
    signer_leaf: &[u8; 32],
    verifier_leaf: &[u8; 32],
) -> Vec<u8> {
    let role = match role {
        Role::Client => 1,
        Role::Server => 2,
    };
    [&[role][..], exporter, signer_leaf, verifier_leaf].concat()
}
