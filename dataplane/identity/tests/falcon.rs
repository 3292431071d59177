//! FALCON by answers that others computed: the library's own, and signatures by another program.
//!
//! The library has the draft of FN-DSA, which orders bits and hashes messages differently from FALCON
//! as submitted to NIST. Beneath that the two are one scheme: a short polynomial `s2` such that
//! `s1 = c - s2 h` is short too. So a verifier of a page, written here from the specification (FALCON
//! v1.2, §3.10 and §3.11), is shown to be right on signatures of FALCON-1024 that Bouncy Castle 1.80
//! made (`falcon/Vectors.java`), and then judges signatures made here.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use fn_dsa::{
    CryptoRng, DomainContext, FN_DSA_LOGN_1024, HASH_ID_RAW, HASH_ID_SHA3_256, KeyPairGenerator,
    KeyPairGenerator1024, RngCore, RngError, SHA3_256, SHAKE256, SigningKey, SigningKey1024,
    sign_key_size, signature_size, vrfy_key_size,
};
use stoq_identity::PrivateKeys;

const N: usize = 1024;
const Q: i64 = 12289;
/// The largest squared length of a signature (FALCON v1.2, table 3.3).
const LENGTH_MAX: i64 = 70_265_242;
const NONCE_BYTES: usize = 40;

/// What differs between FALCON in round 3 and FN-DSA: which bit of a byte, and which byte of a hash's
/// word, comes first; with the low bit first goes that `h` is given by its values at roots of
/// `x^1024 + 1` ([`from_values`]).
#[derive(Clone, Copy, PartialEq)]
enum Order {
    HighFirst,
    LowFirst,
}

struct Bits<'a>(&'a [u8], usize, Order);

impl Bits<'_> {
    fn bit(&mut self) -> Option<i64> {
        let byte = *self.0.get(self.1 / 8)?;
        let place = self.1 % 8;
        self.1 += 1;
        let shift = if self.2 == Order::HighFirst { 7 - place } else { place };
        Some(i64::from(byte >> shift & 1))
    }

    fn number(&mut self, bits: u32) -> Option<i64> {
        let mut number = 0;
        for place in 0..bits {
            let bit = self.bit()?;
            number =
                if self.2 == Order::HighFirst { number << 1 | bit } else { number | bit << place };
        }
        Some(number)
    }

    /// One coefficient of a signature: a sign, seven low bits, the rest in zeros before a one.
    fn coefficient(&mut self) -> Option<i64> {
        let negative = self.bit()? == 1;
        let mut size = self.number(7)?;
        while self.bit()? == 0 {
            size += 128;
        }
        (size < 2048 && !(negative && size == 0)).then_some(if negative { -size } else { size })
    }
}

fn hash_to_point(nonce: &[u8], message: &[u8], order: Order) -> Vec<i64> {
    let mut shake = SHAKE256::new();
    shake.inject(nonce);
    shake.inject(message);
    shake.flip();
    let mut point = Vec::new();
    while point.len() < N {
        let mut word = [0; 2];
        shake.extract(&mut word);
        let word = if order == Order::HighFirst {
            u16::from_be_bytes(word)
        } else {
            u16::from_le_bytes(word)
        };
        if i64::from(word) < 5 * Q {
            point.push(i64::from(word) % Q);
        }
    }
    point
}

/// The polynomial with these values: the `i`th at the root `g^(2 r + 1)`, where `r` is `i` with its ten
/// bits reversed.
fn from_values(values: &[i64]) -> Vec<i64> {
    /// A root of `x^1024 + 1` modulo q.
    const G: i64 = 7;
    /// 1 / 1024 modulo q.
    const INVERSE: i64 = 12277;
    let powers: Vec<i64> =
        std::iter::successors(Some(1), |power| Some(power * G % Q)).take(2 * N).collect();
    assert_eq!((powers[N], 1024 * INVERSE % Q), (Q - 1, 1));
    let reversed = |i: usize| (0..10).fold(0, |out, bit| out << 1 | i >> bit & 1);
    let roots: Vec<usize> = (0..N).map(|i| 2 * reversed(i) + 1).collect();
    let coefficient = |j: usize| {
        let terms = values.iter().enumerate().map(|(i, value)| {
            // The inverse of the root to the j: the roots' order is 2048.
            value * powers[(2 * N - roots[i] * j % (2 * N)) % (2 * N)] % Q
        });
        terms.sum::<i64>() % Q * INVERSE % Q
    };
    (0..N).map(coefficient).collect()
}

/// Whether `signature` (header, nonce, coefficients) is one over `message` by the key `public`
/// (coefficients alone).
fn holds(public: &[u8], message: &[u8], signature: &[u8], order: Order) -> Option<bool> {
    let mut bits = Bits(public, 0, order);
    let h: Vec<i64> = (0..N).map(|_| bits.number(14)).collect::<Option<_>>()?;
    let h = if order == Order::LowFirst { from_values(&h) } else { h };
    let rest = signature.strip_prefix(&[0x3a])?;
    let (nonce, rest) = rest.split_at_checked(NONCE_BYTES)?;
    let mut bits = Bits(rest, 0, order);
    let s2: Vec<i64> = (0..N).map(|_| bits.coefficient()).collect::<Option<_>>()?;
    while let Some(bit) = bits.bit() {
        if bit == 1 {
            return None;
        }
    }
    let mut s1 = hash_to_point(nonce, message, order);
    for (i, a) in s2.iter().enumerate() {
        for (j, b) in h.iter().enumerate() {
            // Modulo x^1024 + 1: what runs over comes back negative.
            let sign = if i + j < N { -1 } else { 1 };
            s1[(i + j) % N] += sign * a * b;
        }
    }
    let centred = |value: i64| (value + Q / 2).rem_euclid(Q) - Q / 2;
    let length: i64 = s1.iter().map(|&value| centred(value).pow(2)).sum::<i64>()
        + s2.iter().map(|value| value.pow(2)).sum::<i64>();
    Some(length <= LENGTH_MAX)
}

fn hexadecimal(text: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}

#[test]
fn the_verifier_of_this_test_accepts_what_bouncy_castle_signed_and_nothing_else() {
    let vectors = include_str!("falcon/bouncy-castle-1.80.txt");
    assert_eq!(vectors.lines().count(), 3);
    for line in vectors.lines() {
        let parts: Vec<_> = line.split(' ').map(hexadecimal).collect();
        let [public, message, signature] = &parts[..] else { panic!("{line}") };
        let check = |message: &[u8], signature: &[u8]| {
            holds(public, message, signature, Order::HighFirst) == Some(true)
        };
        assert!(check(message, signature));
        assert!(!check(&message[1..], signature));
        for at in [1, NONCE_BYTES + 10, signature.len() / 2] {
            let mut damaged = signature.clone();
            damaged[at] ^= 1;
            assert!(!check(message, &damaged), "byte {at}");
        }
    }
}

/// What FN-DSA signs in the place of a message that is not hashed before, without a context.
fn representative(public: &[u8], message: &[u8]) -> [u8; 64] {
    let shake = |parts: &[&[u8]]| {
        let mut shake = SHAKE256::new();
        parts.iter().for_each(|part| shake.inject(part));
        shake.flip();
        let mut out = [0; 64];
        shake.extract(&mut out);
        out
    };
    shake(&[&shake(&[public]), &[0, 0], message])
}

#[test]
fn what_is_signed_here_is_falcon_to_that_verifier() {
    let keys = PrivateKeys::generate().unwrap();
    let (_, public) = keys.public().alternative().unwrap();
    assert_eq!(public[0], 0x0a);
    for message in [&b""[..], b"message", &[7; 3000]] {
        let signature = keys.sign_alternative(message).unwrap();
        let hashed = representative(public, message);
        assert_eq!(holds(&public[1..], &hashed, &signature, Order::LowFirst), Some(true));
        let other = representative(public, b"other");
        assert_eq!(holds(&public[1..], &other, &signature, Order::LowFirst), Some(false));
    }
}

/// SHA3-256 over private key, public key and signature, for the seeds 10 and 0 to 9: the known answers
/// of degree 1024 in the tests of `fn-dsa` 0.4.0, by its author.
const ANSWERS: [&str; 10] = [
    "51bec3b8ca2565a94b2f1ad7bdc5f3844170495f235b8ea87fdae7e6d3b9dcb6",
    "abed632dec978f230f17e1c9059e36a7f0edfbaac2969ee75100421ea3346446",
    "83868908f2f89ee85a4e869b3d040de1f040e0dfa2e8cdabff00f0a2a2e8c120",
    "66f11c38b7f787bd66cd00ec62f3f2af622b81274a4dbe9462025b8d757710e1",
    "65602b1692abe97e845e41589d21927732f71c36ef1c888d155a15708b7b60e4",
    "95539caec65ac9a9ce23175168af914b905165b8f72c4d700f61b0b746683b11",
    "3a9632ee72a09704519eadea4b3688289c644f17105d29997d3555d21a428c7b",
    "b32a4019b5e5f802d4b61c751b99c58ffdee5adbf8cb97dc59c480756aa0a4f7",
    "439a026581a9472bf11b9f62389a066291b9a4ca789877ee2a44c9c6b5ca9852",
    "37b7f34cd910edc8b53b5302af4e2ff60192a396fe6c44fe8140a0ce0be04888",
];

/// Random numbers that are none.
struct Seed(Vec<u8>);

impl CryptoRng for Seed {}

impl RngCore for Seed {
    fn next_u32(&mut self) -> u32 {
        unreachable!("the library asks for whole seeds")
    }

    fn next_u64(&mut self) -> u64 {
        unreachable!("the library asks for whole seeds")
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.0.drain(..bytes.len()).collect::<Vec<_>>());
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), RngError> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut sha3 = SHA3_256::new();
    parts.iter().for_each(|part| sha3.update(part));
    sha3.digest()
}

#[test]
fn the_answers_of_the_author_are_computed_on_this_machine_too() {
    for (number, answer) in (0u32..).zip(ANSWERS) {
        let mut shake = SHAKE256::new();
        shake.inject(&[10]);
        shake.inject(&number.to_le_bytes());
        shake.flip();
        let (mut making, mut signing) = (vec![0; 32], vec![0; 40]);
        shake.extract(&mut making);
        shake.extract(&mut signing);
        let mut secret = vec![0; sign_key_size(FN_DSA_LOGN_1024)];
        let mut public = vec![0; vrfy_key_size(FN_DSA_LOGN_1024)];
        let mut generator = KeyPairGenerator1024::default();
        generator.keygen(FN_DSA_LOGN_1024, &mut Seed(making), &mut secret, &mut public);
        let mut key = SigningKey1024::decode(&secret).unwrap();
        let mut signature = vec![0; signature_size(FN_DSA_LOGN_1024)];
        let context = DomainContext(b"domain");
        let hashed = digest(&[b"message"]);
        let (kind, message) = if number % 2 == 0 {
            (HASH_ID_RAW, &b"message"[..])
        } else {
            (HASH_ID_SHA3_256, &hashed[..])
        };
        key.sign(&mut Seed(signing), &context, &kind, message, &mut signature).unwrap();
        assert_eq!(
            digest(&[&secret, &public, &signature]).to_vec(),
            hexadecimal(answer),
            "{number}"
        );
    }
}
