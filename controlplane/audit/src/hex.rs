//! Hashes and signatures as hexadecimal text, as people compare them.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

pub(crate) fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).filter(|_| !c.is_ascii_uppercase());
    let pair = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

pub(crate) mod hash {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(hash: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&text(hash))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(from)?;
        let hash = bytes(&text).and_then(|bytes| bytes.try_into().ok());
        hash.ok_or_else(|| Error::custom("expected 64 lower-case hexadecimal digits"))
    }
}

pub(crate) mod signature {
    use stoq_identity::Signature;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(of: &Signature, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&text(&of.to_bytes()))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Signature, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = bytes(&text).ok_or_else(|| Error::custom("expected hexadecimal digits"))?;
        Signature::from_bytes(&bytes).map_err(Error::custom)
    }
}
