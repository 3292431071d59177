//! How keys and signatures are put into bytes: a version, then fields with their lengths.
//!
//! Used by the keys and signatures of this crate only.

/// Appends a field: its length in two bytes, big-endian, then itself.
pub(crate) fn put(out: &mut Vec<u8>, field: &[u8]) {
    debug_assert!(field.len() <= usize::from(u16::MAX));
    let [.., high, low] = field.len().to_be_bytes();
    out.extend([high, low]);
    out.extend_from_slice(field);
}

/// Reads fields from the front; what is missing is an error that says so.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn byte(&mut self) -> Result<u8, &'static str> {
        let (&byte, rest) = self.0.split_first().ok_or("fewer bytes")?;
        self.0 = rest;
        Ok(byte)
    }

    /// A field that [`put`] wrote.
    pub(crate) fn field(&mut self) -> Result<&'a [u8], &'static str> {
        let length = u16::from_be_bytes([self.byte()?, self.byte()?]);
        let (field, rest) = self.0.split_at_checked(usize::from(length)).ok_or("fewer bytes")?;
        self.0 = rest;
        Ok(field)
    }

    pub(crate) fn end(&self) -> Result<(), &'static str> {
        if self.0.is_empty() { Ok(()) } else { Err("bytes behind it") }
    }
}

/// Lets serde carry a type as the bytes of its `to_bytes`, checked by its `from_bytes`.
macro_rules! bytes_in_serde {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_bytes(&self.to_bytes())
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let bytes = serde_bytes::ByteBuf::deserialize(from)?;
                Self::from_bytes(&bytes).map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use bytes_in_serde;
