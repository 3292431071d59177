//! `tiers`: what each subject carries on each class of wire, how long a ping takes meanwhile, and what
//! both cost in processor time. Rounds are interleaved, so that what the host does besides hits all
//! alike; a subject is started anew for each wire, so that none lives on what it learned from another.

mod ceiling;
mod cell;
pub mod plan;
mod table;
mod verdict;

pub use ceiling::Ceiling;
pub use cell::{Load, Path};
pub use plan::Plan;
pub use table::{markdown, plots};

use super::results::{self, Results};
use super::stream::{self, Sample};
use super::{Subject, relay};
use crate::bed::{Bed, Impairment, Relay, Shape};
use crate::measure::ping;
use crate::peers::Running;
use crate::{Error, Result};
use plan::{Entrant, Group, IDLE_S};
use std::time::Duration;

/// Of what the relay carries, how much a wire may carry for its figures to be about the subject.
const RELAY_SHARE: f64 = 0.8;

/// Runs the plan, prints the tables, writes JSON, tables and plots, and says how many runs failed.
///
/// # Errors
/// When the bed cannot be made or the result not be written. A subject that fails is reported and
/// left out.
pub fn run(plan: &Plan) -> Result<usize> {
    let mut results = Results::new("tiers", plan.seconds, plan.rounds);
    println!("about {} minutes, installing aside", plan.estimate().as_secs().div_ceil(60));
    let mut plan = plan.clone();
    leave_out_missing(&mut plan, &mut results);
    let bed = if plan.direct { Bed::direct()? } else { Bed::new()? };
    leave_out_unknown(&bed, &mut plan, &mut results)?;
    leave_out_above_relay(&bed, &mut plan, &mut results)?;
    // The load's own: what it does with loss decides what a lossy wire carries.
    let control = bed.a.namespace.run("cat", ["/proc/sys/net/ipv4/tcp_congestion_control"])?;
    results.notes.push(format!("congestion control of the TCP streams: {}", control.trim()));
    let settings = plan.settings.iter().map(|(key, value)| format!("set: {key} = {value}"));
    results.notes.extend(settings);
    for round in 1..=plan.rounds {
        for group in &plan.groups {
            run_group(&bed, &plan, (round, group), &mut results)?;
        }
    }
    let text = markdown(&results);
    print!("\n{text}");
    let json = results.write(&plan.output)?;
    println!("written to {}", json.display());
    let markdown = results::write(&plan.output.with_extension("md"), &text)?;
    println!("written to {}", markdown.display());
    for (name, svg) in plots(&results) {
        let stem = plan.output.with_extension("");
        let path = stem.with_file_name(format!(
            "{}-{name}.svg",
            stem.file_name().unwrap_or_default().to_string_lossy()
        ));
        println!("written to {}", results::write(&path, &svg)?.display());
    }
    Ok(results.failures())
}

/// Installs the peers; one that cannot be had is left out, and the results say why.
fn leave_out_missing(plan: &mut Plan, results: &mut Results) {
    for subject in plan.subjects() {
        let Subject::Peer(peer) = subject else { continue };
        match peer.install() {
            Ok(()) => results.notes.push(format!("{} {}", peer.name(), peer.version())),
            Err(error) => leave_out(plan, results, |entrant| entrant.subject == subject, &error),
        }
    }
}

/// A `stoqd` that does not know a variant's key cannot be measured with it.
fn leave_out_unknown(bed: &Bed, plan: &mut Plan, results: &mut Results) -> Result<()> {
    let varied: Vec<Entrant> =
        plan.groups.iter().flat_map(|group| group.entrants.clone()).collect();
    let mut checked: Vec<Entrant> = Vec::new();
    for entrant in varied {
        let Some(variant) = entrant.variant else { continue };
        if checked.contains(&entrant) {
            continue;
        }
        checked.push(entrant);
        let settings = [(variant.key.to_owned(), variant.value.to_owned())];
        match entrant.subject.check(bed, &settings) {
            Err(error @ Error::Command { .. }) => {
                leave_out(plan, results, |other| other == entrant, &error);
            }
            checked => checked?,
        }
    }
    Ok(())
}

fn leave_out(
    plan: &mut Plan,
    results: &mut Results,
    is_it: impl Fn(Entrant) -> bool,
    error: &Error,
) {
    let all = plan.groups.iter().flat_map(|group| &group.entrants);
    let name = all.copied().find(|&entrant| is_it(entrant)).map(Entrant::name).unwrap_or_default();
    let said = error.to_string().replace('\n', " ");
    eprintln!("SKIPPED {name}: {said}");
    results.notes.push(format!("{name} was left out: {said}"));
    for group in &mut plan.groups {
        group.entrants.retain(|&entrant| !is_it(entrant));
    }
}

/// Measures the relay if it is needed, and leaves out wires that are faster than it.
fn leave_out_above_relay(bed: &Bed, plan: &mut Plan, results: &mut Results) -> Result<()> {
    if plan.groups.iter().all(|group| group.path.rtt_ms == 0) {
        return Ok(());
    }
    let ceiling_mbps = relay::ceiling_mbps(bed)?;
    let note = format!("the relay carries {ceiling_mbps:.0} Mbit/s of TCP without a tunnel");
    println!("{note}");
    results.notes.push(note);
    let is_below = |shape| match shape {
        Shape::Mbit(mbit) => f64::from(mbit) <= RELAY_SHARE * ceiling_mbps,
        Shape::Unshaped => false,
    };
    // Where loss is judged, streams stay far below the rate.
    let is_judged = |group: &Group| group.shape == plan::LOSS_SHAPE && group.path.loss_percent > 0;
    let is_kept =
        |group: &Group| group.path.rtt_ms == 0 || is_judged(group) || is_below(group.shape);
    for group in plan.groups.iter().filter(|group| !is_kept(group)) {
        let (shape, path) = (group.shape, group.path);
        results.notes.push(format!("{shape}/{path} was left out: the relay would be measured"));
    }
    plan.groups.retain(is_kept);
    Ok(())
}

/// Every entrant of a group once.
fn run_group(
    bed: &Bed,
    plan: &Plan,
    (round, group): (u32, &Group),
    results: &mut Results,
) -> Result<()> {
    if !plan.direct {
        bed.shape(group.shape)?;
    }
    let _wire = impair(bed, group.path, round)?;
    for &entrant in &group.entrants {
        if let Err(error) = run_entrant(bed, plan, (round, group, entrant), results) {
            let first = group.loads.first().copied().unwrap_or(Load::Tcp);
            let name = group.row(entrant, first);
            eprintln!("round {round} {name}: FAILED: {error}");
            results.fail(&name, &error);
        }
    }
    bed.lose(0.0)
}

/// Makes the wire slow to answer and lossy; it is as it was when what this gives is dropped and no
/// packets are lost any more.
fn impair(bed: &Bed, path: Path, round: u32) -> Result<Option<Relay<'_>>> {
    let loss_percent = f64::from(path.loss_percent);
    if path.rtt_ms == 0 {
        bed.lose(loss_percent)?;
        return Ok(None);
    }
    let delay = Duration::from_millis(u64::from(path.rtt_ms)) / 2;
    let impairment = Impairment { delay, loss_percent, ..Impairment::default() };
    bed.relay(impairment, round.into()).map(Some)
}

/// Starts an entrant and puts each load through it.
fn run_entrant(
    bed: &Bed,
    plan: &Plan,
    (round, group, entrant): (u32, &Group, Entrant),
    results: &mut Results,
) -> Result<()> {
    let mut settings = plan.settings.clone();
    settings
        .extend(entrant.variant.map(|variant| (variant.key.to_owned(), variant.value.to_owned())));
    let (running, about) = entrant.subject.start(bed, &settings)?;
    for &load in &group.loads {
        let name = group.row(entrant, load);
        match measure(bed, &running, (group.shape, load), plan.seconds) {
            Ok(figures) => {
                eprintln!("round {round} {name}: {figures:.2?}");
                results.add(&name, &figures, about.clone());
            }
            Err(error) => {
                eprintln!("round {round} {name}: FAILED: {error}");
                results.fail(&name, &error);
            }
        }
    }
    Ok(())
}

type Figures = Vec<(&'static str, f64)>;

fn measure(
    bed: &Bed,
    running: &Running,
    (shape, load): (Shape, Load),
    seconds: u32,
) -> Result<Figures> {
    let Some(sent) = load.sent(shape) else {
        let count = IDLE_S * ping::RATE_IDLE_PER_S;
        return Ok(round_trips(&ping::run_idle(&bed.a.namespace, running.target, count)?));
    };
    let Sample { throughput, latency, cpu_s_per_gb, .. } =
        stream::run(bed, running, sent, seconds)?;
    let mut figures = round_trips(&latency);
    figures.push(("goodput_mbps", throughput.mbps));
    if !running.processes.is_empty() {
        figures.push(("cpu_s_per_gb", cpu_s_per_gb));
    }
    if load == Load::Udp {
        figures.push(("lost_percent", throughput.lost_percent));
    }
    Ok(figures)
}

fn round_trips(latency: &ping::Latency) -> Figures {
    vec![
        ("rtt_p50_ms", latency.p50_ms),
        ("rtt_p99_ms", latency.p99_ms),
        ("rtt_p999_ms", latency.p999_ms),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_left_out_everywhere_and_said() {
        let groups = plan::asked();
        let output = "x.json".into();
        let mut plan =
            Plan { groups, seconds: 1, rounds: 1, direct: false, settings: Vec::new(), output };
        let mut results = Results::new("tiers", 1, 1);
        let quincy = Subject::named("quincy").unwrap()[0];
        let error = Error::NotRoot { uid: 7 };
        leave_out(&mut plan, &mut results, |entrant| entrant.subject == quincy, &error);
        assert!(!plan.subjects().contains(&quincy));
        assert!(
            results.notes[0].starts_with("quincy was left out: ")
                && results.notes[0].contains("uid 7")
        );
    }
}
