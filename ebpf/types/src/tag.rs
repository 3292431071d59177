//! The keyed hash in connection IDs: SipHash-2-4 over eight bytes, of which four are kept.
//!
//! The form of an ID is told in `dataplane/stoq/src/cid.rs`. The crate that computes it there does not
//! compile to a program that the kernel's verifier takes; this is the same function for one length.

/// Bytes of the message, as SipHash puts them into its last word.
const LENGTH: u64 = 8 << 56;

/// The tag of a connection ID, as a little-endian word of four bytes. `contents` are the ID's first
/// eight bytes and `secret` the sixteen of the key, both read as little-endian words.
#[inline(always)]
#[must_use]
pub const fn tag(secret: [u64; 2], contents: u64) -> u32 {
    let [k0, k1] = secret;
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    v[3] ^= contents;
    v = round(round(v));
    v[0] ^= contents;
    v[3] ^= LENGTH;
    v = round(round(v));
    v[0] ^= LENGTH;
    v[2] ^= 0xff;
    v = round(round(round(round(v))));
    (v[0] ^ v[1] ^ v[2] ^ v[3]) as u32
}

#[inline(always)]
const fn round([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use siphasher::sip::SipHasher24;

    #[test]
    fn it_is_siphash_2_4() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            seed.rotate_left(29)
        };
        for _ in 0..1_000 {
            let (secret, contents) = ([next(), next()], next());
            let mut key = [0; 16];
            key[..8].copy_from_slice(&secret[0].to_le_bytes());
            key[8..].copy_from_slice(&secret[1].to_le_bytes());
            let hash = SipHasher24::new_with_key(&key).hash(&contents.to_le_bytes());
            assert_eq!(tag(secret, contents), hash as u32);
        }
    }
}
