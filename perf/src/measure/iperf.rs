//! Throughput of TCP and UDP by iperf3, from one namespace to another.

use crate::bed::Namespace;
use crate::process::Process;
use crate::{Error, Result};
use nix::sys::signal::Signal;
use serde::Serialize;
use serde_json::Value;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// The TCP port of the iperf3 server.
const PORT: u16 = 5201;

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(30);

/// How long a client may take beyond its run: connecting, and results sent back over a bad path.
const SLACK: Duration = Duration::from_secs(60);

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// One TCP stream, as fast as it goes.
    Tcp,
    /// One TCP stream that is offered so many Mbit/s.
    TcpAt(u32),
    /// So many TCP streams at once, as fast as they go; the figures are their sums.
    TcpStreams(u32),
    /// UDP at so many Mbit/s; 0 is as fast as one core sends.
    Udp(u32),
}

/// What one run reached.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Throughput {
    /// What the receiver got, in Mbit/s.
    pub mbps: f64,
    /// TCP segments sent again.
    pub retransmits: u64,
    /// UDP datagrams lost, in percent.
    pub lost_percent: f64,
    /// CPU time of the sending iperf3 in seconds.
    pub sender_cpu_s: f64,
    /// CPU time of the receiving iperf3 in seconds.
    pub receiver_cpu_s: f64,
}

/// A running transfer.
#[derive(Debug)]
pub struct Transfer {
    server: Process,
    client: Process,
    duration: Duration,
}

impl Transfer {
    /// Starts a server in `to` and a client in `from`, which sends to `address` for `seconds` after a
    /// warm-up of `warm_up_s` that does not count. Logs go to the folder `logs`.
    ///
    /// # Errors
    /// When one of them does not start.
    pub fn start(
        (from, to): (&Namespace, &Namespace),
        address: IpAddr,
        load: Load,
        (warm_up_s, seconds): (u32, u32),
        logs: &Path,
    ) -> Result<Self> {
        let (server, iperf) = (serve(to, logs)?, Path::new("iperf3"));
        let (address, seconds_word) = (address.to_string(), seconds.to_string());
        let (warm_up, rate) = (warm_up_s.to_string(), load.rate());
        let mut words = vec!["-c", &address, "-J", "-t", &seconds_word, "-O", &warm_up];
        if let Load::Udp(_) = load {
            words.push("-u");
        }
        let streams = load.streams();
        if let Some(streams) = &streams {
            words.extend(["-P", streams]);
        }
        if let Some(rate) = &rate {
            words.extend(["-b", rate]);
        }
        let client = Process::spawn(from, &logs.join("iperf3-client.log"), iperf, words)?;
        let duration = Duration::from_secs(u64::from(warm_up_s) + u64::from(seconds));
        Ok(Self { server, client, duration })
    }

    /// Whether the client still runs.
    pub fn is_running(&mut self) -> bool {
        self.client.try_exit().is_none()
    }

    /// Waits for the end and gives the result.
    ///
    /// # Errors
    /// [`Error::Command`] when iperf3 failed, [`Error::Timeout`] when it hangs.
    pub fn finish(mut self) -> Result<Throughput> {
        let status = self.client.wait_exit(self.duration + SLACK)?;
        let printed = self.client.log();
        if !status.success() {
            return Err(self.client.failed(&format!("{status}; server: {}", self.server.log())));
        }
        let report: Value = serde_json::from_str(&printed).map_err(|_| unexpected(&printed))?;
        parse(&report).ok_or_else(|| unexpected(&printed))
    }
}

/// One TCP stream that runs until it is asked for its end, whatever happens to the path meanwhile.
#[derive(Debug)]
pub struct Stream {
    server: Process,
    client: Process,
    to: Namespace,
}

/// What such a stream has carried.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Carried {
    /// What the sender got rid of, in Mbit/s.
    pub mbps: f64,
    /// TCP segments sent again.
    pub retransmits: u64,
    /// The longest time in milliseconds in which nothing was sent, in steps of [`INTERVAL_MS`].
    pub silence_ms: u64,
}

/// What a stream's report is divided into, in milliseconds: the finest that iperf3 has.
pub const INTERVAL_MS: u64 = 100;

/// Longest run of a stream in seconds: its intervals are kept in memory until its end.
const STREAM_S: &str = "3600";

impl Stream {
    /// Starts a server in `to` and a client in `from`, which sends to `address`. Logs go to the folder
    /// `logs`.
    ///
    /// # Errors
    /// When one of them does not start.
    pub fn start(
        (from, to): (&Namespace, &Namespace),
        address: IpAddr,
        load: Load,
        logs: &Path,
    ) -> Result<Self> {
        let server = serve(to, logs)?;
        let (address, rate) = (address.to_string(), load.rate());
        let mut words = vec!["-c", &address, "-J", "-t", STREAM_S, "-i", "0.1"];
        if let Some(rate) = &rate {
            words.extend(["-b", rate]);
        }
        let iperf = Path::new("iperf3");
        let client = Process::spawn(from, &logs.join("iperf3-stream.log"), iperf, words)?;
        Ok(Self { server, client, to: to.clone() })
    }

    /// How many bytes the receiver's TCP has got so far.
    ///
    /// # Errors
    /// [`Error::Command`] when `ss` fails, [`Error::Output`] when it knows of no connection.
    pub fn received(&self) -> Result<u64> {
        let printed = self.to.run("ss", ["-Htin", "sport", "=", &format!(":{PORT}")])?;
        bytes_received(&printed).ok_or_else(|| Error::Output {
            what: "ss -Htin".to_owned(),
            expected: "a connection with `bytes_received:`".to_owned(),
            got: printed.clone(),
        })
    }

    /// Ends it by SIGINT, on which iperf3 prints its report. It checks that the connection was still there.
    ///
    /// # Errors
    /// [`Error::Command`] when the connection was lost before, [`Error::Output`] for another report.
    pub fn finish(mut self) -> Result<Carried> {
        if let Some(status) = self.client.try_exit() {
            return Err(self.client.failed(&format!("{status}; server: {}", self.server.log())));
        }
        self.client.signal(Signal::SIGINT)?;
        self.client.wait_exit(SLACK)?;
        let printed = self.client.log();
        let report: Value = serde_json::from_str(&printed).map_err(|_| unexpected(&printed))?;
        carried(&report).ok_or_else(|| unexpected(&printed))
    }
}

/// What the connection with the most bytes has got: iperf3 has one of its own for results.
fn bytes_received(printed: &str) -> Option<u64> {
    let words = printed.split_whitespace();
    words.filter_map(|word| word.strip_prefix("bytes_received:")?.parse().ok()).max()
}

fn carried(report: &Value) -> Option<Carried> {
    let sent = report.get("end")?.get("sum_sent")?;
    let (mut silent, mut longest) = (0, 0);
    for interval in report.get("intervals")?.as_array()? {
        let is_silent = interval.get("sum")?.get("bytes")?.as_u64()? == 0;
        silent = if is_silent { silent + 1 } else { 0 };
        longest = longest.max(silent);
    }
    Some(Carried {
        mbps: sent.get("bits_per_second")?.as_f64()? / 1e6,
        retransmits: sent.get("retransmits")?.as_u64()?,
        silence_ms: longest * INTERVAL_MS,
    })
}

fn serve(namespace: &Namespace, logs: &Path) -> Result<Process> {
    let (iperf, log) = (Path::new("iperf3"), logs.join("iperf3-server.log"));
    let mut server = Process::spawn(namespace, &log, iperf, ["-s", "-1", "--forceflush"])?;
    server.wait_for_listen(PORT, START)?;
    Ok(server)
}

impl Load {
    fn rate(self) -> Option<String> {
        match self {
            Self::Tcp | Self::TcpStreams(_) => None,
            Self::Udp(mbit) | Self::TcpAt(mbit) => Some(format!("{mbit}M")),
        }
    }

    fn streams(self) -> Option<String> {
        match self {
            Self::TcpStreams(streams) => Some(streams.to_string()),
            Self::Tcp | Self::TcpAt(_) | Self::Udp(_) => None,
        }
    }
}

fn unexpected(got: &str) -> Error {
    Error::Output {
        what: "iperf3 -J".to_owned(),
        expected: "a report with `end`".to_owned(),
        got: got.chars().take(500).collect(),
    }
}

fn parse(report: &Value) -> Option<Throughput> {
    let end = report.get("end")?;
    // TCP reports each direction's sum; UDP only one, as the receiver saw it.
    let received = end.get("sum_received").or_else(|| end.get("sum"))?;
    let seconds = received.get("seconds")?.as_f64()?;
    let cpu = |side: &str| {
        let percent = end.get("cpu_utilization_percent").and_then(|cpu| cpu.get(side)?.as_f64());
        percent.unwrap_or(0.0) / 100.0 * seconds
    };
    let sent = end.get("sum_sent");
    Some(Throughput {
        mbps: received.get("bits_per_second")?.as_f64()? / 1e6,
        retransmits: sent.and_then(|sum| sum.get("retransmits")?.as_u64()).unwrap_or(0),
        lost_percent: lost_percent(end).unwrap_or(0.0),
        sender_cpu_s: cpu("host_total"),
        receiver_cpu_s: cpu("remote_total"),
    })
}

/// What did not arrive of a UDP run. By bytes, for iperf3 counts the lost packets of the warm-up too.
fn lost_percent(end: &Value) -> Option<f64> {
    let bytes = |side: &str| end.get(side)?.get("bytes")?.as_f64();
    end.get("sum")?;
    let (sent, received) = (bytes("sum_sent")?, bytes("sum_received")?);
    (sent > 0.0).then(|| (100.0 * (1.0 - received / sent)).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_tcp_report() {
        let report = json!({ "end": {
            "sum_sent": { "bits_per_second": 2e9, "retransmits": 7, "seconds": 4.0 },
            "sum_received": { "bits_per_second": 1e9, "seconds": 4.0 },
            "cpu_utilization_percent": { "host_total": 50.0, "remote_total": 25.0 } } });
        let throughput = parse(&report).unwrap();
        assert_eq!((throughput.mbps, throughput.retransmits), (1000.0, 7));
        assert_eq!((throughput.sender_cpu_s, throughput.receiver_cpu_s), (2.0, 1.0));
    }

    #[test]
    fn what_udp_lost_is_what_was_sent_and_did_not_arrive() {
        let report = json!({ "end": {
            "sum": { "bits_per_second": 1e8, "seconds": 1.0, "lost_percent": 183.0 },
            "sum_sent": { "bytes": 1000, "seconds": 1.0 },
            "sum_received": { "bits_per_second": 8e7, "bytes": 800, "seconds": 1.0 } } });
        let throughput = parse(&report).unwrap();
        assert!((throughput.lost_percent - 20.0).abs() < 1e-9);
        assert_eq!(throughput.mbps, 80.0);
    }

    #[test]
    fn the_longest_silence_of_a_stream() {
        let interval = |bytes: u64| json!({ "sum": { "bytes": bytes } });
        let sent = json!({ "bits_per_second": 5e6, "retransmits": 2 });
        let intervals = [0, 9, 0, 0, 0, 9, 0, 0].map(interval);
        let report = json!({ "error": "interrupt - the client has terminated",
            "intervals": intervals, "end": { "sum_sent": sent } });
        let expected = Carried { mbps: 5.0, retransmits: 2, silence_ms: 300 };
        assert_eq!(carried(&report), Some(expected));
    }

    #[test]
    fn the_bytes_of_the_fuller_connection() {
        let printed = "ESTAB 0 0 10.2.0.2:5201 10.1.0.2:4000\n\t cubic bytes_received:148 segs_in:9\n\
                       ESTAB 0 0 10.2.0.2:5201 10.1.0.2:4001\n\t cubic bytes_received:90210 segs_in:70\n";
        assert_eq!(bytes_received(printed), Some(90_210));
        assert_eq!(bytes_received(""), None);
    }

    #[test]
    fn a_report_without_an_end_is_refused() {
        assert_eq!(parse(&json!({ "error": "unable to connect" })), None);
    }
}
