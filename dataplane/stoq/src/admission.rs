//! What an unauthenticated sender may cost: address validation by Retry (RFC 9000 §8.1.2), a
//! budget of handshakes, and a budget of answers to packets that belong to no connection.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use boring::hash::hmac_sha256;
use boring::memcmp;

/// How long a Retry token is good: a round trip on the slowest path, and a retransmission.
const TOKEN_LIFE: Duration = Duration::from_secs(10);

/// Length of the truncated HMAC in a token: 128 bits.
const TAG_LEN: usize = 16;

/// Length of the time in a token.
const TIME_LEN: usize = 8;

/// Longest connection ID (RFC 9000 §17.2).
const CID_MAX: usize = 20;

/// Makes and checks Retry tokens: issue time, original destination CID, HMAC-SHA256 over both with
/// the client's address. Stateless; the key lives as long as the process.
pub struct RetryTokens {
    key: [u8; 32],
    start: Instant,
}

impl RetryTokens {
    /// Tokens under this random key.
    #[must_use]
    pub fn new(key: [u8; 32], now: Instant) -> Self {
        Self { key, start: now }
    }

    /// A token for a client at `from` whose Initial named `odcid`.
    ///
    /// # Errors
    /// When the HMAC fails, which means that memory is exhausted.
    pub fn issue(
        &self,
        from: SocketAddr,
        odcid: &[u8],
        now: Instant,
    ) -> Result<Vec<u8>, TokenError> {
        let age_ms = u64::try_from(now.saturating_duration_since(self.start).as_millis())
            .map_err(|_| TokenError)?;
        let mut token = age_ms.to_be_bytes().to_vec();
        token.extend_from_slice(odcid);
        let tag = self.tag(from, &token)?;
        token.extend_from_slice(&tag);
        Ok(token)
    }

    /// The original destination CID of a valid token.
    ///
    /// # Errors
    /// When it is forged, expired, or was given to another address.
    pub fn check<'t>(
        &self,
        from: SocketAddr,
        token: &'t [u8],
        now: Instant,
    ) -> Result<&'t [u8], TokenError> {
        if !(TIME_LEN + TAG_LEN..=TIME_LEN + CID_MAX + TAG_LEN).contains(&token.len()) {
            return Err(TokenError);
        }
        let (signed, tag) = token.split_at(token.len() - TAG_LEN);
        if !memcmp::eq(&self.tag(from, signed)?, tag) {
            return Err(TokenError);
        }
        let (time, odcid) = signed.split_at(TIME_LEN);
        let issued_ms = u64::from_be_bytes(time.try_into().map_err(|_| TokenError)?);
        let issued = self.start + Duration::from_millis(issued_ms);
        if now.saturating_duration_since(issued) > TOKEN_LIFE {
            return Err(TokenError);
        }
        Ok(odcid)
    }

    fn tag(&self, from: SocketAddr, signed: &[u8]) -> Result<[u8; TAG_LEN], TokenError> {
        let mut message = Vec::with_capacity(18 + signed.len());
        match from.ip() {
            IpAddr::V4(ip) => message.extend_from_slice(&ip.to_ipv6_mapped().octets()),
            IpAddr::V6(ip) => message.extend_from_slice(&ip.octets()),
        }
        message.extend_from_slice(&from.port().to_be_bytes());
        message.extend_from_slice(signed);
        let full = hmac_sha256(&self.key, &message).map_err(|_| TokenError)?;
        full[..TAG_LEN].try_into().map_err(|_| TokenError)
    }
}

/// A retry token that does not hold: expected one issued here, to that address, within 10 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("retry token is forged, expired or from another address")]
pub struct TokenError;

/// A token bucket: at most `burst` at once, refilled at `per_second`.
#[derive(Debug)]
pub struct Budget {
    tokens: f64,
    burst: f64,
    per_second: f64,
    refilled: Instant,
}

impl Budget {
    /// A full bucket.
    #[must_use]
    pub fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        let burst = f64::from(burst);
        Self { tokens: burst, burst, per_second: f64::from(per_second), refilled: now }
    }

    /// Takes one token if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.per_second).min(self.burst);
        self.refilled = now;
        let granted = self.tokens >= 1.0;
        if granted {
            self.tokens -= 1.0;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_holds_for_its_address_and_its_time_only() {
        let now = Instant::now();
        let tokens = RetryTokens::new([7; 32], now);
        let from: SocketAddr = "192.0.2.1:4000".parse().unwrap();
        let token = tokens.issue(from, &[1, 2, 3, 4, 5, 6, 7, 8], now).unwrap();
        assert_eq!(tokens.check(from, &token, now), Ok(&[1, 2, 3, 4, 5, 6, 7, 8][..]));
        let elsewhere = "192.0.2.2:4000".parse().unwrap();
        assert!(tokens.check(elsewhere, &token, now).is_err());
        assert!(tokens.check("192.0.2.1:4001".parse().unwrap(), &token, now).is_err());
        assert!(tokens.check(from, &token, now + TOKEN_LIFE + Duration::from_millis(2)).is_err());
        assert!(RetryTokens::new([8; 32], now).check(from, &token, now).is_err());
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_refused() {
        let now = Instant::now();
        let tokens = RetryTokens::new([7; 32], now);
        let from: SocketAddr = "[2001:db8::1]:4000".parse().unwrap();
        let token = tokens.issue(from, &[9; 12], now).unwrap();
        for bit in 0..token.len() * 8 {
            let mut forged = token.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(tokens.check(from, &forged, now).is_err(), "bit {bit}");
        }
        for len in 0..token.len() {
            assert!(tokens.check(from, &token[..len], now).is_err(), "length {len}");
        }
    }

    #[test]
    fn a_budget_is_spent_and_comes_back() {
        let now = Instant::now();
        let mut budget = Budget::new(2, 10, now);
        assert!(budget.take(now) && budget.take(now) && !budget.take(now));
        assert!(budget.take(now + Duration::from_millis(101)));
        assert!(!budget.take(now + Duration::from_millis(101)));
    }
}
