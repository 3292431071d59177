//! Addresses and prefixes as the file writes them. Owned by the configuration; the broker and the
//! control socket use the same types. A network is the forwarding table's [`Prefix`].

use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
pub use stoq_tunnel::forward::{Prefix, PrefixError};

/// An address of an interface with the length of its network, such as `10.92.0.1/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceAddress {
    /// The address.
    pub address: IpAddr,
    /// Length of the network's prefix in bits.
    pub length: u8,
}

impl FromStr for InterfaceAddress {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        // Whatever is refused for its host bits alone is the address of a host in a network.
        match text.parse::<Prefix>() {
            Ok(network) => Ok(Self { address: network.address(), length: network.length() }),
            Err(PrefixError::HostBits { right, host, .. }) => {
                Ok(Self { address: host.address(), length: right.length() })
            }
            Err(error) => Err(error),
        }
    }
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl Serialize for InterfaceAddress {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for InterfaceAddress {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(Text(PhantomData))
    }
}

/// Reads a value from its text. It does so while the text is visited, because errors made then carry
/// the place of that text in the file.
struct Text<T>(PhantomData<T>);

impl<T: FromStr<Err = PrefixError>> de::Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// Lists of prefixes as lists of texts, for `#[serde(with)]`.
pub mod prefixes {
    use super::{Deserialize, Deserializer, PhantomData, Prefix, Serializer, Text};

    /// A prefix by itself, so that an error has the place of the entry and not of the list.
    struct Entry(Prefix);

    impl<'de> Deserialize<'de> for Entry {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            from.deserialize_str(Text(PhantomData)).map(Self)
        }
    }

    /// Writes them.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(list: &[Prefix], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(Prefix::to_string))
    }

    /// Reads them.
    ///
    /// # Errors
    /// The first text that is no prefix.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Prefix>, D::Error> {
        let entries = Vec::<Entry>::deserialize(from)?;
        Ok(entries.into_iter().map(|entry| entry.0).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_their_host_bits() {
        for text in ["10.92.0.1/24", "10.92.0.0/24", "fd48:4d00::1/64", "0.0.0.0/0", "::1/128"] {
            assert_eq!(text.parse::<InterfaceAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_addresses_are_refused() {
        for text in ["", "10.0.0.1", "10.0.0.1/", "10.0.0.1/33", "::1/129", "a/8", "::1/+1"] {
            assert!(text.parse::<InterfaceAddress>().is_err(), "{text}");
        }
    }
}
