//! A `ping` every 10 ms beside whatever a test does: how many were lost, and when the last answer came.

use super::MeshHost;
use crate::process::Process;
use crate::{Error, Result};
use nix::sys::signal::Signal;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How long `ping` may take to end once asked.
const END: Duration = Duration::from_secs(5);

/// A running `ping`.
#[derive(Debug)]
pub struct Pings {
    process: Process,
}

/// What became of the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Packets sent.
    pub sent: u64,
    /// Packets answered.
    pub answered: u64,
}

impl Pings {
    /// Starts to ping `to` from `host`, every 10 ms, and waits for the first answer.
    ///
    /// # Errors
    /// [`Error::Timeout`] when there is none.
    pub fn start(host: &MeshHost, to: IpAddr) -> Result<Self> {
        let mut command = host.command("ping");
        command.args(["-n", "-D", "-i", "0.01", "-W", "1", &to.to_string()]);
        let log = host.log(&format!("ping-{to}").replace(':', "_"));
        let mut process = Process::spawn_command(command, Path::new("ping"), &log)?;
        process.wait_for_log("time=", END)?;
        Ok(Self { process })
    }

    /// How many were answered so far.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.process.log().lines().filter_map(answered_at_s).count() as u64
    }

    /// When the last answer so far came.
    #[must_use]
    pub fn last_answer(&self) -> Option<SystemTime> {
        let at_s = self.process.log().lines().rev().find_map(answered_at_s)?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(at_s).ok()?)
    }

    /// Ends it by SIGINT, on which it prints its count.
    ///
    /// # Errors
    /// [`Error::Output`] when it prints none.
    pub fn finish(mut self) -> Result<Counted> {
        self.process.signal(Signal::SIGINT)?;
        self.process.wait_exit(END)?;
        let log = self.process.log();
        log.lines().find_map(counted).ok_or_else(|| Error::Output {
            what: "ping".to_owned(),
            expected: "`N packets transmitted, M received`".to_owned(),
            got: log.lines().last().unwrap_or_default().to_owned(),
        })
    }
}

/// The time in `[1700000000.123456] 64 bytes from …: icmp_seq=1 ttl=64 time=0.310 ms`.
fn answered_at_s(line: &str) -> Option<f64> {
    let (at, rest) = line.strip_prefix('[')?.split_once(']')?;
    if rest.contains("time=") { at.parse().ok() } else { None }
}

/// The numbers in `500 packets transmitted, 498 received, 0.4% packet loss, time 5000ms`.
fn counted(line: &str) -> Option<Counted> {
    let (sent, rest) = line.split_once(" packets transmitted, ")?;
    let (answered, _) = rest.split_once(" received")?;
    Some(Counted { sent: sent.parse().ok()?, answered: answered.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ping_prints() {
        let answer = "[1700000000.250000] 64 bytes from fd::1: icmp_seq=1 ttl=64 time=0.310 ms";
        assert_eq!(answered_at_s(answer), Some(1_700_000_000.25));
        assert_eq!(answered_at_s("[1700000000.25] no answer yet for icmp_seq=7"), None);
        let line = "500 packets transmitted, 498 received, 0.4% packet loss, time 5000ms";
        assert_eq!(counted(line), Some(Counted { sent: 500, answered: 498 }));
        assert_eq!(counted("rtt min/avg/max/mdev = 0.1/0.2/0.3/0.1 ms"), None);
    }
}
