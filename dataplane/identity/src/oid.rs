//! Object identifiers, as the contents of their DER encoding.
//!
//! What is this product's own stands under one arc, `2.25.UUID` (ITU-T X.667 §7), which needs no
//! registration: the UUID is 6f1d0c5e-8b7a-4c1e-9d52-3a7be40f9264.
//!
//! | below the arc | what |
//! |---|---|
//! | 1.1 | certificate policy: node |
//! | 1.2.1, 1.2.2, 1.2.3 | certificate policy: operator as viewer, operator, admin |
//! | 1.3 | certificate policy: issuer |
//! | 1.4 | certificate policy: log |
//! | 2.1.N | FN-DSA-1024, key and signature, as of version N here (the standard is a draft) |

/// The arc's own bytes, then these.
macro_rules! under_arc {
    ($($component:literal),+) => {
        &[
            0x69, 0x81, 0xde, 0x9d, 0x86, 0x97, 0xd1, 0xb7, 0xd2, 0xb0, 0xbd, 0x9d, 0xa9, 0x8e,
            0xcf, 0xbe, 0xa0, 0xbe, 0xa4, 0x64, $($component),+
        ]
    };
}

pub(crate) const POLICY_NODE: &[u8] = under_arc!(1, 1);
pub(crate) const POLICY_VIEWER: &[u8] = under_arc!(1, 2, 1);
pub(crate) const POLICY_OPERATOR: &[u8] = under_arc!(1, 2, 2);
pub(crate) const POLICY_ADMIN: &[u8] = under_arc!(1, 2, 3);
pub(crate) const POLICY_ISSUER: &[u8] = under_arc!(1, 3);
pub(crate) const POLICY_LOG: &[u8] = under_arc!(1, 4);
pub(crate) const FN_DSA_1024: &[u8] = under_arc!(2, 1, 1);

/// `id-ecPublicKey`: the curve is in the parameters (RFC 5480 §2.1.1).
pub(crate) const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// `secp384r1` (RFC 5480 §2.1.1.1).
pub(crate) const SECP384R1: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
/// `ecdsa-with-SHA384` (RFC 5758 §3.2).
pub(crate) const ECDSA_WITH_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];

/// `ecdsa-with-SHA256` (RFC 5758 §3.2).
pub(crate) const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// `id-Ed25519` (RFC 8410 §3).
pub(crate) const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// `id-ce-subjectAltPublicKeyInfo` (X.509 2019 §9.8.2).
pub(crate) const ALT_PUBLIC_KEY: &[u8] = &[0x55, 0x1d, 0x48];
/// `id-ce-altSignatureAlgorithm` (X.509 2019 §9.8.3).
pub(crate) const ALT_ALGORITHM: &[u8] = &[0x55, 0x1d, 0x49];
/// `id-ce-altSignatureValue` (X.509 2019 §9.8.4).
pub(crate) const ALT_SIGNATURE: &[u8] = &[0x55, 0x1d, 0x4a];
