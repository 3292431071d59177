//! The Internet checksum (RFC 1071): sums, and changes to sums (RFC 1624).
//!
//! Every payload byte that leaves through the tunnel is summed once or twice, so this is the hot path. Sums
//! are kept unfolded in 64 bits and in the byte order of the machine, which a ones' complement sum
//! allows (RFC 1071 §2); [`Sum::finish`] brings it back. Called by the
//! tunnel for inner packets, and by the `xdp` port for outer ones.
#![allow(unsafe_code, reason = "calling code compiled for AVX2 after asking the processor")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

use std::net::IpAddr;

/// An unfolded ones' complement sum of 16-bit words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// Adds bytes that start at an even offset of what is summed; an odd last byte is padded with
    /// zero, so only the last piece may have one.
    #[must_use]
    pub fn bytes(self, data: &[u8]) -> Self {
        Self(self.0 + u64::from(fold(sum(data))))
    }

    /// Adds a 16-bit word given in the byte order of the machine.
    #[must_use]
    pub fn word(self, word: u16) -> Self {
        Self(self.0 + u64::from(word.to_be()))
    }

    /// Adds a 32-bit word given in the byte order of the machine, as two words of 16.
    #[must_use]
    pub fn long(self, long: u32) -> Self {
        Self(self.0 + u64::from(long.to_be()))
    }

    /// Adds the pseudo-header of TCP or UDP: addresses, protocol and the length of the transport
    /// header with its payload (RFC 9293 §3.1, RFC 8200 §8.1).
    #[must_use]
    pub fn pseudo_header(
        self,
        source: IpAddr,
        destination: IpAddr,
        protocol: u8,
        len: u32,
    ) -> Self {
        self.address(source).address(destination).word(u16::from(protocol)).long(len)
    }

    fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => self.long(v4.to_bits()),
            IpAddr::V6(v6) => {
                let bits = v6.to_bits();
                let quarter = |shift: u32| (bits >> shift) as u32;
                self.long(quarter(96)).long(quarter(64)).long(quarter(32)).long(quarter(0))
            }
        }
    }

    /// The folded sum, not complemented: what a partial checksum holds.
    #[must_use]
    pub fn partial(self) -> u16 {
        u16::from_be(fold(self.0))
    }

    /// The checksum: the complement of the folded sum. Zero when the checksum was summed too and
    /// was right.
    #[must_use]
    pub fn finish(self) -> u16 {
        !self.partial()
    }

    /// The checksum as UDP writes it: a computed zero is sent as ones, for zero means "none"
    /// (RFC 768).
    #[must_use]
    pub fn finish_udp(self) -> u16 {
        match self.finish() {
            0 => 0xffff,
            checksum => checksum,
        }
    }
}

/// The checksum after one 16-bit word of what it covers changed (RFC 1624 §3, equation 3).
#[must_use]
pub fn update(checksum: u16, old: u16, new: u16) -> u16 {
    Sum::default().word(!checksum).word(!old).word(new).finish()
}

fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(target_arch = "x86_64")]
fn sum(data: &[u8]) -> u64 {
    if data.len() >= SHORT && std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, as was just asked.
        unsafe { sum_avx2(data) }
    } else {
        sum_words(data)
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn sum(data: &[u8]) -> u64 {
    sum_words(data)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_avx2(data: &[u8]) -> u64 {
    sum_words(data)
}

/// Shorter data is summed without asking for AVX2: vectors of it do not pay.
#[cfg(target_arch = "x86_64")]
const SHORT: usize = 128;

/// Sums 64-bit words. `all` wraps, but the upper halves are also summed by themselves, so the
/// lower halves are what is left: `all - (high << 32)`, exact modulo 2^64. That is two additions
/// and a shift for eight bytes, and the compiler makes vectors of it.
#[inline(always)]
fn sum_words(data: &[u8]) -> u64 {
    let (words, rest) = data.as_chunks::<8>();
    let (mut all, mut high) = (0u64, 0u64);
    for word in words {
        let word = u64::from_ne_bytes(*word);
        all = all.wrapping_add(word);
        high = high.wrapping_add(word >> 32);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let last = u64::from_ne_bytes(last);
    // The sums of halves are below 2^48: a packet has fewer than 2^16 of them.
    all.wrapping_sub(high << 32) + high + (last >> 32) + (last & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 §4.1, word by word in network order.
    fn by_the_book(data: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in data.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    proptest! {
        #[test]
        fn sums_are_those_of_the_book(data in proptest::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert_eq!(Sum::default().bytes(&data).finish(), by_the_book(&data));
        }

        #[test]
        fn both_ways_to_sum_agree(data in proptest::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert_eq!(fold(sum(&data)), fold(sum_words(&data)));
        }

        #[test]
        fn an_update_is_a_new_sum(
            mut data in proptest::collection::vec(any::<u8>(), 4..64), new in any::<u16>()
        ) {
            let before = by_the_book(&data);
            let old = u16::from_be_bytes([data[2], data[3]]);
            data[2..4].copy_from_slice(&new.to_be_bytes());
            // Both zeros of ones' complement mean the same.
            let (got, want) = (update(before, old, new), by_the_book(&data));
            prop_assert!(got == want || (got ^ want) == 0xffff && (got == 0 || want == 0));
        }
    }

    #[test]
    fn a_long_packet_of_ones_does_not_overflow() {
        let data = vec![0xff; 65_535];
        assert_eq!(Sum::default().bytes(&data).finish(), by_the_book(&data));
    }

    #[test]
    fn the_pseudo_header_counts_as_its_bytes() {
        let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let book = by_the_book(&[a.as_slice(), &b, &[0, 17, 0, 12]].concat());
        assert_eq!(Sum::default().pseudo_header(a.into(), b.into(), 17, 12).finish(), book);
        let (a, b): ([u8; 16], [u8; 16]) = (std::array::from_fn(|i| i as u8 * 17), [0xfd; 16]);
        let book = by_the_book(&[a.as_slice(), &b, &[0, 1, 0, 2, 0, 0, 0, 6]].concat());
        assert_eq!(Sum::default().pseudo_header(a.into(), b.into(), 6, 0x1_0002).finish(), book);
    }
}
