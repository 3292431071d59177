//! The test vectors of `docs/protocol.md` are what this implementation writes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fmt::Write;

use stoq::cid::CidKeys;
use stoq::context;
use stoq::control::{
    BootId, Chunk, Frame, Goaway, GoawayReason, Hello, Proof, Purpose, State, TierNote, feature,
};
use stoq::fragment::{FRAGMENT_HEADER_LEN, Fragmenter};
use stoq_buffer::PacketBuf;
use stoq_identity::NodeId;

const DOCUMENT: &str = include_str!("../../../docs/protocol.md");

/// Whether the section of test vectors holds these bytes, however they are set in columns.
fn documented(bytes: &[u8]) -> bool {
    let section = DOCUMENT.split("## Test vectors").nth(1).unwrap();
    let blocks: Vec<_> = section.split("```").skip(1).step_by(2).collect();
    let text: String = blocks.concat().split_whitespace().collect();
    let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    });
    text.contains(&hex)
}

fn frame(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes
}

#[test]
fn the_connection_id_is() {
    let keys = CidKeys::new(std::array::from_fn(|i| u8::try_from(i).unwrap()));
    assert!(documented(keys.issue(3, 0x0102, 0xa0b0_c0d0).as_ref()));
    assert!(!documented(keys.issue(3, 0x0102, 0xa0b0_c0d1).as_ref()));
}

#[test]
fn the_control_frames_are() {
    let hello = Hello {
        node: NodeId::new("hq", "edge-a").unwrap(),
        boot: BootId { started_ns: 0x0102_0304_0506_0708, random: 0xabcd },
        features: feature::SLICED,
        workers: 4,
        worker: 2,
        slot: 2,
        connection: 7,
        purpose: Purpose::Replace { connection: 6 },
        tunnel_mtu: 1420,
    };
    assert!(documented(&frame(&Frame::Hello(hello))));
    let proof = Proof { signature: vec![1, 2, 3], log: vec![10, 11] };
    assert!(documented(&frame(&Frame::Proof(proof))));
    let state = State { revocations: 5, bundle: 9, heads: vec![vec![0xaa, 0xbb]] };
    assert!(documented(&frame(&Frame::State(state))));
    let chunk = Chunk { sequence: 5, total: 6, offset: 4, bytes: vec![1, 2] };
    assert!(documented(&frame(&Frame::Revocations(chunk))));
    let goaway = Goaway { reason: GoawayReason::Replace, drain_ms: 5000 };
    assert!(documented(&frame(&Frame::Goaway(goaway))));
    assert!(documented(&frame(&Frame::TunnelMtu(1280))));
    let note = TierNote { tier: Some(2), rate_mbps: 961, link_speed_mbps: 2500 };
    assert!(documented(&frame(&Frame::Tier(note))));
}

#[test]
fn the_fragment_is() {
    // The number of a connection's first fragmented packet is 0; the document's is another, so its
    // place in the layout is compared and not its value.
    let head = context::CONTEXT_LEN + FRAGMENT_HEADER_LEN;
    let packet = PacketBuf::from_slice(&[0x45; 1280]);
    let second = Fragmenter::default().split(packet, head + 1024).unwrap().nth(1).unwrap();
    let mut bytes = second.as_slice()[..head].to_vec();
    assert_eq!(bytes[1..5], [0, 0, 0, 0]);
    bytes[1..5].copy_from_slice(&[1, 2, 3, 4]);
    assert!(documented(&bytes));
}
