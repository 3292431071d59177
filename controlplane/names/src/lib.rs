//! The mesh's names: which node has which address, told to the node's peers and to this host.
//!
//! Owns the zone `NAME.internal` with its reverse zones ([`Zone`], built from a list of members and
//! signed), the sockets on which it is served ([`Names`]), the forwarder that answers this host for
//! everything else, and the stages that make the host ask here ([`host`]). hypermeshd calls it: it
//! builds a zone at every change of the ledger and puts it in with [`Names::replace`].
//!
//! | who asks | names of the mesh | below `.internal` otherwise | anything else |
//! |---|---|---|---|
//! | a peer, at a tunnel address | answered | refused | refused |
//! | this host, at a loopback address | answered | no such name | forwarded |
//!
//! Answers come from hickory-server's zones; the sockets are served here, because every queue in
//! front of them has a bound: queries at work, queries per second of a source, connections. What is
//! dropped is counted by reason ([`Outcome`]).
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

mod answer;
mod authority;
mod counters;
mod forward;
pub mod host;
mod key;
mod limit;
mod listen;
mod serve;
mod sign;
mod zone;

pub use counters::{Counters, Outcome};
pub use key::{KeyError, ZoneKey};
pub use listen::{Audience, ListenError, Listener};
pub use serve::{Config, Names, StartError};
pub use zone::{Anchor, MAX_ADDRESSES, MAX_MEMBERS, Member, Mesh, Zone, ZoneError};

use std::net::Ipv4Addr;

/// Where this host asks. All of 127.0.0.0/8 is this host's without configuration (RFC 1122
/// §3.2.1.3), but much of it is taken: systemd-resolved has 127.0.0.53 and .54, dnsmasq, unbound and
/// BIND 127.0.0.1, Debian the host's own name 127.0.1.1, dnscrypt-proxy 127.0.2.1. This one has no
/// known user.
pub const LOOPBACK: Ipv4Addr = Ipv4Addr::new(127, 0, 92, 53);

/// The port of DNS (RFC 1035 §4.2).
pub const PORT: u16 = 53;
