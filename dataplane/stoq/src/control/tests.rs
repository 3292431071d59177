//! Tests of the control stream.

use super::*;
use crate::varint;
use proptest::prelude::*;

fn hello() -> Hello {
    Hello {
        node: NodeId::new("hq", "edge-a").unwrap(),
        boot: BootId { started_ns: 0x0102_0304_0506_0708, random: 0xabcd },
        features: feature::SLICED,
        workers: 4,
        worker: 2,
        slot: 2,
        connection: 7,
        purpose: Purpose::Replace { connection: 6 },
        tunnel_mtu: 1420,
    }
}

fn encoded(frames: &[Frame]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut bytes));
    bytes
}

fn decoded(bytes: &[u8]) -> Result<Vec<Frame>, ControlError> {
    let mut decoder = Decoder::default();
    decoder.push(bytes)?;
    std::iter::from_fn(|| decoder.next().transpose()).collect()
}

/// The error for a stream that begins with a valid HELLO.
fn refusal(after_hello: &[u8]) -> ControlError {
    let mut bytes = encoded(&[Frame::Hello(hello())]);
    bytes.extend_from_slice(after_hello);
    decoded(&bytes).unwrap_err()
}

#[test]
fn hello_has_the_documented_layout() {
    let expected = [
        &[0x01, 0x39, 0x01][..],
        b"\x02hq\x06edge-a",
        &[1, 2, 3, 4, 5, 6, 7, 8],
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xab, 0xcd],
        &[0, 0, 0, 0, 0, 0, 0, 1],
        &[4, 2, 2],
        &[0, 0, 0, 7],
        &[1, 0, 0, 0, 6],
        &[0x05, 0x8c],
    ]
    .concat();
    assert_eq!(encoded(&[Frame::Hello(hello())]), expected);
}

#[test]
fn tier_has_the_documented_layout() {
    let note = TierNote { tier: Some(2), rate_mbps: 961, link_speed_mbps: 2500 };
    assert_eq!(encoded(&[Frame::Tier(note)]), [7, 9, 2, 0, 0, 3, 0xc1, 0, 0, 9, 0xc4]);
    let unknown = encoded(&[Frame::Tier(TierNote::default())]);
    assert_eq!(unknown, [7, 9, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn a_tier_out_of_its_bounds_is_refused() {
    let bytes = |tier, rate: u32, speed: u32| {
        [&[7, 9, tier], &rate.to_be_bytes()[..], &speed.to_be_bytes()[..]].concat()
    };
    let value = |field, got| ControlError::Value { frame: "TIER", field, got };
    assert_eq!(refusal(&bytes(5, 0, 0)), value("tier", 5));
    assert_eq!(refusal(&bytes(254, 0, 0)), value("tier", 254));
    assert_eq!(refusal(&bytes(1, MBPS_MAX + 1, 0)), value("rate", u64::from(MBPS_MAX) + 1));
    assert_eq!(refusal(&bytes(1, 0, u32::MAX)), value("link speed", u32::MAX.into()));
    assert_eq!(refusal(&[7, 1, 2]), ControlError::Layout { frame: "TIER", len: 1 });
    let long = [&[7, 10, 2][..], &[0; 9]].concat();
    assert_eq!(refusal(&long), ControlError::Layout { frame: "TIER", len: 10 });
}

#[test]
fn the_longest_hello_fits_its_documented_size() {
    let longest = "a".repeat(stoq_identity::NAME_MAX);
    let node = NodeId::new(&longest, &longest).unwrap();
    let mut body = Vec::new();
    Frame::Hello(Hello { node, ..hello() }).encode(&mut body);
    // One byte of type and two of length stand before the body.
    assert_eq!(body.len() - 3, 175);
}

#[test]
fn frames_have_the_documented_layouts() {
    let goaway = Goaway { reason: GoawayReason::Replace, drain_ms: 5000 };
    assert_eq!(encoded(&[Frame::Goaway(goaway)]), [2, 5, 2, 0, 0, 0x13, 0x88]);
    assert_eq!(encoded(&[Frame::TunnelMtu(1280)]), [3, 2, 5, 0]);
}

#[test]
fn unknown_frames_are_skipped() {
    let mut bytes = encoded(&[Frame::Hello(hello())]);
    // Of the types that are not assigned, the lowest is 8.
    bytes.extend_from_slice(&[8, 4, 0, 0, 0, 9, 0x40, 0xff, 3, 1, 2, 3, 0x21, 0]);
    bytes.extend(encoded(&[Frame::TunnelMtu(1500)]));
    assert_eq!(decoded(&bytes), Ok(vec![Frame::Hello(hello()), Frame::TunnelMtu(1500)]));
}

#[test]
fn hello_comes_first_and_once() {
    let mtu = encoded(&[Frame::TunnelMtu(1500)]);
    assert_eq!(decoded(&mtu), Err(ControlError::HelloMissing { got: 3 }));
    assert_eq!(decoded(&[0x21, 0]), Err(ControlError::HelloMissing { got: 0x21 }));
    assert_eq!(refusal(&encoded(&[Frame::Hello(hello())])), ControlError::HelloRepeated);
}

#[test]
fn a_frame_out_of_bounds_is_refused_before_its_body_comes() {
    assert_eq!(refusal(&[0x21, 0x80, 0, 0x40, 1]), ControlError::TooLong { got: 16_385 });
    let most = [0xff; 8];
    let error = refusal(&[&[0x21][..], &most].concat());
    assert_eq!(error, ControlError::TooLong { got: varint::MAX });
}

#[test]
fn bodies_that_are_short_or_long_are_refused() {
    let layout = |frame, len| ControlError::Layout { frame, len };
    assert_eq!(refusal(&[2, 4, 0, 0, 0, 0]), layout("GOAWAY", 4));
    assert_eq!(refusal(&[2, 6, 0, 0, 0, 0, 0, 0]), layout("GOAWAY", 6));
    assert_eq!(refusal(&[3, 1, 5]), layout("TUNNEL_MTU", 1));
    assert_eq!(decoded(&[1, 0]), Err(layout("HELLO", 0)));
}

#[test]
fn values_outside_their_bounds_are_refused() {
    let hello_with = |at: usize, value: u8| {
        let mut bytes = encoded(&[Frame::Hello(hello())]);
        bytes[at] = value;
        decoded(&bytes).unwrap_err()
    };
    let value = |field, got| ControlError::Value { frame: "HELLO", field, got };
    assert_eq!(hello_with(2, 2), ControlError::Version { got: 2 });
    assert_eq!(hello_with(4, 0xff), ControlError::NameEncoding);
    assert!(matches!(hello_with(4, b'/'), ControlError::Name(_)));
    assert_eq!(hello_with(46, 4), value("worker", 4));
    assert_eq!(hello_with(52, 2), value("purpose", 2));
    assert_eq!(hello_with(52, 0), value("replaced connection", 6));
    assert_eq!(hello_with(57, 0), value("tunnel MTU", 0x8c));
}

/// A decoder that wants PROOF first, after these bytes.
fn proven(bytes: &[u8]) -> Result<Vec<Frame>, ControlError> {
    let mut decoder = Decoder::proving();
    decoder.push(bytes)?;
    std::iter::from_fn(|| decoder.next().transpose()).collect()
}

fn proof() -> Frame {
    Frame::Proof(Proof { signature: vec![1; 1400], log: vec![2; 300] })
}

#[test]
fn proof_comes_first_and_once_where_it_is_asked_for_and_nowhere_else() {
    let frames = vec![proof(), Frame::Hello(hello())];
    assert_eq!(proven(&encoded(&frames)), Ok(frames));
    let hello_first = encoded(&[Frame::Hello(hello())]);
    assert_eq!(proven(&hello_first), Err(ControlError::ProofMissing { got: 1 }));
    assert_eq!(proven(&[0x21, 0]), Err(ControlError::ProofMissing { got: 0x21 }));
    assert_eq!(proven(&encoded(&[proof(), proof()])), Err(ControlError::ProofRepeated));
    let state = Frame::State(State::default());
    assert_eq!(proven(&encoded(&[proof(), state])), Err(ControlError::HelloMissing { got: 5 }));
    assert_eq!(decoded(&encoded(&[proof()])), Err(ControlError::ProofUnexpected));
    assert_eq!(refusal(&encoded(&[proof()])), ControlError::ProofRepeated);
}

#[test]
fn proofs_states_and_chunks_out_of_bounds_are_refused() {
    let value = |frame, field, got| ControlError::Value { frame, field, got };
    let first = |bytes: &[u8]| proven(bytes).unwrap_err();
    assert_eq!(first(&[4, 2, 0, 0]), value("PROOF", "signature", 0));
    assert_eq!(first(&[4, 2, 0x20, 1]), value("PROOF", "signature", 0x2001));
    assert_eq!(first(&[4, 5, 0, 1, 9, 0x18, 1]), value("PROOF", "log proof", 0x1801));
    assert_eq!(first(&[4, 3, 0, 2, 9]), ControlError::Layout { frame: "PROOF", len: 3 });
    let state = [&[5, 17][..], &[0; 16], &[9]].concat();
    assert_eq!(refusal(&state), value("STATE", "number of heads", 9));
    let state = [&[5, 19][..], &[0; 16], &[1, 0, 0]].concat();
    assert_eq!(refusal(&state), value("STATE", "tree head", 0));
    let chunk = |total: u32, offset: u32, bytes: &[u8]| {
        let body = [&[0; 8][..], &total.to_be_bytes(), &offset.to_be_bytes(), bytes].concat();
        refusal(&[&[6, u8::try_from(body.len()).unwrap()][..], &body].concat())
    };
    assert_eq!(chunk(0, 0, &[1]), value("REVOCATIONS", "length of the set", 0));
    let most = u32::try_from(REVOCATIONS_MAX).unwrap();
    assert_eq!(
        chunk(most + 1, 0, &[1]),
        value("REVOCATIONS", "length of the set", (most + 1).into())
    );
    assert_eq!(chunk(5, 3, &[1, 2, 3]), value("REVOCATIONS", "end of the chunk", 6));
    assert_eq!(chunk(5, u32::MAX, &[1]), value("REVOCATIONS", "end of the chunk", 1 << 32));
    assert_eq!(chunk(5, 3, &[]), value("REVOCATIONS", "end of the chunk", 3));
}

#[test]
fn the_largest_proof_and_state_fit_a_frame() {
    let most = Proof { signature: vec![1; SIGNATURE_LEN_MAX], log: vec![2; LOG_PROOF_LEN_MAX] };
    let frames = vec![
        Frame::Proof(most),
        Frame::Hello(hello()),
        Frame::State(State { heads: vec![vec![3; HEAD_LEN_MAX]; HEADS_MAX], ..State::default() }),
    ];
    assert_eq!(proven(&encoded(&frames)), Ok(frames));
}

#[test]
fn a_reason_to_go_that_is_not_known_is_kept() {
    let frame = Frame::Goaway(Goaway { reason: GoawayReason::Unknown(200), drain_ms: 0 });
    let frames = [Frame::Hello(hello()), frame];
    assert_eq!(decoded(&encoded(&frames)), Ok(frames.to_vec()));
}

#[test]
fn a_caller_that_never_takes_frames_is_stopped() {
    let mut decoder = Decoder::default();
    decoder.push(&vec![0; MAX_BUFFERED_LEN]).unwrap();
    let got = MAX_BUFFERED_LEN + 1;
    assert_eq!(decoder.push(&[0]), Err(ControlError::Backlog { got }));
}

#[test]
fn the_largest_frame_passes_in_the_largest_reads() {
    let mut bytes = encoded(&[Frame::Hello(hello())]);
    for _ in 0..3 {
        varint::write(&mut bytes, 0x21);
        varint::write(&mut bytes, MAX_FRAME_LEN as u64);
        bytes.resize(bytes.len() + MAX_FRAME_LEN, 0);
    }
    bytes.extend(encoded(&[Frame::TunnelMtu(1280)]));
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for read in bytes.chunks(MAX_FRAME_LEN) {
        decoder.push(read).unwrap();
        frames.extend(std::iter::from_fn(|| decoder.next().unwrap()));
    }
    assert_eq!(frames, [Frame::Hello(hello()), Frame::TunnelMtu(1280)]);
}

#[test]
fn an_error_stays() {
    let mut decoder = Decoder::default();
    decoder.push(&[3, 2, 5, 0]).unwrap();
    let first = decoder.next().unwrap_err();
    decoder.push(&encoded(&[Frame::Hello(hello())])).unwrap();
    assert_eq!(decoder.next(), Err(first));
}

#[test]
fn a_later_run_supersedes_an_earlier_one() {
    let boot = |started_ns, random| BootId { started_ns, random };
    assert!(boot(2, 0).supersedes(&boot(1, 9)));
    assert!(boot(1, 2).supersedes(&boot(1, 1)));
    assert!(!boot(1, 1).supersedes(&boot(1, 1)));
    assert!(!boot(1, 9).supersedes(&boot(2, 0)));
}

fn any_hello() -> impl Strategy<Value = Hello> {
    let names = ("[a-z0-9]{1,63}", "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?");
    let numbers = (any::<u64>(), any::<u128>(), any::<u64>(), 1..=u8::MAX, any::<u8>());
    let slot = (any::<u8>(), any::<u32>(), any::<Option<u32>>(), MIN_TUNNEL_MTU..);
    (names, numbers, slot).prop_map(|(names, numbers, slot)| Hello {
        node: NodeId::new(&names.0, &names.1).unwrap(),
        boot: BootId { started_ns: numbers.0, random: numbers.1 },
        features: numbers.2,
        workers: numbers.3,
        worker: numbers.4 % numbers.3,
        slot: slot.0,
        connection: slot.1,
        purpose: slot.2.map_or(Purpose::First, |connection| Purpose::Replace { connection }),
        tunnel_mtu: slot.3,
    })
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let goaway = (any::<u32>(), 3..=u8::MAX).prop_map(|(drain_ms, code)| {
        Frame::Goaway(Goaway { reason: GoawayReason::Unknown(code), drain_ms })
    });
    let head = prop::collection::vec(any::<u8>(), 1..100);
    let state = (any::<u64>(), any::<u64>(), prop::collection::vec(head, 0..=HEADS_MAX));
    let state = state.prop_map(|(revocations, bundle, heads)| {
        Frame::State(State { revocations, bundle, heads })
    });
    let chunk = (any::<u64>(), 0..1000_u32, prop::collection::vec(any::<u8>(), 1..200));
    let chunk = chunk.prop_map(|(sequence, offset, bytes)| {
        let total = offset + u32::try_from(bytes.len()).unwrap();
        Frame::Revocations(Chunk { sequence, total, offset, bytes })
    });
    let tier = (prop::option::of(0..=TIER_MAX), 0..=MBPS_MAX, 0..=MBPS_MAX);
    let tier = tier.prop_map(|(tier, rate_mbps, link_speed_mbps)| {
        Frame::Tier(TierNote { tier, rate_mbps, link_speed_mbps })
    });
    prop_oneof![goaway, (MIN_TUNNEL_MTU..).prop_map(Frame::TunnelMtu), state, chunk, tier]
}

proptest! {
    #[test]
    fn frames_come_back_however_the_stream_is_cut(
        hello in any_hello(),
        rest in prop::collection::vec(any_frame(), 0..8),
        cut in 1..64_usize,
    ) {
        let frames = [vec![Frame::Hello(hello)], rest].concat();
        let mut decoder = Decoder::default();
        let mut got = Vec::new();
        for piece in encoded(&frames).chunks(cut) {
            decoder.push(piece).unwrap();
            got.extend(std::iter::from_fn(|| decoder.next().unwrap()));
        }
        prop_assert_eq!(got, frames);
    }
}
