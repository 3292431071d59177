//! Writing frames of the control stream. Called by the connection through [`Frame::encode`].

use super::{
    Chunk, Frame, Goaway, GoawayReason, HEADS_MAX, Hello, MBPS_MAX, PROTOCOL_VERSION, Proof,
    Purpose, State, TIER_MAX, TierNote, kind,
};
use crate::varint;

impl Frame {
    /// Appends the frame to what is to be written to the control stream.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        let kind = match self {
            Self::Hello(hello) => {
                hello.encode(&mut body);
                kind::HELLO
            }
            Self::Goaway(goaway) => {
                goaway.encode(&mut body);
                kind::GOAWAY
            }
            Self::TunnelMtu(mtu) => {
                body.extend_from_slice(&mtu.to_be_bytes());
                kind::TUNNEL_MTU
            }
            Self::Proof(proof) => {
                proof.encode(&mut body);
                kind::PROOF
            }
            Self::State(state) => {
                state.encode(&mut body);
                kind::STATE
            }
            Self::Revocations(chunk) => {
                chunk.encode(&mut body);
                kind::REVOCATIONS
            }
            Self::Tier(note) => {
                note.encode(&mut body);
                kind::TIER
            }
        };
        varint::write(out, kind);
        varint::write(out, body.len() as u64);
        out.extend_from_slice(&body);
    }
}

impl Hello {
    fn encode(&self, out: &mut Vec<u8>) {
        varint::write(out, PROTOCOL_VERSION);
        write_name(out, self.node.mesh());
        write_name(out, self.node.node());
        out.extend_from_slice(&self.boot.started_ns.to_be_bytes());
        out.extend_from_slice(&self.boot.random.to_be_bytes());
        out.extend_from_slice(&self.features.to_be_bytes());
        out.extend_from_slice(&[self.workers, self.worker, self.slot]);
        out.extend_from_slice(&self.connection.to_be_bytes());
        let (purpose, replaced) = match self.purpose {
            Purpose::First => (0, 0),
            Purpose::Replace { connection } => (1, connection),
        };
        out.push(purpose);
        out.extend_from_slice(&u32::to_be_bytes(replaced));
        out.extend_from_slice(&self.tunnel_mtu.to_be_bytes());
    }
}

impl Proof {
    fn encode(&self, out: &mut Vec<u8>) {
        for field in [&self.signature, &self.log] {
            write_field(out, field);
        }
    }
}

impl State {
    fn encode(&self, out: &mut Vec<u8>) {
        debug_assert!(self.heads.len() <= HEADS_MAX);
        out.extend_from_slice(&self.revocations.to_be_bytes());
        out.extend_from_slice(&self.bundle.to_be_bytes());
        out.push(u8::try_from(self.heads.len()).unwrap_or(u8::MAX));
        for head in &self.heads {
            write_field(out, head);
        }
    }
}

impl Chunk {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.total.to_be_bytes());
        out.extend_from_slice(&self.offset.to_be_bytes());
        out.extend_from_slice(&self.bytes);
    }
}

/// The number that says "not measured".
pub(super) const UNMEASURED: u8 = u8::MAX;

impl TierNote {
    fn encode(self, out: &mut Vec<u8>) {
        debug_assert!(self.tier.is_none_or(|tier| tier <= TIER_MAX));
        out.push(self.tier.unwrap_or(UNMEASURED));
        for mbps in [self.rate_mbps, self.link_speed_mbps] {
            out.extend_from_slice(&mbps.min(MBPS_MAX).to_be_bytes());
        }
    }
}

impl Goaway {
    fn encode(self, out: &mut Vec<u8>) {
        out.push(self.reason.code());
        out.extend_from_slice(&self.drain_ms.to_be_bytes());
    }
}

impl GoawayReason {
    fn code(self) -> u8 {
        match self {
            Self::Shutdown => 0,
            Self::Restart => 1,
            Self::Replace => 2,
            Self::Unknown(code) => code,
        }
    }
}

/// Bytes behind their length in two bytes; every field of this kind is bounded far below that.
fn write_field(out: &mut Vec<u8>, field: &[u8]) {
    let len = u16::try_from(field.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(field);
}

/// A name is at most 63 bytes long (`NodeId` holds no other), so its length is one byte.
fn write_name(out: &mut Vec<u8>, name: &str) {
    debug_assert!(name.len() <= stoq_identity::NAME_MAX);
    out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(name.as_bytes());
}
