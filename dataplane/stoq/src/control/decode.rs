//! Reading frames of the control stream, piece by piece as QUIC delivers it, in bounded memory.

use stoq_identity::NodeId;

use super::{
    BootId, Chunk, ControlError, Frame, Goaway, GoawayReason, HEAD_LEN_MAX, HEADS_MAX, Hello,
    LOG_PROOF_LEN_MAX, MAX_FRAME_LEN, MBPS_MAX, MIN_TUNNEL_MTU, PROTOCOL_VERSION, Proof, Purpose,
    REVOCATIONS_MAX, SIGNATURE_LEN_MAX, State, TIER_MAX, TierNote, encode::UNMEASURED, kind,
};
use crate::varint;

/// Most bytes that a [`Decoder`] holds: an unfinished frame with its header, and one read of the
/// stream as long as a frame.
pub const MAX_BUFFERED_LEN: usize = 2 * (MAX_FRAME_LEN + 2 * varint::MAX_LEN);

/// Turns the bytes of one half of the control stream into frames.
///
/// After an error it stays at the broken frame: every later call returns the error again.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that are decoded already.
    taken: usize,
    due: Due,
}

/// What may come next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Due {
    /// PROOF, and nothing else.
    Proof,
    /// HELLO, in a connection without proofs.
    #[default]
    Hello,
    /// HELLO, after PROOF.
    HelloProven,
    /// Anything but those two.
    Rest,
}

impl Due {
    /// What is due after a frame of this type.
    fn after(self, kind: u64) -> Result<Self, ControlError> {
        match (self, kind) {
            (Self::Proof, kind::PROOF) => Ok(Self::HelloProven),
            (Self::Proof, got) => Err(ControlError::ProofMissing { got }),
            (Self::Hello, kind::PROOF) => Err(ControlError::ProofUnexpected),
            (_, kind::PROOF) => Err(ControlError::ProofRepeated),
            (Self::Hello | Self::HelloProven, kind::HELLO) => Ok(Self::Rest),
            (Self::Hello | Self::HelloProven, got) => Err(ControlError::HelloMissing { got }),
            (Self::Rest, kind::HELLO) => Err(ControlError::HelloRepeated),
            (Self::Rest, _) => Ok(Self::Rest),
        }
    }
}

impl Decoder {
    /// A decoder of a stream on which PROOF comes first.
    #[must_use]
    pub fn proving() -> Self {
        Self { due: Due::Proof, ..Self::default() }
    }

    /// Takes the next bytes of the stream. Call [`Decoder::next`] until it returns `None` before
    /// the next push; one push then may have [`MAX_FRAME_LEN`] bytes.
    ///
    /// # Errors
    /// [`ControlError::Backlog`] when more than [`MAX_BUFFERED_LEN`] bytes would be held.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), ControlError> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let got = self.buffer.len() + bytes.len();
        if got > MAX_BUFFERED_LEN {
            return Err(ControlError::Backlog { got });
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The next frame that is known, or `None` until more bytes are pushed.
    ///
    /// # Errors
    /// The rule that the peer broke.
    #[allow(clippy::should_implement_trait, reason = "None means not yet, not the end")]
    pub fn next(&mut self) -> Result<Option<Frame>, ControlError> {
        // Ends: each round takes at least two bytes of a bounded buffer.
        while let Some((kind, start, end)) = self.header()? {
            let due = self.due.after(kind)?;
            let Some(body) = self.buffer.get(start..end) else { return Ok(None) };
            let frame = parse(kind, body)?;
            self.due = due;
            self.taken = end;
            if frame.is_some() {
                return Ok(frame);
            }
        }
        Ok(None)
    }

    /// Type of the next frame, and where its body starts and ends in the buffer.
    fn header(&self) -> Result<Option<(u64, usize, usize)>, ControlError> {
        let Some((kind, kind_len)) = varint::read(&self.buffer[self.taken..]) else {
            return Ok(None);
        };
        let length_at = self.taken + kind_len;
        let Some((length, length_len)) = varint::read(&self.buffer[length_at..]) else {
            return Ok(None);
        };
        let too_long = ControlError::TooLong { got: length };
        let length = usize::try_from(length).map_err(|_| too_long.clone())?;
        if length > MAX_FRAME_LEN {
            return Err(too_long);
        }
        let start = length_at + length_len;
        Ok(Some((kind, start, start + length)))
    }
}

/// The frame with this body, or `None` if its type is unknown.
fn parse(kind: u64, body: &[u8]) -> Result<Option<Frame>, ControlError> {
    let frame = match kind {
        kind::HELLO => Body::new("HELLO", body).read(hello).map(Frame::Hello)?,
        kind::GOAWAY => Body::new("GOAWAY", body).read(goaway).map(Frame::Goaway)?,
        kind::TUNNEL_MTU => Body::new("TUNNEL_MTU", body).read(tunnel_mtu).map(Frame::TunnelMtu)?,
        kind::PROOF => Body::new("PROOF", body).read(proof).map(Frame::Proof)?,
        kind::STATE => Body::new("STATE", body).read(state).map(Frame::State)?,
        kind::REVOCATIONS => Body::new("REVOCATIONS", body).read(chunk).map(Frame::Revocations)?,
        kind::TIER => Body::new("TIER", body).read(tier).map(Frame::Tier)?,
        _ => return Ok(None),
    };
    Ok(Some(frame))
}

fn proof(body: &mut Body<'_>) -> Result<Proof, ControlError> {
    let signature = body.field("signature", 1..=SIGNATURE_LEN_MAX)?;
    let log = body.field("log proof", 0..=LOG_PROOF_LEN_MAX)?;
    Ok(Proof { signature, log })
}

fn state(body: &mut Body<'_>) -> Result<State, ControlError> {
    let revocations = u64::from_be_bytes(body.array()?);
    let bundle = u64::from_be_bytes(body.array()?);
    let [count] = body.array()?;
    if usize::from(count) > HEADS_MAX {
        return Err(body.value("number of heads", count));
    }
    let heads = (0..count).map(|_| body.field("tree head", 1..=HEAD_LEN_MAX));
    let heads = heads.collect::<Result<_, _>>()?;
    Ok(State { revocations, bundle, heads })
}

fn chunk(body: &mut Body<'_>) -> Result<Chunk, ControlError> {
    let sequence = u64::from_be_bytes(body.array()?);
    let (total, offset) = (body.u32()?, body.u32()?);
    let bytes = body.bytes(body.rest.len())?.to_vec();
    let end = offset as usize + bytes.len();
    if !(1..=REVOCATIONS_MAX).contains(&(total as usize)) {
        return Err(body.value("length of the set", total));
    }
    if bytes.is_empty() || end > total as usize {
        return Err(body.value("end of the chunk", end as u64));
    }
    Ok(Chunk { sequence, total, offset, bytes })
}

fn hello(body: &mut Body<'_>) -> Result<Hello, ControlError> {
    let version = body.varint()?;
    if version != PROTOCOL_VERSION {
        return Err(ControlError::Version { got: version });
    }
    let mesh = body.name()?;
    let node = body.name()?;
    let node = NodeId::new(mesh, node)?;
    let boot = BootId {
        started_ns: u64::from_be_bytes(body.array()?),
        random: u128::from_be_bytes(body.array()?),
    };
    let features = u64::from_be_bytes(body.array()?);
    let [workers, worker, slot] = body.array()?;
    if worker >= workers {
        return Err(body.value("worker", worker));
    }
    let connection = body.u32()?;
    let purpose = purpose(body)?;
    let tunnel_mtu = tunnel_mtu(body)?;
    Ok(Hello { node, boot, features, workers, worker, slot, connection, purpose, tunnel_mtu })
}

fn purpose(body: &mut Body<'_>) -> Result<Purpose, ControlError> {
    let [code] = body.array()?;
    let connection = body.u32()?;
    match (code, connection) {
        (0, 0) => Ok(Purpose::First),
        (0, _) => Err(body.value("replaced connection", connection)),
        (1, _) => Ok(Purpose::Replace { connection }),
        _ => Err(body.value("purpose", code)),
    }
}

fn goaway(body: &mut Body<'_>) -> Result<Goaway, ControlError> {
    let reason = match body.array()? {
        [0] => GoawayReason::Shutdown,
        [1] => GoawayReason::Restart,
        [2] => GoawayReason::Replace,
        [code] => GoawayReason::Unknown(code),
    };
    Ok(Goaway { reason, drain_ms: body.u32()? })
}

fn tier(body: &mut Body<'_>) -> Result<TierNote, ControlError> {
    let [tier] = body.array()?;
    if tier > TIER_MAX && tier != UNMEASURED {
        return Err(body.value("tier", tier));
    }
    let tier = (tier != UNMEASURED).then_some(tier);
    let (rate_mbps, link_speed_mbps) = (mbps(body, "rate")?, mbps(body, "link speed")?);
    Ok(TierNote { tier, rate_mbps, link_speed_mbps })
}

fn mbps(body: &mut Body<'_>, name: &'static str) -> Result<u32, ControlError> {
    let mbps = body.u32()?;
    if mbps > MBPS_MAX { Err(body.value(name, mbps)) } else { Ok(mbps) }
}

fn tunnel_mtu(body: &mut Body<'_>) -> Result<u16, ControlError> {
    let mtu = u16::from_be_bytes(body.array()?);
    if mtu < MIN_TUNNEL_MTU { Err(body.value("tunnel MTU", mtu)) } else { Ok(mtu) }
}

/// The body of one frame while it is read.
struct Body<'a> {
    frame: &'static str,
    len: usize,
    rest: &'a [u8],
}

impl<'a> Body<'a> {
    fn new(frame: &'static str, bytes: &'a [u8]) -> Self {
        Self { frame, len: bytes.len(), rest: bytes }
    }

    /// Reads the whole body: bytes left over are an error.
    fn read<T>(
        mut self,
        fields: impl FnOnce(&mut Self) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        let value = fields(&mut self)?;
        if self.rest.is_empty() { Ok(value) } else { Err(self.layout()) }
    }

    fn layout(&self) -> ControlError {
        ControlError::Layout { frame: self.frame, len: self.len }
    }

    fn value(&self, field: &'static str, got: impl Into<u64>) -> ControlError {
        ControlError::Value { frame: self.frame, field, got: got.into() }
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], ControlError> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or_else(|| self.layout())?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ControlError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(|| self.layout())?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn u32(&mut self) -> Result<u32, ControlError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn varint(&mut self) -> Result<u64, ControlError> {
        let (value, len) = varint::read(self.rest).ok_or_else(|| self.layout())?;
        self.bytes(len)?;
        Ok(value)
    }

    /// Bytes behind their length in two bytes.
    fn field(
        &mut self,
        name: &'static str,
        bounds: std::ops::RangeInclusive<usize>,
    ) -> Result<Vec<u8>, ControlError> {
        let len = usize::from(u16::from_be_bytes(self.array()?));
        if !bounds.contains(&len) {
            return Err(self.value(name, len as u64));
        }
        Ok(self.bytes(len)?.to_vec())
    }

    fn name(&mut self) -> Result<&'a str, ControlError> {
        let [len] = self.array()?;
        let bytes = self.bytes(usize::from(len))?;
        std::str::from_utf8(bytes).map_err(|_| ControlError::NameEncoding)
    }
}
