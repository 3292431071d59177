//! What can be told of a UDP payload without any connection: whether it can be QUIC, whether its
//! connection ID was issued here, and how often such a packet may come.
//!
//! A datagram may hold several packets; the first is looked at, as the worker does to find the connection.
//! The forms are those of RFC 8999 (any version) and RFC 9000 §17 (version 1), and STOQ's connection IDs
//! (`dataplane/stoq/src/cid.rs`). Called for each datagram of STOQ.

use stoq_xdp_types::{CID_LEN, Config, LimitIndex, RESET_LEN, Rule, Verdict, source_prefix, tag};

use crate::frame::Frame;
use crate::network::Datagram;
use crate::state::{self, Cpu};

/// Form of the header (RFC 8999 §5).
const LONG: u8 = 0x80;
/// The fixed bit (RFC 9000 §17.2, §17.3).
const FIXED: u8 = 0x40;
/// The one version that is spoken.
const VERSION: u32 = 1;
/// The longest connection ID of version 1 (RFC 9000 §17.2).
const CID_MAX: usize = 20;
/// Least payload with a short header: a stateless reset is at least as long, and so that one can be
/// taken for an ordinary packet, no ordinary packet is shorter (RFC 9000 §10.3).
const SHORT_MIN: usize = 21;
/// Least that follows the connection IDs in version 1: the tag of the AEAD (RFC 9001 §5.3), or that
/// of a Retry (§5.8).
const AFTER_CIDS_MIN: usize = 16;
/// Least payload with a client's Initial packet (RFC 9000 §14.1).
const INITIAL_MIN: usize = 1200;

/// The format of connection IDs that are issued.
const FORMAT_ISSUED: u8 = 1;
/// The format of those that a dialler makes up for its first packets.
const FORMAT_MADE_UP: u8 = 0;

/// What a connection ID is to this host.
enum Origin {
    /// This run of the daemon issued it.
    Current,
    /// Another run issued it.
    Earlier,
    /// It was not issued here.
    Foreign,
}

/// Says why a payload is to be dropped.
#[inline(always)]
pub fn judge(
    frame: Frame<'_>,
    datagram: &Datagram,
    config: &Config,
    cpu: &mut Cpu,
) -> Result<(), Verdict> {
    let at = datagram.payload_at();
    let Some(first) = frame.read::<u8>(at) else { return cannot_be_quic(config) };
    if first & LONG == 0 {
        short(frame, first, at, datagram.payload_len(), config, cpu)
    } else {
        long(frame, first, datagram, config, cpu)
    }
}

#[inline(always)]
fn cannot_be_quic(config: &Config) -> Result<(), Verdict> {
    if config.has(Rule::Malformed) { Err(Verdict::NotQuic) } else { Ok(()) }
}

/// A packet of an established connection, or a stateless reset.
#[inline(always)]
fn short(
    frame: Frame<'_>,
    first: u8,
    at: usize,
    len: usize,
    config: &Config,
    cpu: &mut Cpu,
) -> Result<(), Verdict> {
    if len < SHORT_MIN || first & FIXED == 0 {
        cannot_be_quic(config)?;
    }
    if !config.has(Rule::Forged) {
        return Ok(());
    }
    let origin = if len < 1 + CID_LEN { Origin::Foreign } else { origin(frame, at + 1, config) };
    match origin {
        Origin::Current => Ok(()),
        Origin::Earlier => earlier(config, cpu),
        // A peer's stateless reset ends in a token that only the connection's owner knows, and the
        // rest of it is random.
        Origin::Foreign if len == RESET_LEN as usize => {
            cpu.take(LimitIndex::Reset, config, Verdict::ResetRate)
        }
        Origin::Foreign => Err(Verdict::Forged),
    }
}

/// The head of a packet with a long header, by what holds for all versions (RFC 8999 §5.1).
struct Long {
    version: u32,
    dcid_at: usize,
    dcid_len: usize,
    scid_len: usize,
    /// Bytes of the payload up to the end of the connection IDs.
    len: usize,
}

#[inline(always)]
fn read_long(frame: Frame<'_>, at: usize) -> Option<Long> {
    let version = u32::from_be(frame.read(at + 1)?);
    let dcid_len = usize::from(frame.read::<u8>(at + 5)?);
    let scid_len = usize::from(frame.read::<u8>(at + 6 + dcid_len)?);
    let len = 6 + dcid_len + 1 + scid_len;
    Some(Long { version, dcid_at: at + 6, dcid_len, scid_len, len })
}

#[inline(always)]
fn long(
    frame: Frame<'_>,
    first: u8,
    datagram: &Datagram,
    config: &Config,
    cpu: &mut Cpu,
) -> Result<(), Verdict> {
    let len = datagram.payload_len();
    let Some(head) = read_long(frame, datagram.payload_at()) else {
        return cannot_be_quic(config);
    };
    if head.version != VERSION {
        if head.len > len {
            cannot_be_quic(config)?;
        }
        let on = config.has(Rule::Version);
        let verdict = Verdict::UnknownVersion;
        return if on { cpu.take(LimitIndex::Version, config, verdict) } else { Ok(()) };
    }
    let is_longer = head.dcid_len > CID_MAX || head.scid_len > CID_MAX;
    if head.len + AFTER_CIDS_MIN > len || is_longer || first & FIXED == 0 {
        cannot_be_quic(config)?;
    }
    version_1(frame.unknown(), first, &head, datagram, config, cpu)
}

#[inline(always)]
fn version_1(
    frame: Frame<'_>,
    first: u8,
    head: &Long,
    datagram: &Datagram,
    config: &Config,
    cpu: &mut Cpu,
) -> Result<(), Verdict> {
    let is_initial = first >> 4 & 0b11 == 0;
    let is_ours_in_length = head.dcid_len == CID_LEN;
    let format = frame.read::<u8>(head.dcid_at).unwrap_or(u8::MAX) >> 4;
    let is_made_up = is_initial && is_ours_in_length && format == FORMAT_MADE_UP;
    if config.has(Rule::Forged) && !is_made_up {
        // All but a client's first packets name an ID of ours: those of a handshake as well, and a
        // Retry. 0-RTT is not spoken.
        let frame = frame.unknown();
        let origin =
            if is_ours_in_length { origin(frame, head.dcid_at, config) } else { Origin::Foreign };
        return match origin {
            Origin::Current => Ok(()),
            Origin::Earlier => earlier(config, cpu),
            Origin::Foreign => Err(Verdict::Forged),
        };
    }
    if is_made_up && config.has(Rule::Malformed) && datagram.payload_len() < INITIAL_MIN {
        return Err(Verdict::SmallInitial);
    }
    if is_initial && config.has(Rule::Initial) {
        return initial(datagram, config, cpu);
    }
    Ok(())
}

/// A packet that opens a connection, or may: no more of them than one source, and all together, may send.
/// All together are asked first, so that a flood from many sources ends before the table of sources is
/// touched; but they give only what the source may have, so that one source does not use it up.
#[inline(always)]
fn initial(datagram: &Datagram, config: &Config, cpu: &mut Cpu) -> Result<(), Verdict> {
    let now_ns = state::now_ns();
    let next = cpu.ask(LimitIndex::InitialTotal, config, now_ns).ok_or(Verdict::InitialTotal)?;
    let prefix = source_prefix(datagram.source, datagram.is_v4);
    if !state::take_from_source(prefix, &config.initial_source, now_ns) {
        return Err(Verdict::InitialSource);
    }
    cpu.set(LimitIndex::InitialTotal, next);
    Ok(())
}

/// An ID of an earlier run: some pass, so that the worker answers them by a stateless reset.
#[inline(always)]
fn earlier(config: &Config, cpu: &mut Cpu) -> Result<(), Verdict> {
    let on = config.has(Rule::OldGeneration);
    let verdict = Verdict::OldGeneration;
    if on { cpu.take(LimitIndex::OldGeneration, config, verdict) } else { Ok(()) }
}

/// Checks a connection ID as `CidKeys::check` does.
#[inline(always)]
fn origin(frame: Frame<'_>, at: usize, config: &Config) -> Origin {
    let Some(contents) = frame.read::<u64>(at) else { return Origin::Foreign };
    let Some(given) = frame.read::<u32>(at + 8) else { return Origin::Foreign };
    let [form, _, generation @ .., _, _, _, _] = contents.to_ne_bytes();
    let number = u64::from(form & 0x0f);
    let [current, previous] = &config.keys;
    let secret = if number == current.number {
        current.secret
    } else if number == previous.number {
        previous.secret
    } else {
        return Origin::Foreign;
    };
    if form >> 4 != FORMAT_ISSUED || tag(secret, u64::from_le(contents)) != u32::from_le(given) {
        return Origin::Foreign;
    }
    let is_current = u64::from(u16::from_be_bytes(generation)) == config.generation;
    if is_current { Origin::Current } else { Origin::Earlier }
}
