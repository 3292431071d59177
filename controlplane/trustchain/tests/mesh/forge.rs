//! Forgeries: certificates altered and signed again with one of the two keys, as by an attacker who
//! has broken one algorithm.

use stoq_identity::PrivateKeys;
use stoq_identity::der::{self, BIT_STRING, OBJECT_IDENTIFIER, SEQUENCE, element};

pub const ALT_KEY: &[u8] = &[0x55, 0x1d, 0x48];
pub const ALT_ALGORITHM: &[u8] = &[0x55, 0x1d, 0x49];
pub const ALT_SIGNATURE: &[u8] = &[0x55, 0x1d, 0x4a];

/// The certificate with each extension replaced by what `change` makes of its name and whole bytes:
/// `None` leaves it out. The classical signature no longer fits.
pub fn alter(certificate: &[u8], change: impl Fn(&[u8], &[u8]) -> Option<Vec<u8>>) -> Vec<u8> {
    let outer = der::all(der::only(certificate).unwrap().contents, 3).unwrap();
    let mut fields: Vec<Vec<u8>> =
        der::all(outer[0].contents, 10).unwrap().iter().map(|field| field.whole.to_vec()).collect();
    let extensions = fields.pop().unwrap();
    let list = der::only(der::only(&extensions).unwrap().contents).unwrap();
    let mut kept = Vec::new();
    for extension in der::all(list.contents, 32).unwrap() {
        let (name, _) = der::take(extension.contents).unwrap();
        kept.extend(change(name.contents, extension.whole).unwrap_or_default());
    }
    fields.push(element(0xa3, &[&element(SEQUENCE, &[&kept])]));
    let parts: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
    let tbs = element(SEQUENCE, &parts);
    element(SEQUENCE, &[&tbs, outer[1].whole, outer[2].whole])
}

/// Leaves out these extensions.
pub fn without(certificate: &[u8], names: &[&[u8]]) -> Vec<u8> {
    alter(certificate, |name, whole| (!names.contains(&name)).then(|| whole.to_vec()))
}

/// Puts `value` into the extension `name`.
pub fn with(certificate: &[u8], name: &[u8], value: &[u8]) -> Vec<u8> {
    let named = element(OBJECT_IDENTIFIER, &[name]);
    let made = element(SEQUENCE, &[&named, &element(der::OCTET_STRING, &[value])]);
    alter(certificate, |found, whole| {
        Some(if found == name { made.clone() } else { whole.to_vec() })
    })
}

/// Another byte string in place of an equally long one that occurs once: a changed name.
pub fn replace(certificate: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut changed = certificate.to_vec();
    let places: Vec<_> =
        (0..=changed.len() - from.len()).filter(|&at| changed[at..].starts_with(from)).collect();
    assert!(!places.is_empty());
    for at in places {
        changed[at..at + to.len()].copy_from_slice(to);
    }
    changed
}

/// Signs the certificate again with the classical key of `keys`.
pub fn sign_classically(certificate: &[u8], keys: &PrivateKeys) -> Vec<u8> {
    let outer = der::all(der::only(certificate).unwrap().contents, 3).unwrap();
    let signature = keys.sign_classical(outer[0].whole).unwrap();
    let bits = element(BIT_STRING, &[&[0], &signature]);
    element(SEQUENCE, &[outer[0].whole, outer[1].whole, &bits])
}

/// Puts a new alternative signature by `keys` into the certificate; the classical one no longer
/// fits.
pub fn sign_alternatively(certificate: &[u8], keys: &PrivateKeys) -> Vec<u8> {
    let signed = stoq_identity::pre_tbs_certificate(certificate).unwrap();
    let signature = keys.sign_alternative(&signed).unwrap();
    with(certificate, ALT_SIGNATURE, &element(BIT_STRING, &[&[0], &signature]))
}
