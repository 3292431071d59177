//! Metrics, health and readiness over HTTP, for Prometheus and for service managers.
//!
//! Owns the TCP listener and the text; the figures come from the daemon, which implements
//! [`Observed`] and runs [`serve`] on its control thread. Names begin with `stoq_`; reasons of drops
//! and their help are those of [`DropReason`].

use std::fmt::{self, Write as _};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use stoq_telemetry::DropReason;
use stoq_xdp::Verdict;

use crate::worker::{Stage, StageFigures};

/// How long a worker may take for a turn of its loop. It makes at least two a second.
const STALL: Duration = Duration::from_secs(3);

/// The figures of the daemon at one moment. Counters are since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// One for each worker, by index.
    pub workers: Vec<WorkerFigures>,
    /// One for each peer.
    pub links: Vec<LinkFigures>,
    /// Dropped packets of all workers.
    pub drops: Vec<(DropReason, u64)>,
    /// Packets that the XDP program saw, by the label of its verdict; empty while there is none.
    pub xdp: Vec<(String, u64)>,
}

impl Figures {
    /// What became of packets in the XDP program: those that it dropped, or those that it passed on.
    fn of_xdp(&self, dropped: bool) -> impl Iterator<Item = (Verdict, u64)> + '_ {
        let count = |verdict: Verdict| {
            self.xdp.iter().find_map(|(label, n)| (label == verdict.label()).then_some(*n))
        };
        let wanted = Verdict::ALL.iter().filter(move |verdict| verdict.is_drop() == dropped);
        wanted.filter_map(move |verdict| Some((*verdict, count(*verdict)?)))
    }
}

/// The reason in `stoq_drops_total` of what the XDP program dropped.
#[must_use]
pub fn xdp_reason(verdict: Verdict) -> String {
    format!("xdp_{}", verdict.label())
}

/// Figures of one worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerFigures {
    /// Turns of its loop: the heartbeat.
    pub turns: u64,
    /// UDP packets received.
    pub received: u64,
    /// UDP packets sent.
    pub sent: u64,
    /// UDP packets that belonged to another worker.
    pub handed_over: u64,
    /// QUIC connections now.
    pub connections: u64,
    /// Handshakes under way now.
    pub handshakes: u64,
    /// Retry packets sent.
    pub retries: u64,
    /// Streams now.
    pub streams: u64,
    /// Where its time goes, by stage.
    pub stages: Vec<StageFigures>,
}

/// Figures of one link, all its connections together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkFigures {
    /// The peer's name.
    pub peer: String,
    /// Whether it carries packets.
    pub up: bool,
    /// Connections now.
    pub connections: u64,
    /// Inner bytes sent.
    pub tx_bytes: u64,
    /// Inner bytes received.
    pub rx_bytes: u64,
    /// Inner packets sent.
    pub tx_packets: u64,
    /// Inner packets received.
    pub rx_packets: u64,
    /// What became of lost packets.
    pub recovery: stoq::RecoveryCounts,
    /// Smoothed round-trip time in microseconds.
    pub rtt_us: u64,
    /// Congestion window in bytes.
    pub cwnd_bytes: u64,
    /// Packets that wait for the link.
    pub queue_packets: u64,
    /// For how many seconds the peer's certificate has expired.
    pub expired_s: u64,
    /// Number of its tier.
    pub tier: u64,
}

/// What the daemon shows of itself. The calls may block: they run beside the control thread.
pub trait Observed: Send + Sync + 'static {
    /// The figures now.
    fn figures(&self) -> Figures;

    /// The heartbeats of the workers alone: read without asking the workers, which may hang.
    fn turns(&self) -> Vec<u64>;

    /// Whether all workers run and the tunnel is configured.
    ///
    /// # Errors
    /// What is still missing.
    fn ready(&self) -> Result<(), String>;
}

/// Listens for HTTP. To be called before privilege is dropped, because the port may be a low one.
///
/// # Errors
/// When the address cannot be bound; the error names it.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let named = |e: io::Error| {
        let message =
            format!("expected to listen on {address} for metrics, got: {e}; set [metrics] listen");
        io::Error::new(e.kind(), message)
    };
    let listener = std::net::TcpListener::bind(address).map_err(named)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves `/metrics`, `/health` and `/ready` until the task is dropped.
///
/// # Errors
/// When the listener cannot be watched.
pub async fn serve<O: Observed>(
    listener: std::net::TcpListener,
    observed: Arc<O>,
) -> io::Result<()> {
    let shared = Arc::new(Shared { observed, heartbeats: Mutex::default() });
    let router = Router::new()
        .route("/metrics", get(metrics::<O>))
        .route("/health", get(health::<O>))
        .route("/ready", get(ready::<O>))
        .with_state(shared);
    axum::serve(tokio::net::TcpListener::from_std(listener)?, router).await
}

struct Shared<O> {
    observed: Arc<O>,
    heartbeats: Mutex<Heartbeats>,
}

async fn metrics<O: Observed>(State(shared): State<Arc<Shared<O>>>) -> Response {
    let text = tokio::task::spawn_blocking(move || page(shared.observed.figures())).await;
    match text.map_err(io::Error::other).and_then(|text| text.map_err(io::Error::other)) {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn health<O: Observed>(State(shared): State<Arc<Shared<O>>>) -> Response {
    let turns = shared.observed.turns();
    let mut heartbeats = shared.heartbeats.lock().unwrap_or_else(PoisonError::into_inner);
    verdict(heartbeats.check(&turns, Instant::now()))
}

async fn ready<O: Observed>(State(shared): State<Arc<Shared<O>>>) -> Response {
    verdict(shared.observed.ready())
}

fn verdict(result: Result<(), String>) -> Response {
    match result {
        Ok(()) => (StatusCode::OK, "ok\n").into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

/// What was last seen of each worker's heartbeat, and since when.
#[derive(Debug, Default)]
struct Heartbeats(Vec<(u64, Instant)>);

impl Heartbeats {
    /// Names the workers whose heartbeat has not advanced for [`STALL`].
    fn check(&mut self, turns: &[u64], now: Instant) -> Result<(), String> {
        self.0.resize(turns.len(), (u64::MAX, now));
        let mut stalled = Vec::new();
        for (worker, (seen, turns)) in self.0.iter_mut().zip(turns).enumerate() {
            if seen.0 != *turns {
                *seen = (*turns, now);
            } else if now.saturating_duration_since(seen.1) > STALL {
                stalled.push(worker);
            }
        }
        if stalled.is_empty() {
            return Ok(());
        }
        Err(format!("expected a turn of each worker within {STALL:?}, got none of {stalled:?}"))
    }
}

/// The page of metrics.
fn page(figures: Figures) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page(figures)));
    let mut page = String::new();
    text::encode(&mut page, &registry)?;
    Ok(page)
}

#[derive(Debug)]
struct Page(Figures);

type Labels = Vec<(&'static str, String)>;

/// A family of metrics: name without `stoq_`, help, whether it only rises, and where its value is.
type Family<T> = (&'static str, &'static str, bool, fn(&T) -> u64);

/// What is told of each link.
const OF_LINKS: &[Family<LinkFigures>] = &[
    ("link_up", "Whether the link carries packets", false, |l| u64::from(l.up)),
    ("link_connections", "QUIC connections of the link", false, |l| l.connections),
    ("link_tx_bytes", "Inner bytes sent", true, |l| l.tx_bytes),
    ("link_rx_bytes", "Inner bytes received", true, |l| l.rx_bytes),
    ("link_tx_packets", "Inner packets sent", true, |l| l.tx_packets),
    ("link_rx_packets", "Inner packets received", true, |l| l.rx_packets),
    ("link_resent_packets", "Packets sent again for the peer", true, |l| l.recovery.resent),
    ("link_recovered_packets", "Lost packets that came again", true, |l| l.recovery.recovered),
    ("link_given_up_packets", "Lost packets that did not", true, |l| l.recovery.given_up),
    ("link_rtt_microseconds", "Smoothed round-trip time", false, |l| l.rtt_us),
    ("link_cwnd_bytes", "Congestion window", false, |l| l.cwnd_bytes),
    ("link_queue_packets", "Packets that wait for the link", false, |l| l.queue_packets),
    ("link_expired_seconds", "Age of the peer's expired certificate", false, |l| l.expired_s),
    ("link_tier", "0 floor or not measured, 1 100M, 2 1G, 3 2.5G, 4 10G", false, |l| l.tier),
];

/// What is told of each stage of a worker.
const OF_STAGES: &[Family<StageFigures>] = &[
    ("stage_packets", "Packets that went through the stage", true, |s| s.packets),
    ("stage_p50_nanoseconds", "Median time of a packet in the stage", false, |s| s.p50_ns),
    ("stage_p99_nanoseconds", "99 of 100 packets take no longer", false, |s| s.p99_ns),
];

/// What is told of each worker.
const OF_WORKERS: &[Family<WorkerFigures>] = &[
    ("worker_turns", "Turns of the worker's loop", true, |w| w.turns),
    ("worker_connections", "QUIC connections of the worker", false, |w| w.connections),
    ("worker_handshakes", "Handshakes under way", false, |w| w.handshakes),
    ("worker_retries", "Retry packets sent", true, |w| w.retries),
    ("worker_streams", "Streams of services", false, |w| w.streams),
    ("worker_rx_datagrams", "UDP packets received", true, |w| w.received),
    ("worker_tx_datagrams", "UDP packets sent", true, |w| w.sent),
    ("worker_handed_over", "UDP packets that belonged to another worker", true, |w| w.handed_over),
];

impl Page {
    /// Dropped packets; every reason is there from the start, so that rates are right.
    fn of_drops(&self) -> Vec<(Labels, u64)> {
        let dropped = |reason: DropReason| {
            let same = |(r, count): &(DropReason, u64)| (*r == reason).then_some(*count);
            self.0.drops.iter().filter_map(same).sum()
        };
        let labelled =
            |reason: &DropReason| (vec![("reason", reason.label().to_owned())], dropped(*reason));
        let ours = DropReason::ALL.iter().map(labelled);
        let in_xdp = |(verdict, n)| (vec![("reason", xdp_reason(verdict))], n);
        ours.chain(self.0.of_xdp(true).map(in_xdp)).collect()
    }
}

impl Page {
    fn of_stages(&self, value: fn(&StageFigures) -> u64) -> Vec<(Labels, u64)> {
        let mut values = Vec::new();
        for (index, worker) in self.0.workers.iter().enumerate() {
            for (stage, figures) in Stage::ALL.iter().zip(&worker.stages) {
                let worker = ("worker", index.to_string());
                values.push((vec![worker, ("stage", stage.label().to_owned())], value(figures)));
            }
        }
        values
    }
}

impl Collector for Page {
    fn encode(&self, mut to: DescriptorEncoder) -> fmt::Result {
        family(&mut to, "drops", &drops_help(), true, self.of_drops())?;
        let passed =
            |(verdict, n): (Verdict, u64)| (vec![("verdict", verdict.label().to_owned())], n);
        family(&mut to, "xdp_packets", XDP_HELP, true, self.0.of_xdp(false).map(passed))?;
        for (name, help, rises, value) in OF_LINKS {
            let labelled = |link: &LinkFigures| (vec![("peer", link.peer.clone())], value(link));
            family(&mut to, name, help, *rises, self.0.links.iter().map(labelled))?;
        }
        for (name, help, rises, value) in OF_WORKERS {
            let labelled = |(index, worker): (usize, &WorkerFigures)| {
                (vec![("worker", index.to_string())], value(worker))
            };
            family(&mut to, name, help, *rises, self.0.workers.iter().enumerate().map(labelled))?;
        }
        for (name, help, rises, value) in OF_STAGES {
            family(&mut to, name, help, *rises, self.of_stages(*value))?;
        }
        Ok(())
    }
}

/// The help of what the XDP program did not drop.
const XDP_HELP: &str = "Packets of STOQ that the XDP program passed on, by the verdicts below";

/// The help of the drops: Prometheus has one text for a family, so it tells of every reason.
fn drops_help() -> String {
    let of_one = |reason: &DropReason| format!(" {}: {}", reason.label(), reason.help());
    let of_all: String = DropReason::ALL.iter().map(of_one).collect();
    format!("Dropped packets by reason.{of_all}")
}

fn family(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rises: bool,
    values: impl IntoIterator<Item = (Labels, u64)>,
) -> fmt::Result {
    let name = format!("stoq_{name}");
    let kind = if rises { MetricType::Counter } else { MetricType::Gauge };
    // The encoder puts a full stop behind each help by itself.
    let mut family = to.encode_descriptor(&name, help.trim_end_matches('.'), None, kind)?;
    for (labels, value) in values {
        let entry = family.encode_family(&labels)?;
        if rises {
            ConstCounter::new(value).encode(entry)?;
        } else {
            ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(entry)?;
        }
    }
    Ok(())
}

/// The text of `docs/metrics.md`.
#[must_use]
pub fn reference() -> String {
    let mut text = "# Metrics

<!-- Made from dataplane/stoqd/src/metrics.rs and dataplane/telemetry/src/lib.rs; a test compares. -->

stoqd serves them on `/metrics` of `[metrics] listen` in the OpenMetrics text format. Counters are
since its start. `/health` answers 200 while every worker turns its loop, `/ready` once all workers
run and the tunnel is configured; otherwise both answer 503 with the reason.

| metric | type | label | |
|---|---|---|---|
| `stoq_drops_total` | counter | `reason` | Dropped packets, by the reasons below |
"
    .to_owned();
    let _ = writeln!(text, "| `stoq_xdp_packets_total` | counter | `verdict` | {XDP_HELP} |");
    let row = |name: &str, help: &str, rises: bool, label: &str| {
        let (end, kind) = if rises { ("_total", "counter") } else { ("", "gauge") };
        format!("| `stoq_{name}{end}` | {kind} | `{label}` | {help} |\n")
    };
    text.extend(OF_LINKS.iter().map(|(name, help, rises, _)| row(name, help, *rises, "peer")));
    text.extend(OF_WORKERS.iter().map(|(name, help, rises, _)| row(name, help, *rises, "worker")));
    let both = "worker`, `stage";
    text.extend(OF_STAGES.iter().map(|(name, help, rises, _)| row(name, help, *rises, both)));
    text.push_str("\nThe stages of a worker's turn are `open` (from the port, and opened), `deliver` (to the \
                   tunnel device),\n`forward` (from it, cut and queued), `seal` (with what an inline sender sends meanwhile) and `flush` (to the kernel).\n");
    text.push_str("\n## Reasons of drops\n\n| reason | |\n|---|---|\n");
    let reason = |r: &DropReason| format!("| `{}` | {} |\n", r.label(), r.help());
    text.extend(DropReason::ALL.iter().map(reason));
    let (dropped, passed): (Vec<Verdict>, _) = Verdict::ALL.iter().partition(|v| v.is_drop());
    let row = |v: &Verdict| format!("| `{}` | {} |\n", xdp_reason(*v), v.help());
    text.extend(dropped.iter().map(row));
    text.push_str("\n## Verdicts of the XDP program\n\n| verdict | |\n|---|---|\n");
    let row = |v: &Verdict| format!("| `{}` | {} |\n", v.label(), v.help());
    text.extend(passed.iter().map(row));
    text
}

#[cfg(test)]
mod tests;
