//! `hypermesh_*` metrics over HTTP on loopback.
//!
//! Owns the counters; the gauges are read from the state when they are asked for.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hypermesh_api::ErrorCode;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::app::App;
use crate::caller::Caller;
use crate::refusals::is_of_caller;
use crate::refused::Refused;

/// Where the metrics are unless the command line says otherwise.
pub const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9294);

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    reason: &'static str,
}

/// What became of a query for a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DnsOutcome {
    outcome: &'static str,
}

/// The figures of the daemon.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Counter,
    refused: Family<Reason, Counter>,
    /// Certificates issued.
    pub issued: Counter,
    /// Times that this node's certificate was renewed.
    pub renewed: Counter,
    /// Times that this node's certificate could not be renewed.
    pub renewal_failed: Counter,
    /// Bundles that stoqd took.
    pub pushed: Counter,
    /// Proofs of holders that their logs only grew.
    pub log_proofs: Counter,
    /// Logs that something spoke against.
    pub log_doubts: Counter,
    /// Ledgers that contradict this host's, or that it was superseded by.
    pub ledger_doubts: Counter,
    /// Times that a restored sequencer's ledger took the place of this host's.
    pub ledger_replaced: Counter,
    /// When the state was last given out as a backup, Unix seconds; 0 before the first.
    pub backed_up_s: Gauge<i64, AtomicI64>,
    dns_queries: Family<DnsOutcome, Counter>,
    term_s: Gauge<u64, AtomicU64>,
    height: Gauge<u64, AtomicU64>,
    members: Gauge<u64, AtomicU64>,
    revocation_sequence: Gauge<u64, AtomicU64>,
    certificate_not_after: Gauge<i64, AtomicI64>,
}

impl Metrics {
    /// How often requests were refused for this reason.
    #[must_use]
    pub fn refusals(&self, code: ErrorCode) -> u64 {
        self.refused.get_or_create(&Reason { reason: code.label() }).get()
    }

    /// Counts a refusal.
    pub fn refuse(&self, code: ErrorCode) {
        self.refused.get_or_create(&Reason { reason: code.label() }).inc();
    }

    fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("hypermesh");
        let r = &mut registry;
        r.register("requests", "Requests served", self.requests.clone());
        r.register("refused", "Requests refused, by reason", self.refused.clone());
        r.register("issued", "Certificates issued", self.issued.clone());
        r.register("renewed", "Renewals of this node's certificate", self.renewed.clone());
        r.register("renewal_failed", "Renewals that failed", self.renewal_failed.clone());
        r.register("pushed", "Bundles that stoqd took", self.pushed.clone());
        let help = "Proofs that a certificate log only grew, given by its holder";
        r.register("log_proofs", help, self.log_proofs.clone());
        let help = "Certificate logs that showed different trees, or prove not that they only grew";
        r.register("log_doubts", help, self.log_doubts.clone());
        let help = "Ledgers offered that contradict this host's, or that supersede it";
        r.register("ledger_doubts", help, self.ledger_doubts.clone());
        let help = "Ledgers of a restored sequencer that took the place of this host's";
        r.register("ledger_replaced", help, self.ledger_replaced.clone());
        r.register(
            "term_seconds",
            "When the sequencer was last restored, Unix seconds; 0 if never",
            self.term_s.clone(),
        );
        let help =
            "When the last backup was made, Unix seconds; 0 before the first since the start";
        r.register("last_backup_seconds", help, self.backed_up_s.clone());
        r.register("dns_queries", "Queries for names, by outcome", self.dns_queries.clone());
        r.register("height", "Height of the ledger", self.height.clone());
        r.register("members", "Members of the mesh", self.members.clone());
        let sequence = self.revocation_sequence.clone();
        r.register("revocation_sequence", "Sequence of the set of revocations", sequence);
        let help = "End of this node's certificate, Unix seconds";
        r.register("certificate_not_after_seconds", help, self.certificate_not_after.clone());
        registry
    }
}

/// Counts requests, and refusals by their reason; audits those that nobody has yet. A layer of the router:
/// no refusal of a request passes by it.
pub async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<Caller>().cloned();
    let asked = format!("{} {}", request.method(), request.uri().path());
    let response = next.run(request).await;
    app.metrics().requests.inc();
    if let Some(refused) = response.extensions().get::<Refused>() {
        app.metrics().refuse(refused.0.code);
        let caller = caller.filter(|caller| is_of_caller(caller, refused.0.code));
        if let Some(caller) = caller.filter(|_| !refused.is_written()) {
            app.audit_refusal(&caller, &clipped(asked), &refused.0).await;
        }
    }
    response
}

/// Longest request that is written to the audit log, in bytes: that of every path of the API.
const ASKED_MAX: usize = 64;

/// A stranger chooses the path.
fn clipped(asked: String) -> String {
    let printable = asked.chars().filter(|c| c.is_ascii_graphic() || *c == ' ');
    printable.take(ASKED_MAX).collect()
}

/// The routes of the metrics listener.
pub fn router(app: App) -> Router {
    Router::new().route("/metrics", get(show)).with_state(app)
}

async fn show(State(app): State<App>) -> Response {
    let metrics = app.metrics();
    if let Ok(status) = app.core(|core| Ok(core.status())).await {
        metrics.term_s.set(status.term);
        metrics.height.set(status.height);
        metrics.members.set(status.members);
        metrics.revocation_sequence.set(status.revocation_sequence);
        let not_after = status.certificate.map_or(0, |certificate| certificate.not_after_s);
        metrics.certificate_not_after.set(i64::try_from(not_after).unwrap_or(i64::MAX));
    }
    for (outcome, count) in app.names().queries() {
        let counter = metrics.dns_queries.get_or_create(&DnsOutcome { outcome: outcome.name() });
        counter.inner().store(count, Ordering::Relaxed);
    }
    let mut body = String::new();
    if text::encode(&mut body, &metrics.registry()).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(path: &str) -> String {
        std::fs::read_to_string(format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    fn words(text: &str) -> impl Iterator<Item = &str> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.filter(|word| word.starts_with("hypermesh_"))
    }

    #[test]
    fn every_metric_is_documented_and_rules_name_those_that_exist() {
        let metrics = Metrics::default();
        // A family without a member is not on the page.
        metrics.refuse(ErrorCode::Storage);
        drop(metrics.dns_queries.get_or_create(&DnsOutcome { outcome: "zone" }));
        let mut page = String::new();
        text::encode(&mut page, &metrics.registry()).unwrap();
        let kinds = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let names: Vec<String> = kinds
            .map(
                |(name, kind)| {
                    if kind == "counter" { format!("{name}_total") } else { name.into() }
                },
            )
            .collect();
        assert!(names.contains(&"hypermesh_refused_total".to_owned()), "{names:?}");
        let guide = text_of("docs/monitoring.md");
        for name in &names {
            let rows = guide.lines().filter(|line| line.starts_with(&format!("| `{name}` | ")));
            assert_eq!(rows.count(), 1, "a row for {name}");
        }
        for word in words(&text_of("packaging/prometheus/stoq.rules.yml")) {
            assert!(names.iter().any(|name| name == word), "{word}");
        }
    }
}
