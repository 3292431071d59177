//! Nobody is listened to before the keys of the certificate are proven, on this connection, in this
//! direction; revocations come first as well, and spread from node to node.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod network;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use network::{Node, classical, deliver, pki, run_until};
use stoq::control::Proof;
use stoq::mesh::Mesh;
use stoq::settings::Settings;
use stoq::task::{Done, Task};
use stoq::{Event, Peer, PeerId, StreamEvent};
use stoq_buffer::PacketBuf;
use stoq_telemetry::DropReason;

const A: &str = "[fd00::1]:9292";
const B: &str = "[fd00::2]:9292";
const C: &str = "[fd00::3]:9292";

fn pass_all(_: &[u8]) -> bool {
    true
}

/// `edge-a` dials `edge-b`.
fn pair(dir: &Path) -> (Node, Node) {
    let a = Node::new(dir, "edge-a", A, Settings::default());
    let b = Node::new(dir, "edge-b", B, Settings::default());
    joined(a, b)
}

fn joined(mut a: Node, mut b: Node) -> (Node, Node) {
    a.peer(0, "edge-b", &[b.address]);
    b.peer(0, "edge-a", &[]);
    (a, b)
}

fn up(a: &mut Node, b: &mut Node) -> bool {
    a.is_up() && b.is_up()
}

/// What a node was told about refused handshakes.
fn refusals(node: &Node) -> String {
    let why = |event: &Event| match event {
        Event::Refused { why, .. } => Some(why.clone()),
        _ => None,
    };
    node.events.iter().filter_map(why).collect::<Vec<_>>().join("; ")
}

/// The sender's proofs pass through `alter`; the receiver has to refuse each, and must not come up.
fn refused(mut a: Node, mut b: Node, receiver_is_b: bool) {
    run_until(&mut a, &mut b, &mut pass_all, |a, b| {
        // The end whose own proof is bad has seen a good one, and waits for nothing.
        let receiver = if receiver_is_b { b } else { a };
        assert!(!receiver.is_up());
        receiver.dropped(DropReason::ProofRefused) > 0
    });
    let receiver = if receiver_is_b { &b } else { &a };
    let why = refusals(receiver);
    assert!(why.contains("proof of stoq://test/edge-"), "{why}");
}

/// A signed proof passes through `change`; everything else stays.
fn altered(mut change: impl FnMut(Proof) -> Proof + 'static) -> Option<network::Alter> {
    Some(Box::new(move |_: &Task, done: Done| match done {
        Done::Signed(ticket, Ok(proof)) => Done::Signed(ticket, Ok(change(proof))),
        other => other,
    }))
}

#[test]
fn an_altered_proof_is_refused_in_either_part_and_by_either_end() {
    let dir = pki(&["edge-a", "edge-b"]);
    // Somewhere in the classical part, and in the alternative one.
    for (from_dialler, from_end) in [(true, false), (true, true), (false, false), (false, true)] {
        let (mut a, mut b) = pair(dir.path());
        let flip = move |mut proof: Proof| {
            let length = proof.signature.len();
            proof.signature[if from_end { length - 40 } else { 40 }] ^= 1;
            proof
        };
        let sender = if from_dialler { &mut a } else { &mut b };
        sender.alter = altered(flip);
        refused(a, b, from_dialler);
    }
}

#[test]
fn a_proof_of_another_connection_is_refused() {
    let dir = pki(&["edge-a", "edge-b"]);
    let kept: Arc<Mutex<Option<Proof>>> = Arc::default();
    let (mut a, mut b) = pair(dir.path());
    let keep = Arc::clone(&kept);
    a.alter = altered(move |proof| {
        *keep.lock().unwrap() = Some(proof.clone());
        proof
    });
    run_until(&mut a, &mut b, &mut pass_all, up);
    let old = kept.lock().unwrap().take().unwrap();
    let (mut a, b) = pair(dir.path());
    a.alter = altered(move |_| old.clone());
    refused(a, b, true);
}

#[test]
fn a_proof_sent_back_to_its_maker_is_refused() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (a, mut b) = pair(dir.path());
    let seen: Arc<Mutex<Option<Proof>>> = Arc::default();
    // An acceptor without the alternative key has nothing but what the dialler showed it.
    b.alter = Some(Box::new(move |task: &Task, done: Done| {
        if let Task::Verify(verify) = task {
            *seen.lock().unwrap() = Some(verify.proof.clone());
        }
        match done {
            Done::Signed(ticket, _) => {
                Done::Signed(ticket, Ok(seen.lock().unwrap().clone().unwrap()))
            }
            other => other,
        }
    }));
    refused(a, b, false);
}

#[test]
fn a_node_that_cannot_sign_says_so_and_gets_no_link() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = pair(dir.path());
    a.alter = Some(Box::new(|_: &Task, done: Done| match done {
        Done::Signed(ticket, _) => Done::Signed(ticket, Err("no key".to_owned())),
        other => other,
    }));
    run_until(&mut a, &mut b, &mut pass_all, |a, _| a.dropped(DropReason::ProofRefused) > 0);
    assert!(refusals(&a).contains("cannot prove its own keys: no key"));
    assert!(!b.is_up());
}

/// Delivers until one end has nothing more to say; the other says nothing.
fn drain(from: &mut Node, to: &mut Node) {
    while deliver(from, to, &mut pass_all) > 0 {}
}

#[test]
fn what_came_while_a_proof_was_verified_needs_no_further_packet() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = pair(dir.path());
    a.hold = |done| matches!(done, Done::Verified(..));
    run_until(&mut a, &mut b, &mut pass_all, |a, b| b.is_up() && !a.held.is_empty());
    let now = Instant::now();
    b.endpoint.open_stream(PeerId(0), &"copy".parse().unwrap()).unwrap();
    b.endpoint.enqueue(PeerId(0), PacketBuf::from_slice(&[0x45; 100]), 1, false, now).unwrap();
    b.endpoint.replace_all(now);
    drain(&mut b, &mut a);
    assert!(!a.is_up() && a.received.is_empty() && a.endpoint.poll_stream().is_none());
    a.release();
    // From here on B is not heard any more.
    drain(&mut a, &mut b);
    assert!(a.is_up());
    assert_eq!(a.received.len(), 1);
    let opened = a.endpoint.poll_stream();
    assert!(matches!(opened, Some(StreamEvent::Opened { .. })), "{opened:?}");
    // It was told to replace the connection.
    run_until(&mut a, &mut b, &mut pass_all, |a, _| a.endpoint.connection_count() == 2);
}

#[test]
fn an_end_that_signs_slowly_is_waited_for() {
    let dir = pki(&["edge-a", "edge-b"]);
    for slow_is_dialler in [true, false] {
        let (mut a, mut b) = pair(dir.path());
        let slow = if slow_is_dialler { &mut a } else { &mut b };
        slow.hold = |done| matches!(done, Done::Signed(..));
        let start = Instant::now();
        run_until(&mut a, &mut b, &mut pass_all, |a, b| {
            assert!(!a.is_up() && !b.is_up());
            start.elapsed() > std::time::Duration::from_millis(300)
        });
        if slow_is_dialler {
            a.release();
            drain(&mut a, &mut b);
        } else {
            b.release();
        }
        // One flight of each end: nothing is repeated, nothing waits for a timer.
        drain(&mut b, &mut a);
        drain(&mut a, &mut b);
        assert!(a.is_up() && b.is_up(), "the dialler is slow: {slow_is_dialler}");
    }
}

#[test]
fn ends_of_different_policies_both_name_the_mismatch() {
    let dir = pki(&["edge-a", "edge-b"]);
    for dialler_is_classical in [true, false] {
        let make = |name, address, is_classical| {
            let credentials = if is_classical {
                classical(dir.path(), name)
            } else {
                network::credentials(dir.path(), name)
            };
            Node::with_credentials(credentials, address, Settings::default(), 1)
        };
        let a = make("edge-a", A, dialler_is_classical);
        let b = make("edge-b", B, !dialler_is_classical);
        let (mut a, mut b) = joined(a, b);
        run_until(&mut a, &mut b, &mut pass_all, |a, b| {
            assert!(!a.is_up() && !b.is_up());
            [a, b].iter().all(|node| node.dropped(DropReason::PolicyMismatch) > 0)
        });
        for node in [&a, &b] {
            let why = refusals(node);
            assert!(why.contains("[identity] policy is"), "{why}");
        }
    }
}

#[test]
fn classical_ends_link_without_proofs() {
    let dir = pki(&["edge-a", "edge-b"]);
    let node =
        |name, at| Node::with_credentials(classical(dir.path(), name), at, Settings::default(), 1);
    let (mut a, mut b) = joined(node("edge-a", A), node("edge-b", B));
    let never = |_: &Task, _: Done| -> Done { panic!("a proof under the policy classical") };
    a.alter = Some(Box::new(never));
    run_until(&mut a, &mut b, &mut pass_all, up);
}

#[test]
fn other_keys_than_the_record_names_are_refused() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = pair(dir.path());
    let keys = Some([7; 32]);
    let peer = Peer { id: PeerId(0), name: "edge-a".into(), endpoints: Vec::new(), keys };
    b.endpoint.set_peers(&[peer], Instant::now());
    run_until(&mut a, &mut b, &mut pass_all, |_, b| b.dropped(DropReason::CertificateRefused) > 0);
    assert!(refusals(&b).contains("other keys than its member record"));
    assert!(!b.is_up());
}

/// A state in which this node of the pki is revoked; the set is opaque here.
fn without(dir: &Path, name: &str, sequence: u64) -> Arc<Mesh> {
    let credentials = network::credentials(dir, name);
    let keys = credentials.identity.keys().unwrap().public().fingerprint();
    let set = vec![sequence.to_le_bytes()[0]; 9000].into();
    let heads = vec![vec![1; 1500]];
    Arc::new(Mesh { sequence, set, keys: [keys].into(), heads, ..Mesh::default() })
}

#[test]
fn a_revoked_node_loses_its_link_at_once_and_gets_no_other() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = pair(dir.path());
    run_until(&mut a, &mut b, &mut pass_all, up);
    b.endpoint.set_mesh(without(dir.path(), "edge-a", 1), Instant::now());
    assert!(!b.is_up(), "nothing is waited for");
    assert_eq!(b.dropped(DropReason::Revoked), 1);
    run_until(&mut a, &mut b, &mut pass_all, |a, b| {
        assert!(!b.is_up());
        !a.is_up() && b.dropped(DropReason::Revoked) >= 2
    });
    assert!(refusals(&b).contains("edge-a is revoked"), "{}", refusals(&b));
}

/// The set that a peer sent, if it is there by now.
fn received(node: &mut Node) -> Option<(u64, Vec<u8>)> {
    node.asked.iter().find_map(|task| match task {
        Task::Revocations { sequence, set, .. } => Some((*sequence, set.clone())),
        _ => None,
    })
}

#[test]
fn the_older_side_takes_no_traffic_before_it_has_the_newer_set() {
    let dir = pki(&["edge-a", "edge-b", "edge-c"]);
    for newer_dials in [true, false] {
        let (mut a, mut b) = pair(dir.path());
        let mesh = without(dir.path(), "edge-c", 5);
        let (newer, older) = if newer_dials { (&mut a, &mut b) } else { (&mut b, &mut a) };
        newer.endpoint.set_mesh(Arc::clone(&mesh), Instant::now());
        let (x, y) = (newer.address, older.address);
        assert_ne!(x, y);
        run_until(&mut a, &mut b, &mut pass_all, |a, b| {
            let older = if newer_dials { b } else { a };
            assert!(!older.is_up(), "before the set is in force");
            received(older).is_some()
        });
        let older = if newer_dials { &mut b } else { &mut a };
        assert_eq!(received(older).unwrap(), (5, mesh.set.to_vec()));
        assert_eq!(older.endpoint.newest_sequence(), Some((PeerId(0), 5)));
        older.endpoint.set_mesh(mesh, Instant::now());
        run_until(&mut a, &mut b, &mut pass_all, up);
    }
}

#[test]
fn a_set_that_never_comes_leaves_the_link_down() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = pair(dir.path());
    // It says that it has a set, and has none to give.
    let boast = Mesh { sequence: 9, ..Mesh::default() };
    b.endpoint.set_mesh(Arc::new(boast), Instant::now());
    let start = Instant::now();
    run_until(&mut a, &mut b, &mut pass_all, |a, _| {
        assert!(!a.is_up());
        start.elapsed() > std::time::Duration::from_secs(1)
    });
    assert!(received(&mut a).is_none());
}

#[test]
fn a_new_set_reaches_linked_nodes_at_once_and_goes_on_from_there() {
    let dir = pki(&["edge-a", "edge-b", "edge-c"]);
    let (mut a, mut b) = pair(dir.path());
    let mut c = Node::new(dir.path(), "edge-c", C, Settings::default());
    let to = |id, name: &str, endpoints| Peer {
        id: PeerId(id),
        name: name.into(),
        endpoints,
        keys: None,
    };
    let peers = [to(0, "edge-a", Vec::new()), to(1, "edge-c", vec![c.address])];
    b.endpoint.set_peers(&peers, Instant::now());
    c.peer(0, "edge-b", &[]);
    run_until(&mut a, &mut b, &mut pass_all, up);
    let linked =
        |b: &mut Node| b.endpoint.links().iter().all(|link| link.state == stoq::LinkState::Up);
    run_until(&mut b, &mut c, &mut pass_all, |b, c| linked(b) && c.is_up());
    let mesh = without(dir.path(), "edge-a", 3);
    c.endpoint.set_mesh(Arc::clone(&mesh), Instant::now());
    run_until(&mut b, &mut c, &mut pass_all, |b, _| received(b).is_some());
    // B is told by C, cuts A off, and nobody asked A.
    b.endpoint.set_mesh(mesh, Instant::now());
    assert_eq!(b.dropped(DropReason::Revoked), 1);
    let states = b.asked.iter().filter(|task| matches!(task, Task::State { .. })).count();
    assert!(states >= 3, "two links, and the news: {states}");
    run_until(&mut a, &mut b, &mut pass_all, |a, _| !a.is_up());
}
