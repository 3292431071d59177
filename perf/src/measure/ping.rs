//! Round-trip times by `fping`, which knows nothing of what is between. Not by `ping`: it spins through the
//! last 10 ms before each packet, and beside a load that wants every core, that was a sixth of the host's time.

use crate::bed::Namespace;
use crate::process;
use crate::wait;
use crate::{Error, Result};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The longest round trip that is told apart from a longer one.
const LONGEST_US: u64 = 60_000_000;

/// Digits kept of a round-trip time; `ping` prints no more.
const DIGITS: u8 = 3;

/// How many packets a second are sent, at the interval of 10 ms.
pub const RATE_PER_S: u32 = 100;

/// How many a second where nothing else is sent that they could disturb, at the interval of 2 ms.
pub const RATE_IDLE_PER_S: u32 = 500;

/// Round-trip times of one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Answers that came.
    pub answers: u64,
    /// Packets that were not answered.
    pub lost: u64,
    /// Median in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile in milliseconds.
    pub p99_ms: f64,
    /// 99.9th percentile in milliseconds: of fewer than 1000 answers, the longest.
    pub p999_ms: f64,
    /// The longest in milliseconds.
    pub max_ms: f64,
}

/// Sends `count` packets at 10 ms intervals.
///
/// # Errors
/// [`Error::Output`] when no packet was answered.
pub fn run(from: &Namespace, to: IpAddr, count: u32) -> Result<Latency> {
    at_interval(from, to, count, "10")
}

/// Sends `count` packets at 2 ms intervals, for a path without other traffic.
///
/// # Errors
/// [`Error::Output`] when no packet was answered.
pub fn run_idle(from: &Namespace, to: IpAddr, count: u32) -> Result<Latency> {
    at_interval(from, to, count, "2")
}

fn at_interval(from: &Namespace, to: IpAddr, count: u32, interval_ms: &str) -> Result<Latency> {
    let (count_word, address) = (count.to_string(), to.to_string());
    let mut command = from.command("fping");
    command.args(["-p", interval_ms, "-t", "1000", "-c", &count_word, &address]);
    let output = process::output(&mut command)?;
    parse(&String::from_utf8_lossy(&output.stdout), count.into())
}

/// Waits until one packet is answered, and says how long that took.
///
/// # Errors
/// [`Error::Timeout`] when none is.
pub fn wait_for_answer(from: &Namespace, to: IpAddr, timeout: Duration) -> Result<Duration> {
    let begin = Instant::now();
    let address = to.to_string();
    wait::until(&format!("an answer from {address}"), timeout, || {
        from.run("ping", ["-n", "-c", "1", "-W", "0.2", &address])
            .map_err(|error| error.to_string())
    })?;
    Ok(begin.elapsed())
}

fn parse(printed: &str, sent: u64) -> Result<Latency> {
    let unexpected = |got: String| Error::Output {
        what: "fping".to_owned(),
        expected: "lines with `bytes, … ms`".to_owned(),
        got,
    };
    let mut times = Histogram::<u64>::new_with_bounds(1, LONGEST_US, DIGITS)
        .map_err(|error| unexpected(error.to_string()))?;
    for us in printed.lines().filter_map(round_trip_us) {
        times.saturating_record(us);
    }
    if times.is_empty() {
        return Err(unexpected(printed.trim().to_owned()));
    }
    let ms = |us: u64| Duration::from_micros(us).as_secs_f64() * 1000.0;
    Ok(Latency {
        answers: times.len(),
        lost: sent.saturating_sub(times.len()),
        p50_ms: ms(times.value_at_quantile(0.50)),
        p99_ms: ms(times.value_at_quantile(0.99)),
        p999_ms: ms(times.value_at_quantile(0.999)),
        max_ms: ms(times.max()),
    })
}

/// The time in `192.0.2.1 : [0], 64 bytes, 0.310 ms (0.310 avg, 0% loss)`.
fn round_trip_us(line: &str) -> Option<u64> {
    let (_, time) = line.split_once(" bytes, ")?;
    let (ms, _) = time.split_once(" ms")?;
    u64::try_from(Duration::try_from_secs_f64(ms.parse::<f64>().ok()? / 1000.0).ok()?.as_micros())
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_what_fping_prints() {
        let mut printed = String::new();
        for us in 1..=98 {
            printed += &format!("10.0.0.1 : [{us}], 64 bytes, 0.{us:03} ms (0.049 avg, 0% loss)\n");
        }
        printed += "10.0.0.1 : [99], 64 bytes, 12.5 ms (0.2 avg, 0% loss)\n";
        printed += "10.0.0.1 : [100], timed out (0.2 avg, 1% loss)\n";
        printed += "10.0.0.1 : xmt/rcv/%loss = 100/99/1%, min/avg/max = 0.001/0.2/12.5\n";
        let latency = parse(&printed, 100).unwrap();
        assert_eq!((latency.answers, latency.lost), (99, 1));
        assert!((latency.p50_ms - 0.050).abs() < 0.001);
        assert!((latency.p999_ms - 12.5).abs() < 0.02, "the longest, of so few");
        assert!((latency.max_ms - 12.5).abs() < 0.02);
    }

    #[test]
    fn silence_is_an_error() {
        assert!(parse("10.0.0.1 : [0], timed out (NaN avg, 100% loss)\n", 5).is_err());
    }
}
