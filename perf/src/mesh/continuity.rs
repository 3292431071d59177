//! A `ping` every 10 ms beside whatever a test does: how many were lost, and when the last answer came.

use super::MeshHost;
use crate::Result;
use crate::process::Process;
use crate::wait;
use nix::sys::signal::Signal;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How long `ping` may take to end once asked.
const END: Duration = Duration::from_secs(30);

/// A running `ping`.
#[derive(Debug)]
pub struct Pings {
    process: Process,
}

/// What became of the packets up to the last one that was answered: those behind it were still under way
/// as the count ended, and say nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// [`crate::Error::Timeout`] when there is none.
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

    /// Waits for one more answer, ends it, and counts. More than 65535 packets cannot be told apart.
    ///
    /// # Errors
    /// [`crate::Error::Timeout`] when no answer comes any more.
    pub fn finish(mut self) -> Result<Counted> {
        let before = self.answered();
        wait::until("one more answer", END, || {
            let now = self.answered();
            if now > before { Ok(()) } else { Err(format!("{now} answers")) }
        })?;
        self.process.signal(Signal::SIGINT)?;
        self.process.wait_exit(END)?;
        Ok(counted(&self.process.log()))
    }
}

/// The time in `[1700000000.123456] 64 bytes from …: icmp_seq=1 ttl=64 time=0.310 ms`.
fn answered_at_s(line: &str) -> Option<f64> {
    let (at, rest) = line.strip_prefix('[')?.split_once(']')?;
    if rest.contains("time=") { at.parse().ok() } else { None }
}

/// The number in `icmp_seq=7` of an answer. A duplicate answers nothing new.
fn number_of(line: &str) -> Option<u64> {
    answered_at_s(line).filter(|_| !line.contains("DUP!"))?;
    let (_, rest) = line.split_once("icmp_seq=")?;
    rest.split(' ').next()?.parse().ok()
}

/// Counts what `ping` printed; its packets are numbered from 1.
fn counted(log: &str) -> Counted {
    let count = |counted: Counted, number: u64| Counted {
        sent: counted.sent.max(number),
        answered: counted.answered + 1,
    };
    log.lines().filter_map(number_of).fold(Counted::default(), count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ping_prints() {
        let answer = "[1700000000.250000] 64 bytes from fd::1: icmp_seq=1 ttl=64 time=0.310 ms";
        assert_eq!(answered_at_s(answer), Some(1_700_000_000.25));
        assert_eq!(answered_at_s("[1700000000.25] no answer yet for icmp_seq=7"), None);
    }

    #[test]
    fn what_is_under_way_at_the_end_is_not_lost_and_a_gap_is() {
        let answer =
            |number: u64| format!("[17.5] 64 bytes from ::1: icmp_seq={number} ttl=64 time=1 ms");
        let mut log: String = [1, 2, 4, 3, 6].map(|number| answer(number) + "\n").concat();
        log += &format!("{} (DUP!)\n9 packets transmitted, 5 received, time 90ms\n", answer(6));
        assert_eq!(counted(&log), Counted { sent: 6, answered: 5 });
        assert_eq!(counted("[17.5] no answer yet for icmp_seq=7"), Counted::default());
    }
}
