//! The little DER (X.690) that no library at hand does: taking an element apart, putting one
//! together.
//!
//! Used for the parts of certificates that X.509 (2019) adds and for alternative private keys.
//! Reading is strict: definite lengths in their shortest form, single-byte tags, at most 64 KiB.

/// Tag of an INTEGER.
pub const INTEGER: u8 = 0x02;
/// Tag of a BIT STRING.
pub const BIT_STRING: u8 = 0x03;
/// Tag of an OCTET STRING.
pub const OCTET_STRING: u8 = 0x04;
/// Tag of an OBJECT IDENTIFIER.
pub const OBJECT_IDENTIFIER: u8 = 0x06;
/// Tag of a SEQUENCE.
pub const SEQUENCE: u8 = 0x30;

/// One element: its tag, its contents, and all of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    /// The identifier octet.
    pub tag: u8,
    /// What it holds.
    pub contents: &'a [u8],
    /// Identifier, length and contents.
    pub whole: &'a [u8],
}

/// Takes the first element off `input`, and returns it with the rest; `None` when there is none in
/// DER.
#[must_use]
pub fn take(input: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&tag, rest) = input.split_first()?;
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => (usize::from(*rest.first().filter(|&&byte| byte >= 0x80)?), rest.get(1..)?),
        0x82 => {
            let long = u16::from_be_bytes([*rest.first()?, *rest.get(1)?]);
            (usize::from(long).checked_sub(0x100)? + 0x100, rest.get(2..)?)
        }
        _ => return None,
    };
    let contents = rest.get(..length)?;
    let header = input.len() - rest.len();
    let whole = input.get(..header + length)?;
    Some((Element { tag, contents, whole }, rest.get(length..)?))
}

/// The one element that `input` is; `None` when something follows it.
#[must_use]
pub fn only(input: &[u8]) -> Option<Element<'_>> {
    take(input).filter(|(_, rest)| rest.is_empty()).map(|(element, _)| element)
}

/// The elements that `input` consists of, at most `max`; `None` when it is anything else.
#[must_use]
pub fn all(mut input: &[u8], max: usize) -> Option<Vec<Element<'_>>> {
    let mut found = Vec::new();
    while !input.is_empty() {
        let (element, rest) = take(input).filter(|_| found.len() < max)?;
        found.push(element);
        input = rest;
    }
    Some(found)
}

/// An element with this tag that holds `parts`, one behind the other (at most 64 KiB).
#[must_use]
pub fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    debug_assert!(length <= usize::from(u16::MAX), "an element of {length} bytes");
    let [.., high, low] = length.to_be_bytes();
    let mut out = Vec::with_capacity(4 + length);
    out.push(tag);
    match length {
        0..=0x7f => out.push(low),
        0x80..=0xff => out.extend([0x81, low]),
        _ => out.extend([0x82, high, low]),
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_der_is_refused() {
        for bad in [
            &[][..],
            &[0x30],
            &[0x30, 1],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x81, 0x7f],
            &[0x30, 0x82, 0, 0xff],
            &[0x30, 0x83, 1, 0, 0],
            &[0x1f, 1, 0],
        ] {
            assert_eq!(take(bad), None, "{bad:02x?}");
        }
        assert_eq!(only(&[4, 0, 0]), None);
        assert_eq!(all(&[4, 0, 4, 0], 1), None);
        assert_eq!(all(&[4, 0, 4, 0], 2).map(|found| found.len()), Some(2));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(tag in 0u8..0x1f, contents in prop::collection::vec(any::<u8>(), 0..700)) {
            let written = element(tag, &[&contents]);
            let read = only(&written).unwrap();
            prop_assert_eq!(read, Element { tag, contents: &contents, whole: &written });
        }
    }
}
