//! What an endpoint tells of a link's capacity, what the two ends say of it to each other, and what may
//! be set while the link runs.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod network;

use std::time::{Duration, Instant};

use network::{Node, pki, run_until};
use stoq::control::TierNote;
use stoq::settings::Settings;
use stoq::{LinkProfile, LinkSample, PeerId};
use stoq_buffer::PacketBuf;
use stoq_telemetry::DropReason;

const PEER: PeerId = PeerId(0);

fn pass_all(_: &[u8]) -> bool {
    true
}

fn linked(dir: &std::path::Path, settings: &Settings) -> (Node, Node) {
    let mut a = Node::new(dir, "edge-a", "[fd00::1]:9292", settings.clone());
    let mut b = Node::new(dir, "edge-b", "[fd00::2]:9292", settings.clone());
    let (to_b, to_a) = ([b.address], [a.address]);
    a.peer(0, "edge-b", &to_b);
    b.peer(0, "edge-a", &to_a);
    run_until(&mut a, &mut b, &mut pass_all, |a, b| a.is_up() && b.is_up());
    (a, b)
}

fn send(node: &mut Node, count: u32) {
    for _ in 0..count {
        let packet = PacketBuf::from_slice(&[0x45; 1200]);
        node.endpoint.enqueue(PEER, packet, 1, false, Instant::now()).unwrap();
    }
}

fn sample(node: &mut Node) -> Option<LinkSample> {
    node.endpoint.take_samples(Instant::now()).into_iter().next()
}

fn heard(node: &mut Node) -> Option<TierNote> {
    sample(node).and_then(|sample| sample.heard)
}

#[test]
fn what_was_delivered_is_told_once() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = linked(dir.path(), &Settings::default());
    sample(&mut a);
    send(&mut a, 100);
    let mut delivered = 0;
    run_until(&mut a, &mut b, &mut pass_all, |a, b| {
        delivered += sample(a).map_or(0, |sample| sample.delivered_bytes);
        b.received.len() == 100 && delivered >= 120_000
    });
    assert!(delivered < 200_000, "{delivered} bytes for 120,000 inside");
}

#[test]
fn a_path_that_takes_no_more_is_full_and_an_idle_one_is_not() {
    let dir = pki(&["edge-a", "edge-b"]);
    let settings = Settings { initial_window_packets: 10, ..Settings::default() };
    let (mut a, mut b) = linked(dir.path(), &settings);
    sample(&mut a);
    // Nothing arrives: the window is soon full.
    send(&mut a, 1000);
    let begin = Instant::now();
    run_until(&mut a, &mut b, &mut |_| false, |_, _| begin.elapsed() > Duration::from_millis(50));
    let full = sample(&mut a).unwrap();
    assert!(full.full >= full.interval / 2 && full.delivered_bytes == 0, "{full:?}");
    run_until(&mut a, &mut b, &mut pass_all, |a, _| {
        a.endpoint.links()[0].queued_packets == 0 && sample(a).is_none()
    });
}

#[test]
fn a_peer_hears_the_tier_now_and_on_a_new_connection() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = linked(dir.path(), &Settings::default());
    let note = TierNote { tier: Some(1), rate_mbps: 96, link_speed_mbps: 1000 };
    a.endpoint.tell_tier(PEER, note);
    run_until(&mut a, &mut b, &mut pass_all, |_, b| heard(b) == Some(note));
    // A peer that starts again knows nothing.
    let mut b =
        Node::with_generation(dir.path(), "edge-b", "[fd00::2]:9292", Settings::default(), 2);
    b.peer(0, "edge-a", &[a.address]);
    run_until(&mut a, &mut b, &mut pass_all, |_, b| heard(b) == Some(note));
}

#[test]
fn a_peer_that_tells_its_tier_without_end_is_not_listened_to() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = linked(dir.path(), &Settings::default());
    let mut said = 0;
    run_until(&mut a, &mut b, &mut pass_all, |a, b| {
        said += 1;
        a.endpoint.tell_tier(PEER, TierNote { rate_mbps: said, ..TierNote::default() });
        b.dropped(DropReason::TierExcess) > 100
    });
    assert!(a.is_up() && b.is_up(), "it costs nothing but the frames");
}

#[test]
fn a_smaller_queue_is_kept_to_at_once() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = linked(dir.path(), &Settings::default());
    let profile = LinkProfile { queue_packets: 64, ..LinkProfile::default() };
    a.endpoint.set_profile(PEER, profile, Instant::now());
    send(&mut a, 1000);
    assert!(a.endpoint.links()[0].queued_packets <= 64);
    assert!(a.dropped(DropReason::QueueFull) >= 1000 - 64);
    let left = a.endpoint.links()[0].queued_packets;
    run_until(&mut a, &mut b, &mut pass_all, |_, b| b.received.len() == left);
}

#[test]
fn a_connection_that_is_dialled_begins_with_the_window_of_its_link() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = linked(dir.path(), &Settings::default());
    let window = |a: &mut Node| a.endpoint.links()[0].congestion_window;
    let before = window(&mut a);
    let profile = LinkProfile { initial_window_packets: 1024, ..LinkProfile::default() };
    a.endpoint.set_profile(PEER, profile, Instant::now());
    a.endpoint.replace_all(Instant::now());
    run_until(&mut a, &mut b, &mut pass_all, |a, _| window(a) >= 1024 * 1200);
    assert!(before < 1024 * 1200, "{before}");
}

/// The end that wants more has dialled, or it asks the other end, which has.
#[test]
fn a_connection_that_has_fixed_less_is_replaced_once_and_nothing_is_lost() {
    let dir = pki(&["edge-a", "edge-b"]);
    for dialler_wants in [true, false] {
        let (mut a, mut b) = linked(dir.path(), &Settings::default());
        let profile = LinkProfile { stream_window: 8 << 20, ..LinkProfile::default() };
        let wants = if dialler_wants { &mut a } else { &mut b };
        wants.endpoint.set_profile(PEER, profile, Instant::now());
        // The old connection fades for two seconds.
        let mut sent = 0;
        run_until(&mut a, &mut b, &mut pass_all, |a, b| {
            send(a, 1);
            sent += 1;
            let connections = |node: &mut Node| node.endpoint.links()[0].connections;
            connections(a) == 2 && connections(b) == 2
        });
        run_until(&mut a, &mut b, &mut pass_all, |_, b| b.received.len() == sent);
        let wants = if dialler_wants { &mut a } else { &mut b };
        wants.endpoint.set_profile(PEER, profile, Instant::now());
        run_until(&mut a, &mut b, &mut pass_all, |a, b| {
            let connections = [a, b].map(|node| node.endpoint.links()[0].connections);
            assert!(connections.iter().max() <= Some(&2), "it is wide enough now");
            connections == [1, 1]
        });
    }
}
