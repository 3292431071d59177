//! What an application stream says before the application's own bytes, and how it is broken off
//! (`docs/protocol.md`, "Streams"). Used by the endpoint; the names also by whoever offers services.

use std::fmt;
use std::str::FromStr;

/// Longest name of a service in bytes: it fits a log line and leaves room for a suffix.
pub const SERVICE_MAX: usize = 32;

/// Length of the longest header: the length of a name, and the name.
pub(crate) const HEADER_MAX: usize = 1 + SERVICE_MAX;

/// What the acceptor of a stream says first when it takes it.
pub(crate) const ACCEPTED: u8 = 0;

/// The name of a service: 1 to [`SERVICE_MAX`] characters of `a`–`z`, `0`–`9` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Service(Box<str>);

/// A text that names no service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 1 to {SERVICE_MAX} of a-z, 0-9 and -, got another text; mend the service's name")]
pub struct ServiceError;

impl FromStr for Service {
    type Err = ServiceError;

    fn from_str(text: &str) -> Result<Self, ServiceError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !(1..=SERVICE_MAX).contains(&text.len()) || !text.bytes().all(allowed) {
            return Err(ServiceError);
        }
        Ok(Self(text.into()))
    }
}

impl Service {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The header that opens a stream to this service.
    #[must_use]
    pub fn header(&self) -> Vec<u8> {
        let mut header = Vec::with_capacity(1 + self.0.len());
        header.push(u8::try_from(self.0.len()).unwrap_or(u8::MAX));
        header.extend_from_slice(self.0.as_bytes());
        header
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How many bytes of a header are still to be read after these; 0 if it is complete.
#[must_use]
pub fn header_missing(got: &[u8]) -> usize {
    got.first().map_or(1, |&len| (1 + usize::from(len)).saturating_sub(got.len()))
}

/// Reads a complete header.
///
/// # Errors
/// When what follows the length names no service.
pub fn parse_header(header: &[u8]) -> Result<Service, ServiceError> {
    let name = header.get(1..).ok_or(ServiceError)?;
    std::str::from_utf8(name).map_err(|_| ServiceError)?.parse()
}

/// Why a stream was broken off: the error codes of RESET_STREAM and STOP_SENDING (RFC 9000 §19.4,
/// §19.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum StreamCode {
    /// Nobody needs the rest any more.
    Cancelled = 0,
    /// The acceptor has no service of this name.
    UnknownService = 1,
    /// The opener may not use the service, or there are too many streams.
    Refused = 2,
    /// What is behind the stream on the node that says so cannot be reached, or broke.
    LocalFailure = 3,
    /// The header or the answer was malformed.
    Invalid = 4,
}

impl StreamCode {
    /// The code with this number; unknown ones count as [`StreamCode::Cancelled`].
    pub(crate) fn from_wire(code: u64) -> Self {
        let all = [Self::UnknownService, Self::Refused, Self::LocalFailure, Self::Invalid];
        all.into_iter().find(|known| *known as u64 == code).unwrap_or(Self::Cancelled)
    }
}

/// Why a stream ended before both ends had said all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The peer broke it off.
    ByPeer(StreamCode),
    /// Its connection is gone.
    Lost,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let service: Service = "time-1".parse().unwrap();
        let header = service.header();
        assert_eq!(header, b"\x06time-1");
        for end in 0..header.len() {
            let missing = header_missing(&header[..end]);
            assert_eq!(missing, if end == 0 { 1 } else { header.len() - end });
        }
        assert_eq!(header_missing(&header), 0);
        assert_eq!(parse_header(&header), Ok(service));
    }

    #[test]
    fn names_are_bounded_in_length_and_characters() {
        assert!("a".repeat(SERVICE_MAX).parse::<Service>().is_ok());
        for bad in ["", &"a".repeat(SERVICE_MAX + 1), "Time", "a b", "a/b", "\u{e4}"] {
            assert!(bad.parse::<Service>().is_err(), "{bad}");
        }
        assert!(parse_header(b"\x00").is_err());
        assert!(parse_header(b"\x02\xff\xfe").is_err());
    }

    #[test]
    fn unknown_codes_count_as_cancelled() {
        for code in [StreamCode::Cancelled, StreamCode::Refused, StreamCode::Invalid] {
            assert_eq!(StreamCode::from_wire(code as u64), code);
        }
        assert_eq!(StreamCode::from_wire(99), StreamCode::Cancelled);
    }
}
