//! One suite of tests over every port and every fallback, with real sockets on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod exchange;
mod namespace;
mod probe;
mod refusal;
mod rig;
mod socket;
mod wake;

use stoq_port::{PortKind, PortOptions, Sender};

/// Every way to open a port that the tests cover.
pub fn modes() -> Vec<(String, PortKind, PortOptions)> {
    let whole = PortOptions::default();
    let inline = PortOptions { sender: Sender::Inline, ..whole.clone() };
    let variants = [
        ("thread", whole.clone()),
        ("inline", inline.clone()),
        ("thread, no gso", PortOptions { gso: false, ..whole.clone() }),
        ("inline, no gso", PortOptions { gso: false, ..inline.clone() }),
        ("inline, no gro", PortOptions { gro: false, ..inline.clone() }),
        ("inline, no gso, no gro", PortOptions { gso: false, gro: false, ..inline }),
    ];
    let mut modes = Vec::new();
    for kind in [PortKind::Mio, PortKind::Uring] {
        for (name, options) in &variants {
            modes.push((format!("{kind}, {name}"), kind, options.clone()));
        }
    }
    for sender in [Sender::Inline, Sender::Thread] {
        let options = PortOptions { multishot: false, sender, ..PortOptions::default() };
        modes.push((format!("uring, {sender:?}, no multishot"), PortKind::Uring, options));
    }
    modes
}
