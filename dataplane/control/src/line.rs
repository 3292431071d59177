//! Messages to and from JSON lines, with their limits. Called by the daemon's server and by the
//! [`Client`](crate::Client); everything that comes in is bounded and checked here.

use serde::{Deserialize, Serialize};

use crate::{Call, ErrorCode, Refusal, Reply, VERSION};

/// Longest request line in bytes (56 MiB): the largest bundle, of 16,384 members whose signed records take
/// some 2 KiB each, in base64. Plain snapshots are a tenth of that.
pub const MAX_REQUEST_BYTES: usize = 56 << 20;

/// Longest reply line in bytes (16 MiB): the status of 10,000 links at about 300 bytes, with room.
pub const MAX_REPLY_BYTES: usize = 16 << 20;

/// Why a line cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The line is no message of this version.
    #[error(
        "expected one JSON message of version {VERSION}, got {got}; use a stoqctl of the daemon's version"
    )]
    Malformed {
        /// What the parser found.
        got: String,
    },
    /// The line is too long.
    #[error("expected a line of at most {max} bytes, got {got} or more; ask for less at once")]
    TooLong {
        /// The limit in bytes.
        max: usize,
        /// Bytes read.
        got: usize,
    },
}

/// A message as one line, with its newline.
///
/// # Errors
/// [`LineError::Malformed`] if the message cannot be expressed in JSON.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, LineError> {
    let mut line = serde_json::to_vec(message).map_err(|e| malformed(&e))?;
    line.push(b'\n');
    Ok(line)
}

/// Reads a request line (with or without its newline). The version is looked at first, so that a
/// newer client gets an answer that says so.
///
/// # Errors
/// The refusal to send back: [`ErrorCode::Invalid`] or [`ErrorCode::Version`].
pub fn decode_call(line: &[u8]) -> Result<Call, Refusal> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    if line.len() > MAX_REQUEST_BYTES {
        let error = LineError::TooLong { max: MAX_REQUEST_BYTES, got: line.len() };
        return Err(Refusal::new(ErrorCode::Invalid, error.to_string()));
    }
    let invalid =
        |e: serde_json::Error| Refusal::new(ErrorCode::Invalid, malformed(&e).to_string());
    let Versioned { version } = serde_json::from_slice(line).map_err(invalid)?;
    if version != VERSION {
        let message = format!(
            "expected messages of version {VERSION}, got version {version}; use a stoqctl of the daemon's version"
        );
        return Err(Refusal::new(ErrorCode::Version, message));
    }
    serde_json::from_slice(line).map_err(invalid)
}

/// Reads a reply line.
///
/// # Errors
/// [`LineError`] if it is too long or no reply.
pub fn decode_reply(line: &[u8]) -> Result<Reply, LineError> {
    if line.len() > MAX_REPLY_BYTES {
        return Err(LineError::TooLong { max: MAX_REPLY_BYTES, got: line.len() });
    }
    serde_json::from_slice(line).map_err(|e| malformed(&e))
}

fn malformed(error: &serde_json::Error) -> LineError {
    LineError::Malformed { got: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CapturePoint, CaptureRequest, Request, Right, Snapshot, SnapshotPeer};

    fn every_request() -> Vec<Request> {
        let peer = SnapshotPeer {
            name: "edge-b".into(),
            endpoints: vec!["[fd00:99::2]:9292".parse().unwrap()],
            allowed_ips: vec!["10.2.0.0/16".into()],
        };
        let point = CapturePoint::Wire;
        let bundle = Snapshot { number: 8, peers: Vec::new(), bundle: Some("AAEC".into()) };
        vec![
            Request::Status {},
            Request::Reload {},
            Request::Drain {},
            Request::Upgrade {},
            Request::Push { snapshot: Snapshot { number: 7, peers: vec![peer], bundle: None } },
            Request::Push { snapshot: bundle },
            Request::Identity { certificate: "/id.pem".into(), key: "/id.pem".into() },
            Request::Capture(CaptureRequest { point, packets: 1, bytes: 2, seconds: 3 }),
        ]
    }

    #[test]
    fn every_request_comes_back_as_it_was_sent() {
        for request in every_request() {
            let call = Call::new(request);
            let line = encode(&call).unwrap();
            assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
            assert_eq!(decode_call(&line).unwrap(), call);
        }
    }

    #[test]
    fn the_wire_form_of_a_status_request_stays() {
        let line = br#"{"version":1,"request":{"status":{}}}"#;
        assert_eq!(decode_call(line).unwrap().request, Request::Status {});
    }

    #[test]
    fn reading_needs_the_least_right_and_pushing_its_own() {
        let rights: Vec<_> = every_request().iter().map(Request::right).collect();
        let operate = Right::Operate;
        let push = Right::Push;
        assert_eq!(rights, [Right::Read, operate, operate, operate, push, push, push, operate]);
    }

    #[test]
    fn bad_lines_are_refused_with_their_kind() {
        let cases: &[(&[u8], ErrorCode)] = &[
            (b"", ErrorCode::Invalid),
            (b"{}", ErrorCode::Invalid),
            (b"\xff\xfe", ErrorCode::Invalid),
            (br#"{"version":1,"request":{"reboot":{}}}"#, ErrorCode::Invalid),
            (br#"{"version":1,"request":{"status":{"x":1}}}"#, ErrorCode::Invalid),
            (br#"{"version":1,"request":{"status":{}},"more":1}"#, ErrorCode::Invalid),
            (br#"{"version":2,"request":{"news":{}}}"#, ErrorCode::Version),
        ];
        for (line, code) in cases {
            assert_eq!(decode_call(line).unwrap_err().code, *code, "{}", line.escape_ascii());
        }
        let long = vec![b' '; MAX_REQUEST_BYTES + 1];
        assert_eq!(decode_call(&long).unwrap_err().code, ErrorCode::Invalid);
    }
}
