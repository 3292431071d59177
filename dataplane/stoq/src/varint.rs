//! QUIC's variable-length integers (RFC 9000 §16), as the control stream and datagrams use them.
//!
//! Owns nothing. Called by `control` and `context`.

/// Largest value that fits: 62 bits.
pub const MAX: u64 = (1 << 62) - 1;

/// Longest encoding in bytes.
pub const MAX_LEN: usize = 8;

/// Reads the varint that `bytes` begins with: its value and its length, or `None` if `bytes` ends
/// before it does.
#[must_use]
pub fn read(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let len = 1 << (first >> 6);
    let rest = bytes.get(1..len)?;
    let value = rest.iter().fold(u64::from(first & 0x3f), |v, &b| v << 8 | u64::from(b));
    Some((value, len))
}

/// Appends `value` in its shortest form.
pub fn write(out: &mut Vec<u8>, value: u64) {
    debug_assert!(value <= MAX, "{value} does not fit a varint");
    let (len, prefix) = match value {
        0..=0x3f => (1, 0x00),
        0x40..=0x3fff => (2, 0x40),
        0x4000..=0x3fff_ffff => (4, 0x80),
        _ => (8, 0xc0),
    };
    let start = out.len();
    out.extend_from_slice(&value.to_be_bytes()[MAX_LEN - len..]);
    out[start] |= prefix;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_standard_are_read() {
        // RFC 9000 §A.1.
        let long = [0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c];
        assert_eq!(read(&long), Some((151_288_809_941_952_652, 8)));
        assert_eq!(read(&[0x9d, 0x7f, 0x3e, 0x7d]), Some((494_878_333, 4)));
        assert_eq!(read(&[0x7b, 0xbd]), Some((15_293, 2)));
        assert_eq!(read(&[0x25, 0xff]), Some((37, 1)));
        assert_eq!(read(&[0x40, 0x25]), Some((37, 2)));
    }

    #[test]
    fn a_cut_varint_is_none() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[0x40]), None);
        assert_eq!(read(&[0xc0, 1, 2, 3, 4, 5, 6]), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in 0..=MAX, shift in 0..62_u32, tail: Vec<u8>) {
            let value = value >> shift;
            let mut bytes = Vec::new();
            write(&mut bytes, value);
            let len = bytes.len();
            bytes.extend_from_slice(&tail);
            prop_assert_eq!(read(&bytes), Some((value, len)));
        }
    }
}
