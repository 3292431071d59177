//! `revoke`: how long a revoked host still has links, in a mesh whose hosts are this one's namespaces.
//!
//! In each round one more host joins, is linked to every other one, and is revoked on the first. The clock
//! runs from the start of `stoqctl mesh revoke` to the line of the other host's stoqd that its link is down or
//! its connection refused, so the command, the signing and the way through hypermeshd are in the figure.

use super::{Host, results};
use crate::bed::Bed;
use crate::mesh::{self, MeshHost};
use crate::workspace::{self, MeshBinaries};
use crate::{Error, Result, wait};
use hdrhistogram::Histogram;
use serde_json::json;
use std::thread;
use std::time::{Duration, Instant};

/// Longest time that is waited for a cut-off: five times what is promised.
const LIMIT: Duration = Duration::from_secs(10);

/// A round takes no less: hypermeshd takes 60 enrolments from one address in a minute.
const PACE: Duration = Duration::from_millis(1100);

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Hosts that stay, 2 to 20.
    pub hosts: u8,
    /// Hosts that join and are revoked, one after the other.
    pub rounds: u32,
}

/// Runs it, prints the table, and writes `target/bench/revoke.json`.
///
/// # Errors
/// The step that failed; a host that is not cut off within ten seconds is one.
pub fn run(plan: &Plan) -> Result<()> {
    let host = Host::read();
    let binaries = MeshBinaries::find()?;
    let bed = Bed::new()?;
    let hosts = mesh::create(&bed, &binaries, plan.hosts)?;
    println!("{} hosts are linked, each to each", plan.hosts);
    let mut guest = MeshHost::new(&bed, &binaries, plan.hosts)?;
    let mut each = new_histogram()?;
    let mut last = new_histogram()?;
    for round in 1..=plan.rounds {
        let next = Instant::now() + PACE;
        let took = revoke_one(&hosts, &mut guest, &format!("guest-{round}"))?;
        let mut slowest = 0;
        for time in took {
            let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            each.saturating_record(micros);
            slowest = slowest.max(micros);
        }
        last.saturating_record(slowest);
        println!("{round:4}: the last of {} after {:.0} ms", hosts.len(), slowest as f64 / 1e3);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    report(plan, &host, &each, &last)
}

fn new_histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, 60_000_000, 3).map_err(|error| Error::Output {
        what: "a histogram".to_owned(),
        expected: "three digits".to_owned(),
        got: error.to_string(),
    })
}

/// Has a host join under this name and revokes it; the times until each other one has cut it off.
fn revoke_one(hosts: &[MeshHost], guest: &mut MeshHost, name: &str) -> Result<Vec<Duration>> {
    guest.forget()?;
    guest.start_hypermeshd()?;
    guest.join(&hosts[0].token(name)?)?;
    let peers: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
    guest.wait_for_links(&peers, mesh::LINKS_UP)?;
    // Each is followed by more than a digit: guest-1 is not guest-10.
    let ends = [
        format!("link down peer=\"{name}\""),
        format!("node {name} was revoked"),
        format!("node {name} is revoked"),
    ];
    let begin = Instant::now();
    hosts[0].ctl(&["mesh", "revoke", name])?;
    let mut took: Vec<Option<Duration>> = vec![None; hosts.len()];
    wait::until(&format!("the end of {name} everywhere"), LIMIT, || {
        for (host, took) in hosts.iter().zip(&mut took).filter(|(_, took)| took.is_none()) {
            let log = host.stoqd_log();
            *took = ends.iter().any(|end| log.contains(end)).then(|| begin.elapsed());
        }
        let linked = hosts.iter().zip(&took).find(|(_, took)| took.is_none());
        let Some((host, _)) = linked else { return Ok(()) };
        let log = host.stoqd_log();
        let of_it: Vec<&str> = log.lines().filter(|line| line.contains(name)).collect();
        Err(format!("{} is still linked to it: {}", host.name, of_it.join("\n")))
    })?;
    Ok(took.into_iter().flatten().collect())
}

fn report(plan: &Plan, host: &Host, each: &Histogram<u64>, last: &Histogram<u64>) -> Result<()> {
    let ms = |histogram: &Histogram<u64>, quantile: f64| {
        histogram.value_at_quantile(quantile) as f64 / 1e3
    };
    let figures = |histogram: &Histogram<u64>| {
        json!({ "samples": histogram.len(), "p50_ms": ms(histogram, 0.5),
                "p99_ms": ms(histogram, 0.99), "max_ms": histogram.max() as f64 / 1e3 })
    };
    println!("\n| cut-off after the command began | samples | p50 (ms) | p99 (ms) | max (ms) |");
    println!("|---|---|---|---|---|");
    for (what, histogram) in [("on each host", each), ("on the last host", last)] {
        let (p50, p99, max) =
            (ms(histogram, 0.5), ms(histogram, 0.99), histogram.max() as f64 / 1e3);
        println!("| {what} | {} | {p50:.0} | {p99:.0} | {max:.0} |", histogram.len());
    }
    let value = json!({ "host": host, "hosts": plan.hosts, "rounds": plan.rounds,
                        "each": figures(each), "last": figures(last) });
    let path = results::write(&workspace::result("revoke.json"), &format!("{value:#}\n"))?;
    println!("\n{}", path.display());
    Ok(())
}
