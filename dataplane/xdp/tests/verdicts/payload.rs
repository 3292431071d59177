//! UDP payloads: QUIC packets of each kind, with connection IDs that the protocol's own code issued.

use stoq::cid::{CID_LEN, CidKeys, initial_dcid};
use stoq_xdp::{CidCheck, CidKey};

/// The run of the daemon in all cases.
pub const GENERATION: u16 = 7;

/// The keys of the host: two valid ones, and one that is retired.
pub struct Host {
    retired: CidKeys,
    previous: CidKeys,
    pub current: CidKeys,
}

impl Host {
    pub fn new() -> Self {
        let retired = CidKeys::new([1; 32]);
        let mut previous = retired.clone();
        previous.rotate([2; 32]);
        let mut current = previous.clone();
        current.rotate([3; 32]);
        Self { retired, previous, current }
    }

    /// What the program is told of the keys.
    pub fn check(&self) -> CidCheck {
        let keys = self.current.tag_keys();
        let keys = keys.map(|key| key.map(|key| CidKey { number: key.number, secret: key.secret }));
        CidCheck { generation: GENERATION, keys }
    }

    pub fn cid(&self) -> [u8; CID_LEN] {
        *self.current.issue(3, GENERATION, 0xdead_beef).as_bytes()
    }

    pub fn cid_of_previous_key(&self) -> [u8; CID_LEN] {
        *self.previous.issue(0, GENERATION, 5).as_bytes()
    }

    pub fn cid_of_retired_key(&self) -> [u8; CID_LEN] {
        *self.retired.issue(0, GENERATION, 5).as_bytes()
    }

    pub fn cid_of_earlier_run(&self) -> [u8; CID_LEN] {
        *self.current.issue(3, GENERATION - 1, 5).as_bytes()
    }

    /// An ID whose tag is right, in a format that is not issued.
    pub fn cid_of_other_format(&self) -> [u8; CID_LEN] {
        let mut cid = self.cid();
        cid[0] = cid[0] & 0x0f | 0x20;
        let [Some(key), _] = self.current.tag_keys() else { panic!("there is a current key") };
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        let secret = [word(&key.secret[..8]), word(&key.secret[8..])];
        let tag = stoq_xdp_types::tag(secret, word(&cid[..8]));
        cid[8..].copy_from_slice(&tag.to_le_bytes());
        cid
    }

    pub fn forged_cid(&self) -> [u8; CID_LEN] {
        let mut cid = self.cid();
        cid[11] ^= 1;
        cid
    }
}

/// A dialler's first ID.
pub fn made_up_cid() -> [u8; CID_LEN] {
    initial_dcid(2, [0x5a; CID_LEN])
}

/// A packet with a short header, of this length in all.
pub fn short(cid: [u8; CID_LEN], len: usize) -> Vec<u8> {
    let mut packet = vec![0x43];
    packet.extend_from_slice(&cid);
    packet.resize(len, 0xa5);
    packet
}

/// The types of long headers (RFC 9000 §17.2).
pub const INITIAL: u8 = 0;
pub const ZERO_RTT: u8 = 1;
pub const HANDSHAKE: u8 = 2;
pub const RETRY: u8 = 3;

/// A packet with a long header of version 1, of this length in all.
pub fn long(kind: u8, dcid: &[u8], len: usize) -> Vec<u8> {
    versioned(0xc0 | kind << 4, 1, dcid, &[9; 8], len)
}

/// A packet with any long header, of this length in all.
pub fn versioned(first: u8, version: u32, dcid: &[u8], scid: &[u8], len: usize) -> Vec<u8> {
    let mut packet = vec![first];
    packet.extend_from_slice(&version.to_be_bytes());
    for cid in [dcid, scid] {
        packet.push(u8::try_from(cid.len()).unwrap());
        packet.extend_from_slice(cid);
    }
    packet.resize(len, 0xa5);
    packet
}
