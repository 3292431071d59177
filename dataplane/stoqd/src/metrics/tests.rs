//! Figures on the page, their reference, and what health and readiness say.

use super::*;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};

struct Daemon(AtomicU64);

impl Observed for Daemon {
    fn figures(&self) -> Figures {
        let (peer, up) = ("edge-b".into(), true);
        let link = LinkFigures { peer, up, tx_bytes: 7, rtt_us: 310, ..LinkFigures::default() };
        let stages = vec![StageFigures { packets: 8, p50_ns: 510, p99_ns: 900 }];
        let worker = WorkerFigures { turns: 3, connections: 2, stages, ..Default::default() };
        Figures {
            workers: vec![worker],
            links: vec![link],
            drops: vec![(DropReason::NoRoute, 4), (DropReason::NoRoute, 1)],
            xdp: vec![("redirected".into(), 9), ("forged".into(), 2)],
        }
    }

    fn turns(&self) -> Vec<u64> {
        vec![self.0.fetch_add(1, Ordering::Relaxed)]
    }

    fn ready(&self) -> Result<(), String> {
        Err("expected a configured tunnel, got none yet".into())
    }
}

fn get_page(address: SocketAddr, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_three_pages_are_served() {
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::select! {
                served = serve(listener, Arc::new(Daemon(AtomicU64::new(0)))) => served.unwrap(),
                _ = stopped => {}
            }
        });
    });
    let metrics = get_page(address, "/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    for line in [
        "stoq_drops_total{reason=\"no_route\"} 5",
        "stoq_drops_total{reason=\"too_big\"} 0",
        "stoq_drops_total{reason=\"xdp_forged\"} 2",
        "stoq_xdp_packets_total{verdict=\"redirected\"} 9",
        "stoq_link_up{peer=\"edge-b\"} 1",
        "stoq_link_tx_bytes_total{peer=\"edge-b\"} 7",
        "stoq_link_rtt_microseconds{peer=\"edge-b\"} 310",
        "stoq_worker_connections{worker=\"0\"} 2",
        "stoq_stage_p50_nanoseconds{worker=\"0\",stage=\"open\"} 510",
        "# TYPE stoq_drops counter",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line}: {metrics}");
    }
    assert!(metrics.contains(DropReason::NoRoute.help()));
    assert!(get_page(address, "/health").starts_with("HTTP/1.1 200"));
    let ready = get_page(address, "/ready");
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("tunnel"), "{ready}");
    assert!(get_page(address, "/other").starts_with("HTTP/1.1 404"));
    drop(stop);
    server.join().unwrap();
}

#[test]
fn the_reference_document_is_made_from_the_tables() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    if std::env::var_os("STOQ_WRITE_DOCS").is_some() {
        std::fs::write(path, reference()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap();
    assert!(written == reference(), "run with STOQ_WRITE_DOCS=1 and commit the document");
}

fn text_of(path: &str) -> String {
    std::fs::read_to_string(format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The words that begin with `prefix`, as names of metrics are written.
fn words<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(move |word| word.starts_with(prefix))
}

#[test]
fn the_operator_is_told_what_to_do_about_every_reason_and_metric() {
    let guide = text_of("docs/monitoring.md");
    let drops = Verdict::ALL.iter().filter(|verdict| verdict.is_drop());
    let reasons = DropReason::ALL.iter().map(|reason| reason.label().to_owned());
    for reason in reasons.chain(drops.map(|verdict| xdp_reason(*verdict))) {
        let rows = guide.lines().filter(|line| line.starts_with(&format!("| `{reason}` | ")));
        assert_eq!(rows.count(), 1, "a row for {reason}");
    }
    let reference = reference();
    for metric in words(&reference, "stoq_") {
        assert!(guide.contains(&format!("`{metric}`")), "{metric}");
    }
}

#[test]
fn alert_rules_name_metrics_and_reasons_that_exist() {
    let rules = text_of("packaging/prometheus/stoq.rules.yml");
    let reference = reference();
    assert!(words(&rules, "stoq_").count() > 10, "rules were found");
    for metric in words(&rules, "stoq_") {
        assert!(reference.contains(&format!("| `{metric}` | ")), "{metric}");
    }
    let listed = rules.split("reason=~\"").skip(1).chain(rules.split("reason=\"").skip(1));
    let listed =
        listed.filter_map(|rest| rest.split_once('"')).flat_map(|(list, _)| list.split('|'));
    // That of hypermeshd's refusals.
    for reason in listed.filter(|reason| *reason != "storage") {
        assert!(reference.contains(&format!("| `{reason}` | ")), "{reason}");
    }
}

#[test]
fn runbooks_that_alerts_name_are_there() {
    let rules = text_of("packaging/prometheus/stoq.rules.yml");
    for place in rules.split("runbook: \"").skip(1).filter_map(|rest| rest.split_once('"')) {
        let (file, anchor) = place.0.split_once('#').unwrap();
        let text = text_of(file);
        let heads = text.lines().filter_map(|line| line.strip_prefix("## "));
        let heads: Vec<_> = heads.map(|head| head.to_lowercase().replace(' ', "-")).collect();
        assert!(heads.iter().any(|head| head == anchor), "{anchor} in {heads:?}");
    }
}

#[test]
fn a_worker_that_stands_still_is_named() {
    let mut heartbeats = Heartbeats::default();
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    assert!(heartbeats.check(&[1, 1], at(0)).is_ok());
    assert!(heartbeats.check(&[1, 2], at(2)).is_ok(), "a short pause is no stall");
    let verdict = heartbeats.check(&[1, 3], at(4));
    assert!(verdict.unwrap_err().ends_with("got none of [0]"));
    assert!(heartbeats.check(&[2, 4], at(100)).is_ok(), "seldom asked is no stall");
}

#[test]
fn an_address_in_use_is_named() {
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    assert!(bind(address).unwrap_err().to_string().contains(&address.to_string()));
}
