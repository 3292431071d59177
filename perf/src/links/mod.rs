//! Many nodes in one process, each with a certificate, a socket and a link of its own to the same `stoqd`:
//! the mesh that a large node sees. They are real endpoints of `stoq`, without a tunnel behind them.
//!
//! ```text
//!   links-end [namespace] ── socket 1 ─┐
//!                          ── socket 2 ─┼─▶ stoqd under test
//!                          ── socket N ─┘
//! ```
//!
//! A [`Crowd`] owns the process and ends it. The benchmark `connections` and its test start it.

mod member;
mod mint;
mod swarm;

pub use swarm::run as end;

use crate::bed::Namespace;
use crate::process::Process;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use stoq_identity::Policy;

/// Most nodes of a crowd: each has a descriptor and a port, of which a namespace has 28,000.
pub const NODES_MAX: u32 = 16_000;

/// How long the making of one certificate may take; it is some milliseconds.
const MINT_EACH: Duration = Duration::from_millis(100);

/// What is printed before the first node dials.
const READY: &str = "ready";

/// What a line of progress begins with.
const TOLD: &str = "links ";

/// The name of a node of the crowd.
#[must_use]
pub fn name(number: u32) -> String {
    format!("leaf-{number}")
}

/// A node of the crowd as the configuration of its peer has it: its name, and its network.
#[must_use]
pub fn leaf(number: u32) -> (String, String) {
    let [high, low] = [number >> 16, number & 0xffff];
    (name(number), format!("fd48:4d00:ffff::{high:x}:{low:x}/128"))
}

/// Whom the crowd dials, and as whom.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Target {
    /// Where the `stoqd` under test listens.
    pub address: SocketAddr,
    /// Its name in the mesh.
    pub node: String,
    /// The folder with the mesh's root and its key.
    pub root: PathBuf,
    /// How many nodes dial it, [`NODES_MAX`] at most.
    pub nodes: u32,
    /// Whether proofs of possession are asked for.
    pub hybrid: bool,
}

impl Target {
    fn policy(&self) -> Policy {
        if self.hybrid { Policy::Hybrid } else { Policy::Classical }
    }
}

/// How it goes with a crowd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Since the first node dialled, in seconds.
    pub seconds: f64,
    /// Links that are up.
    pub up: u32,
    /// Times that a link came up.
    pub came_up: u64,
    /// When the last one did, in seconds since the first node dialled.
    pub last_up_s: f64,
    /// Times that a link went down.
    pub went_down: u64,
    /// Handshakes that were refused.
    pub refused: u64,
    /// The longest time, in seconds, for which a link that is up has heard nothing of its peer.
    pub silent_s: f64,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams received.
    pub received: u64,
}

impl Progress {
    /// All that were printed. A line that is being written does not parse, and is left out.
    fn all(printed: &str) -> impl DoubleEndedIterator<Item = Self> {
        let lines = printed.lines().filter_map(|line| line.strip_prefix(TOLD));
        lines.filter_map(|line| serde_json::from_str(line).ok())
    }
}

/// A running crowd; it ends when dropped.
#[derive(Debug)]
pub struct Crowd {
    process: Process,
    nodes: u32,
}

impl Crowd {
    /// Makes the nodes' certificates in `namespace`, and has them dial, some dozens at a time. `program` is
    /// `stoq-perf`; `log` is where its output goes.
    ///
    /// # Errors
    /// When the process does not start, or its certificates are not made in time.
    pub fn start(
        namespace: &Namespace,
        program: &Path,
        log: &Path,
        target: &Target,
    ) -> Result<Self> {
        let words = ["links-end".to_owned(), serde_json::json!(target).to_string()];
        let mut process = Process::spawn(namespace, log, program, words)?;
        process.wait_for_log(READY, Duration::from_secs(10) + MINT_EACH * target.nodes)?;
        Ok(Self { process, nodes: target.nodes })
    }

    /// How it goes.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress::all(&self.process.log()).next_back().unwrap_or_default()
    }

    /// All that it told from so many seconds after its first dial on.
    #[must_use]
    pub fn told_since(&self, seconds: f64) -> Vec<Progress> {
        Progress::all(&self.process.log()).filter(|told| told.seconds >= seconds).collect()
    }

    /// Waits until every link is up, and has come up at least `times` on average.
    ///
    /// # Errors
    /// [`Error::Timeout`] when they are not.
    pub fn wait_until_up(&mut self, times: u64, timeout: Duration) -> Result<Progress> {
        let (nodes, times) = (self.nodes, times * u64::from(self.nodes));
        self.process.wait_alive("every link being up", timeout, |process| {
            let now = Progress::all(&process.log()).next_back().unwrap_or_default();
            if now.up == nodes && now.came_up >= times { Ok(now) } else { Err(format!("{now:?}")) }
        })
    }

    /// Waits until it has run for so many seconds since its first dial.
    ///
    /// # Errors
    /// [`Error::Timeout`] when it tells nothing any more.
    pub fn wait_until(&mut self, seconds: f64, timeout: Duration) -> Result<Progress> {
        self.process.wait_alive("the crowd's progress", timeout, |process| {
            let now = Progress::all(&process.log()).next_back().unwrap_or_default();
            if now.seconds >= seconds { Ok(now) } else { Err(format!("{now:?}")) }
        })
    }

    /// CPU time of the crowd so far, in seconds.
    #[must_use]
    pub fn cpu_s(&self) -> f64 {
        self.process.cpu_time().total_s()
    }
}

fn refused(what: &str) -> impl FnOnce(String) -> Error + use<> {
    let what = what.to_owned();
    move |got| Error::Output { what, expected: "a node's certificate and keys".to_owned(), got }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read_again_and_a_cut_line_left_out() {
        let first = Progress { up: 3, seconds: 0.5, ..Progress::default() };
        let second = Progress { up: 4, silent_s: 1.5, seconds: 1.0, ..first };
        let line = |told: &Progress| format!("{TOLD}{}\n", serde_json::json!(told));
        let printed = format!("{READY}\n{}{}{TOLD}{{\"up\":5,\"sec", line(&first), line(&second));
        assert_eq!(Progress::all(&printed).collect::<Vec<_>>(), [first, second]);
        assert_eq!(Progress::all(READY).next_back(), None);
    }
}
