//! The figures that run along while something happens, one line a second.
//!
//! They are what an operator would see: `stoqctl status` of both nodes, and the CPU time of both
//! daemons. The tunnel's demo wraps each of its jobs in [`watch`].

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde_json::Value;
use stoq_perf::node::Node;
use stoq_perf::process::CpuTime;

/// How often a line is printed.
const EVERY: Duration = Duration::from_secs(1);

/// What both nodes said at one time.
struct Reading {
    at: Instant,
    /// Bytes that came out of the link, at either end.
    inner_bytes: u64,
    cpu: [CpuTime; 2],
    rtt_us: u64,
}

/// A node whose figures are shown.
pub trait Observed: Sync {
    /// What `stoqctl status --json` says.
    ///
    /// # Errors
    /// When the daemon does not answer.
    fn status(&self) -> Result<Value>;

    /// What its daemon has used so far.
    fn cpu_time(&self) -> CpuTime;
}

impl Observed for Node {
    fn status(&self) -> Result<Value> {
        Ok(Self::status(self)?)
    }

    fn cpu_time(&self) -> CpuTime {
        self.process.cpu_time()
    }
}

/// Does `job` and prints a line each second until it is done, with `progress` in front.
///
/// # Errors
/// Those of `job`. A node that does not answer only leaves its figures out.
pub fn watch<T: Send>(
    nodes: [&dyn Observed; 2],
    progress: impl Fn() -> String,
    job: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    thread::scope(|scope| {
        let (tell, told) = mpsc::sync_channel::<()>(0);
        let worker = scope.spawn(move || {
            // Held until the job ends, even by a panic: its end is what `told` waits for.
            let _tell = tell;
            job()
        });
        let mut last = read(nodes).ok();
        while told.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            let now = read(nodes);
            let figures = match (&last, &now) {
                (Some(last), Ok(now)) => figures(last, now),
                (_, Err(error)) => format!("no figures: {error:#}"),
                (None, Ok(_)) => String::new(),
            };
            println!("    {:<22}{figures}", progress());
            last = now.ok();
        }
        worker.join().map_err(|_| anyhow!("the job panicked"))?
    })
}

fn read(nodes: [&dyn Observed; 2]) -> Result<Reading> {
    let status = [nodes[0].status()?, nodes[1].status()?];
    let link = |status: &Value| status["links"].get(0).cloned().context("a node shows no link");
    let links = [link(&status[0])?, link(&status[1])?];
    Ok(Reading {
        at: Instant::now(),
        inner_bytes: links.iter().filter_map(|link| link["rx_bytes"].as_u64()).sum(),
        cpu: nodes.map(|node| node.cpu_time()),
        rtt_us: links[0]["rtt_us"].as_u64().unwrap_or(0),
    })
}

fn figures(last: &Reading, now: &Reading) -> String {
    let seconds = now.at.duration_since(last.at).as_secs_f64();
    let gbps = gbps(now.inner_bytes.saturating_sub(last.inner_bytes), seconds);
    let cpu = |node: usize| 100.0 * now.cpu[node].since(last.cpu[node]).total_s() / seconds;
    format!(
        "link {gbps:5.2} Gbit/s   rtt {:.2} ms   cpu {:3.0} % + {:3.0} %",
        Duration::from_micros(now.rtt_us).as_secs_f64() * 1000.0,
        cpu(0),
        cpu(1)
    )
}

/// Bytes in some time as Gbit/s.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
pub fn gbps(bytes: u64, seconds: f64) -> f64 {
    bytes as f64 * 8.0 / 1e9 / seconds.max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_time_between_two_readings() {
        let reading = |at, inner_bytes, user_s| Reading {
            at,
            inner_bytes,
            cpu: [CpuTime { user_s, system_s: 0.0 }; 2],
            rtt_us: 310,
        };
        let begin = Instant::now();
        let last = reading(begin, 1000, 1.0);
        let now = reading(begin + Duration::from_secs(2), 1000 + 500_000_000, 2.0);
        let line = figures(&last, &now);
        assert!(line.contains("2.00 Gbit/s") && line.contains("0.31 ms"), "{line}");
        assert!(line.contains("50 % +  50 %"), "{line}");
    }
}
