//! What a flood consists of, in a file: each payload behind its length in two bytes.

use crate::{Error, Result};
use quiche::{Config, ConnectionId};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

/// Payloads of a file: more than a processor's caches of them would hide.
const PAYLOADS: usize = 400;

/// Garbage is so long, in bytes: small packets are the most in a second.
const SHORTEST: usize = 20;
const LONGEST: usize = 220;

/// A first datagram has at least so many bytes (RFC 9000 §14.1); quiche makes it just so long.
const FIRST_DATAGRAM: usize = 1200;

/// The protocol of the daemon.
const ALPN: &[u8] = b"stoq/1";

/// Length of a connection ID that a dialler makes up (`docs/protocol.md`, section 4).
const CID_LEN: usize = 12;

/// A kind of flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Random bytes; three in four look like a QUIC packet of a connection that there is not.
    Garbage,
    /// First datagrams of real QUIC v1 clients, each with a destination ID of its own.
    Initials,
}

impl Kind {
    /// Its name in results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Garbage => "garbage",
            Self::Initials => "initials",
        }
    }
}

/// Makes payloads of a kind and writes them to `path`.
///
/// # Errors
/// [`Error::Io`] when the file cannot be written or the client not be made.
pub fn write_payloads(kind: Kind, path: &Path) -> Result<()> {
    let seed = fastrand::u64(..);
    eprintln!("payloads from seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = Vec::new();
    for _ in 0..PAYLOADS {
        let payload = match kind {
            Kind::Garbage => garbage(&mut random),
            Kind::Initials => initial(&mut random).map_err(|error| Error::Io {
                what: "make a first datagram".to_owned(),
                source: std::io::Error::other(error),
            })?,
        };
        bytes.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&payload);
    }
    fs::write(path, bytes).map_err(Error::io(format!("write {}", path.display())))
}

/// Reads what [`write_payloads`] wrote.
pub(super) fn read(path: &Path) -> Result<Vec<Vec<u8>>> {
    let bytes = fs::read(path).map_err(Error::io(format!("read {}", path.display())))?;
    let mut rest = bytes.as_slice();
    let mut payloads = Vec::new();
    while let Some((len, behind)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes(*len));
        let (payload, next) = behind.split_at_checked(len).unwrap_or((behind, &[]));
        payloads.push(payload.to_vec());
        rest = next;
    }
    Ok(payloads)
}

fn garbage(random: &mut fastrand::Rng) -> Vec<u8> {
    let len = random.usize(SHORTEST..=LONGEST);
    let mut bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(len).collect();
    // The fixed bit of QUIC, and the header form: random bytes have neither in half the cases.
    if random.u8(..4) > 0 {
        bytes[0] = bytes[0] & 0x3f | 0x40;
    }
    bytes
}

fn initial(random: &mut fastrand::Rng) -> quiche::Result<Vec<u8>> {
    let mut config = Config::new(quiche::PROTOCOL_VERSION)?;
    config.set_application_protos(&[ALPN])?;
    config.set_max_send_udp_payload_size(FIRST_DATAGRAM);
    let mut dcid: [u8; CID_LEN] = std::array::from_fn(|_| random.u8(..));
    dcid[0] &= 0x0f;
    dcid[1] = 0;
    let scid: [u8; CID_LEN] = std::array::from_fn(|_| random.u8(..));
    let (dcid, scid) = (ConnectionId::from_ref(&dcid), ConnectionId::from_ref(&scid));
    // It does not matter from where to where: nothing in a first datagram says it.
    let here = SocketAddr::from(([0; 16], 1));
    let mut client = quiche::connect_with_dcid(None, &scid, &dcid, here, here, &mut config)?;
    let mut datagram = vec![0; FIRST_DATAGRAM];
    let (len, _) = client.send(&mut datagram)?;
    datagram.truncate(len);
    Ok(datagram)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("payloads");
        write_payloads(Kind::Garbage, &path).unwrap();
        let payloads = read(&path).unwrap();
        assert_eq!(payloads.len(), PAYLOADS);
        assert!(payloads.iter().all(|payload| (SHORTEST..=LONGEST).contains(&payload.len())));
    }

    #[test]
    fn first_datagrams_are_initial_packets_with_ids_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("payloads");
        write_payloads(Kind::Initials, &path).unwrap();
        let mut ids = std::collections::BTreeSet::new();
        for mut datagram in read(&path).unwrap() {
            assert_eq!(datagram.len(), FIRST_DATAGRAM);
            let header = quiche::Header::from_slice(&mut datagram, CID_LEN).unwrap();
            assert_eq!(header.ty, quiche::Type::Initial);
            assert_eq!((header.dcid.len(), header.dcid[0] >> 4, header.dcid[1]), (CID_LEN, 0, 0));
            ids.insert(header.dcid.to_vec());
        }
        assert_eq!(ids.len(), PAYLOADS);
    }
}
