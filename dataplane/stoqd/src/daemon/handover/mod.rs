//! Hand-over, make before break: another stoqd comes up beside this one, builds every link that this one
//! has, and takes over the tunnel device; only then does this one leave.
//!
//! ```text
//!   elder                                       heir
//!     │ ── will, descriptors ──────────────────▶ │  reads its configuration, forks its broker
//!     │ ◀───────────────────────── workers ───── │
//!     │    its IDs to itself, the rest to the    │
//!     │ ── steered ──────────────────── heir ──▶ │  opens sockets, dials; peers move to it
//!     │ ◀──────────────────────────── built ──── │  again and again, until nothing lacks
//!     │    reads the device no more              │
//!     │ ── go ─────────────────────────────────▶ │  sets routes, reads the device, serves
//!     │ ◀───────────────────────── serving ───── │
//!     ▼    takes what is on the way, and ends    ▼
//! ```
//!
//! Both have one boot identity, so that peers take the heir's connections for successors (section 12 of
//! `docs/protocol.md`). Until `serving` the elder can have everything back: whatever goes wrong, it goes on.
//! Both ends are here; the broker starts the heir.

mod elder;
mod heir;
mod relay;

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub(super) use self::elder::Upgraded;
pub(super) use self::heir::{Elder, inherit};
pub(super) use self::relay::{Relay, Run};
use crate::broker::Channel;
use crate::inherit::Kind;

/// How long the heir has for all links. A peer keeps a replaced connection for 40 s.
const LIMIT: Duration = Duration::from_secs(30);

/// After so long without a link the peer is asked to dial, where the heir cannot reach it.
const ASK_AFTER: Duration = Duration::from_secs(3);

/// Names of missing links that are told at most; of the rest the number.
const MISSING_MAX: usize = 64;

/// How often the heir tells which: it asks every worker for all links.
const TELL_EVERY_MS: u16 = 50;

/// From the elder.
#[derive(Debug, Serialize, Deserialize)]
enum ToHeir {
    /// What comes beside.
    Will(Vec<Kind>),
    /// First packets reach the heir's sockets once they are open.
    Steered,
    /// The device and the servers are the heir's.
    Go,
}

/// From the heir.
#[derive(Debug, Serialize, Deserialize)]
enum ToElder {
    /// It will have so many workers.
    Workers(u8),
    /// How far its links are.
    Built(Built),
    /// It carries the traffic.
    Serving {
        /// Its version.
        version: String,
    },
}

/// What the heir lacks of the elder's links.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Built {
    /// No worker has them.
    none: Vec<String>,
    /// Some worker has them, and some has not.
    partly: Vec<String>,
    /// So many more of either kind.
    more: usize,
    /// So many workers do not answer: what they have is not known.
    silent: usize,
}

impl Built {
    /// Whether nothing lacks.
    fn is_complete(&self) -> bool {
        self.none.is_empty() && self.partly.is_empty() && self.more == 0 && self.silent == 0
    }
}

fn send(channel: &Channel, message: &impl Serialize, fds: &[OwnedFd]) -> io::Result<()> {
    channel.send(&serde_json::to_vec(message)?, fds)
}

/// Waits 10 s at most.
fn receive<M: DeserializeOwned>(channel: &Channel) -> io::Result<(M, Vec<OwnedFd>)> {
    let (bytes, fds) = channel.receive()?;
    Ok((serde_json::from_slice(&bytes)?, fds))
}
