//! Packets from made-up sources, as fast as one core sends them: what a host on the internet must stand.
//! Only for the bed's own wire: the target is a host in one of its namespaces.
//!
//! ```text
//!   payloads (garbage, or real first datagrams) ─▶ file ─▶ flood-end [flood] ─▶ lane ─▶ bridge ─▶ target
//! ```
//!
//! A [`Flood`] owns the sending process and ends it. Benchmarks and tests start it.

mod payload;
mod sender;

pub use payload::{Kind, write_payloads};
pub use sender::{Progress, run as end};

use crate::bed::{Bed, Family, Guest, Namespace, Side, WAN, hardware_address};
use crate::bypass::parse_address;
use crate::process::Process;
use crate::{Error, Result};
use sender::{READY, Target};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

/// The hosts of the wire that flood and are flooded.
const NUMBERS: [u8; 2] = [4, 5];

/// Longest that a flood lasts, whatever happens to its owner.
const LONGEST: Duration = Duration::from_secs(120);

/// How long a sender may take to begin.
const START: Duration = Duration::from_secs(30);

/// Networks that the made-up sources are in: those for benchmarks (RFC 2544 §C.2.2) and for
/// documentation (RFC 3849).
const SOURCES: [(&str, Family); 2] = [("198.18.0.0/15", Family::V4), ("2001:db8::/32", Family::V6)];

/// The made-up source of a number, of either family in turns; each is in a prefix of its own.
#[must_use]
pub(crate) fn source(number: u16, is_v4: bool) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    if is_v4 {
        Ipv4Addr::new(198, 18 + (high >> 7), high << 1 | low >> 7, low << 1 | 1).into()
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, number, 1, 0, 0, 0, 1).into()
    }
}

/// The host that floods, and a sink beside the edges.
#[derive(Debug)]
pub struct Arena<'bed> {
    bed: &'bed Bed,
    attacker: Guest,
    sink: Guest,
}

impl<'bed> Arena<'bed> {
    /// Puts both on the bed's wire. The sink drops all frames as they come in, before its network
    /// stack: no honest sink is cheaper, so none makes the flooded tunnel look better.
    ///
    /// # Errors
    /// When the kernel refuses a part of it.
    pub fn new(bed: &'bed Bed) -> Result<Self> {
        let [attacker, sink] = NUMBERS;
        let (attacker, sink) = (bed.guest("flood", attacker)?, bed.guest("sink", sink)?);
        sink.drop_all()?;
        // Answers to made-up sources go back to where they came from, as on the internet.
        for (prefix, family) in SOURCES {
            let via = attacker.wan(family);
            bed.b.namespace.ip(&format!("route replace {prefix} via {via} dev {WAN}"))?;
        }
        Ok(Self { bed, attacker, sink })
    }

    /// Floods UDP `port` of edge B.
    ///
    /// # Errors
    /// As for [`Arena::sink`].
    pub fn edge_b(&self, program: &Path, payloads: &Path, port: u16) -> Result<Flood> {
        let host = &self.bed.b.namespace;
        self.start(program, payloads, (host, |family| Side::B.wan(family), port))
    }

    /// Sends the same to the sink. `program` is `stoq-perf`.
    ///
    /// # Errors
    /// When the sender does not begin.
    pub fn sink(&self, program: &Path, payloads: &Path, port: u16) -> Result<Flood> {
        let sink = &self.sink;
        self.start(program, payloads, (&sink.namespace, |family| sink.wan(family), port))
    }

    fn start(
        &self,
        program: &Path,
        payloads: &Path,
        (host, address, port): (&Namespace, impl Fn(Family) -> IpAddr, u16),
    ) -> Result<Flood> {
        let target = Target {
            payloads: payloads.to_owned(),
            link: parse_address(&hardware_address(host)?).unwrap_or_default(),
            addresses: Family::BOTH.map(address),
            port,
            run_ms: u64::try_from(LONGEST.as_millis()).unwrap_or(u64::MAX),
            core: crate::node::core_of(Side::A),
        };
        let words = ["flood-end".to_owned(), serde_json::json!(target).to_string()];
        let log = self.bed.folder().join("flood.log");
        let mut process = Process::spawn(&self.attacker.namespace, &log, program, words)?;
        process.wait_for_log(READY, START)?;
        Ok(Flood { process })
    }
}

/// A running flood; it ends when dropped.
#[derive(Debug)]
pub struct Flood {
    process: Process,
}

impl Flood {
    /// What was sent so far.
    ///
    /// # Errors
    /// [`Error::Output`] when the sender tells nothing, because it has failed.
    pub fn progress(&self) -> Result<Progress> {
        let log = self.process.log();
        Progress::last(&log).ok_or_else(|| Error::Output {
            what: "the flood's sender".to_owned(),
            expected: "how much it has sent".to_owned(),
            got: log,
        })
    }

    /// Waits until so many packets have been sent in all.
    ///
    /// # Errors
    /// [`Error::Timeout`] when they are not.
    pub fn wait_for(&mut self, packets: u64, timeout: Duration) -> Result<()> {
        self.process.wait_alive("the flood's progress", timeout, |process| {
            let sent = Progress::last(&process.log()).unwrap_or_default().packets;
            if sent >= packets { Ok(()) } else { Err(format!("{sent} of {packets} packets")) }
        })
    }
}
