//! What the program costs a packet, by kind: `cargo bench --workspace --bench program --profile dev`.
//!
//! It is run in the kernel by BPF_PROG_TEST_RUN, so the profile of this code does not matter. The time
//! holds the program and the kernel's loop around it, and none of what a driver does; the row "nothing
//! to read" is the least that is measured that way. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a benchmark")]
#![allow(dead_code, reason = "the builders of frames are those of the tests")]

#[path = "../tests/verdicts/frame.rs"]
mod frame;
#[path = "../tests/verdicts/payload.rs"]
mod payload;
#[path = "../tests/verdicts/socket.rs"]
mod socket;

use std::net::IpAddr;
use std::os::fd::AsFd;

use stoq_xdp::{Loaded, Rate, Rules, Settings};

use frame::Packet;
use payload::{Host, INITIAL, long, made_up_cid, short, versioned};

/// Runs of one measurement: some milliseconds of the fastest.
const REPEAT: u32 = 1_000_000;

/// Measurements of each row, of which the median counts.
const ROUNDS: usize = 5;

const V4: &str = "192.0.2.1";
const V6: &str = "2001:db8::1";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn v4(payload: Vec<u8>) -> Packet {
    Packet::new(ip("203.0.113.5"), ip(V4), 9292, payload)
}

fn v6(payload: Vec<u8>) -> Packet {
    Packet::new(ip("2001:db8:5::5"), ip(V6), 9292, payload)
}

fn settings(deny: &[&str]) -> Settings {
    Settings {
        ports: vec![9292],
        addresses: vec![ip(V4), ip(V6)],
        deny: deny.iter().map(|text| (ip(text), 24)).collect(),
        rules: Rules { version: Some(Rate::new(1, 1)), ..Rules::default() },
        connection_ids: Some(Host::new().check()),
    }
}

fn rows() -> Vec<(&'static str, Vec<u8>)> {
    let host = Host::new();
    let established = short(host.cid(), 1200);
    let mut no_fixed_bit = established.clone();
    no_fixed_bit[0] = 0;
    vec![
        ("foreign: nothing to read (14 bytes of ARP)", {
            let mut arp = v4(Vec::new()).frame()[..12].to_vec();
            arp.extend_from_slice(&[0x08, 0x06]);
            arp
        }),
        ("foreign: TCP in IPv4", v4(established.clone()).with(|p| p.protocol = 6).frame()),
        (
            "foreign: UDP in IPv4, another port",
            v4(established.clone()).with(|p| p.port = 53).frame(),
        ),
        (
            "foreign: UDP in IPv6, another port",
            v6(established.clone()).with(|p| p.port = 53).frame(),
        ),
        ("taken: established, IPv4", v4(established.clone()).frame()),
        ("taken: established, IPv6", v6(established.clone()).frame()),
        (
            "taken: established, IPv6 in QinQ",
            v6(established).with(|p| p.tags = vec![0x88a8, 0x8100]).frame(),
        ),
        ("dropped: garbage without the fixed bit", v4(no_fixed_bit).frame()),
        ("dropped: garbage with a wrong ID, IPv4", v4(short([0x5c; 12], 1200)).frame()),
        ("dropped: garbage with a wrong ID, IPv6", v6(short([0x5c; 12], 1200)).frame()),
        ("dropped: ID with a wrong tag", v6(short(host.forged_cid(), 1200)).frame()),
        (
            "dropped: unknown version beyond its rate",
            v4(versioned(0xc0, 7, &[1; 8], &[2; 8], 1200)).frame(),
        ),
        (
            "dropped: Initial packet beyond its rate",
            v4(long(INITIAL, &made_up_cid(), 1200)).frame(),
        ),
    ]
}

/// The median of nanoseconds per run.
fn measure(loaded: &mut Loaded, frame: &[u8]) -> u128 {
    let mut rounds: Vec<u128> =
        (0..ROUNDS).map(|_| loaded.run(frame, REPEAT).unwrap().time.as_nanos()).collect();
    rounds.sort_unstable();
    rounds[ROUNDS / 2]
}

fn main() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: needs root to load a program");
        return;
    }
    let mut loaded = Loaded::new(&settings(&[])).unwrap();
    let socket = socket::af_xdp();
    loaded.set_socket(0, socket.as_fd()).unwrap();
    for (name, frame) in rows() {
        println!("{:>6} ns  {name}", measure(&mut loaded, &frame));
    }
    loaded.apply(&settings(&["198.51.100.0"])).unwrap();
    let frame = v4(short(Host::new().cid(), 1200)).frame();
    println!("{:>6} ns  taken: established, IPv4, with a deny list", measure(&mut loaded, &frame));
    let refused =
        v4(short(Host::new().cid(), 1200)).with(|p| p.source = ip("198.51.100.9")).frame();
    println!("{:>6} ns  dropped: on the deny list", measure(&mut loaded, &refused));
}
