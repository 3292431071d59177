//! What the product is held to on each tier, beside what was measured: a line for each wanted figure
//! and each port of `stoqd`. Ratios are of medians of one run; the best peer is the one that is best at
//! this very figure.

use super::Ceiling;
use super::cell::{self, Load, Path};
use super::plan::{Entrant, LOSS_PORT, LOSS_SHAPE, LOSSY, WITHOUT_RECOVERY};
use crate::bed::Shape;
use crate::bench::Subject;
use crate::bench::results::{Results, table};

/// What a tier must reach; what it is not held to is not there.
struct Tier {
    shape: Shape,
    /// Goodput of one TCP stream, of the ceiling.
    of_ceiling: Option<f64>,
    /// The same, of no tunnel.
    of_none: Option<f64>,
    /// The same, of the best peer.
    of_peer: Option<f64>,
    /// 99th percentile of ping under that load, at most so much of the best peer's.
    p99_of_peer: f64,
}

const TIERS: [Tier; 4] = [
    Tier {
        shape: Shape::Mbit(100),
        of_ceiling: Some(0.98),
        of_none: None,
        of_peer: None,
        p99_of_peer: 0.7,
    },
    Tier {
        shape: Shape::Mbit(1000),
        of_ceiling: Some(0.98),
        of_none: None,
        of_peer: None,
        p99_of_peer: 0.5,
    },
    Tier {
        shape: Shape::Mbit(2500),
        of_ceiling: Some(0.95),
        of_none: None,
        of_peer: Some(2.0),
        p99_of_peer: 0.5,
    },
    Tier {
        shape: Shape::Unshaped,
        of_ceiling: None,
        of_none: Some(0.75),
        of_peer: Some(4.0),
        p99_of_peer: 0.5,
    },
];

/// Goodput with loss, of the best peer's, without recovery and with it.
const LOSS_OF_PEER: [f64; 2] = [1.0, 2.0];

/// CPU seconds for a gigabyte, of the thriftiest peer's.
const CPU_OF_PEER: f64 = 1.0;

/// Which way a figure is wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

/// A wanted figure beside the measured one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Verdict {
    what: String,
    subject: String,
    wanted: Wanted,
    measured: Option<f64>,
}

impl Verdict {
    fn is_reached(&self) -> Option<bool> {
        let measured = self.measured?;
        Some(match self.wanted {
            Wanted::AtLeast(least) => measured >= least,
            Wanted::AtMost(most) => measured <= most,
        })
    }

    fn cells(&self) -> Vec<String> {
        let wanted = match self.wanted {
            Wanted::AtLeast(least) => format!("at least {least:.2}"),
            Wanted::AtMost(most) => format!("at most {most:.2}"),
        };
        let measured = self.measured.map_or("-".to_owned(), |measured| format!("{measured:.3}"));
        let reached = match self.is_reached() {
            None => "not measured",
            Some(true) => "reached",
            Some(false) => "NOT REACHED",
        };
        vec![self.what.clone(), self.subject.clone(), wanted, measured, reached.to_owned()]
    }
}

/// The table of all verdicts on what ran; empty when nothing of it did.
pub(super) fn verdicts(results: &Results) -> String {
    let mut all: Vec<Verdict> = TIERS.iter().flat_map(|tier| of_tier(results, tier)).collect();
    all.extend(in_loss(results));
    if all.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = all.iter().map(Verdict::cells).collect();
    table(&["what", "subject", "wanted", "measured", ""], &rows)
}

/// One load on one wire.
struct Wire<'a> {
    results: &'a Results,
    shape: Shape,
    path: Path,
    load: Load,
}

impl Wire<'_> {
    /// Whether it was in this run at all.
    fn has(&self, subject: &str) -> bool {
        self.results.row(&cell::name(self.shape, self.path, subject, self.load)).is_some()
    }

    fn of(&self, subject: &str, figure: &str) -> Option<f64> {
        let name = cell::name(self.shape, self.path, subject, self.load);
        self.results.row(&name)?.median(figure)
    }

    /// The figures of all peers that were measured.
    fn peers(&self, figure: &'static str) -> impl Iterator<Item = f64> {
        let peers = Subject::ALL.into_iter().filter(|subject| matches!(subject, Subject::Peer(_)));
        peers.filter_map(move |peer| self.of(&peer.to_string(), figure))
    }

    fn of_best_peer(&self, subject: &str) -> Option<f64> {
        let best = self.peers("goodput_mbps").reduce(f64::max)?;
        Some(self.of(subject, "goodput_mbps")? / best)
    }

    fn of_least_peer(&self, subject: &str, figure: &'static str) -> Option<f64> {
        let least = self.peers(figure).reduce(f64::min)?;
        Some(self.of(subject, figure)? / least)
    }

    fn of_none(&self, subject: &str) -> Option<f64> {
        Some(self.of(subject, "goodput_mbps")? / self.of("none", "goodput_mbps")?)
    }
}

fn of_tier(results: &Results, tier: &Tier) -> Vec<Verdict> {
    let wire = Wire { results, shape: tier.shape, path: Path::default(), load: Load::Tcp };
    let ports = Subject::ALL.into_iter().filter(|subject| matches!(subject, Subject::Stoq(_)));
    let names = ports.map(|port| port.to_string()).filter(|port| wire.has(port));
    names.flat_map(|port| of_port(&wire, tier, &port)).collect()
}

fn of_port(wire: &Wire<'_>, tier: &Tier, port: &str) -> Vec<Verdict> {
    let verdict = |what: &str, wanted, measured| Verdict {
        what: format!("{}: {what}", tier.shape),
        subject: port.to_owned(),
        wanted,
        measured,
    };
    let share = wire.of_none(port);
    let of_ceiling = tier.of_ceiling.map(|least| {
        let measured = share.map(|share| share / Ceiling::BED.share());
        verdict("goodput, of the ceiling", Wanted::AtLeast(least), measured)
    });
    let of_none =
        tier.of_none.map(|least| verdict("goodput, of no tunnel", Wanted::AtLeast(least), share));
    let of_peer = tier.of_peer.map(|least| {
        verdict("goodput, of the best peer", Wanted::AtLeast(least), wire.of_best_peer(port))
    });
    let p99 = wire.of_least_peer(port, "rtt_p99_ms");
    let cpu = wire.of_least_peer(port, "cpu_s_per_gb");
    let mut all: Vec<Verdict> = [of_ceiling, of_none, of_peer].into_iter().flatten().collect();
    all.push(verdict("ping p99, of the best peer", Wanted::AtMost(tier.p99_of_peer), p99));
    all.push(verdict("CPU s/GB, of the best peer", Wanted::AtMost(CPU_OF_PEER), cpu));
    all
}

fn in_loss(results: &Results) -> Vec<Verdict> {
    let ours = Entrant::plain(Subject::Stoq(LOSS_PORT));
    let without = Entrant { variant: Some(WITHOUT_RECOVERY), ..ours };
    let mut all = Vec::new();
    for (path, load) in LOSSY.into_iter().flat_map(|path| [(path, Load::Tcp), (path, Load::Tcp8)]) {
        let wire = Wire { results, shape: LOSS_SHAPE, path, load };
        let measured = [without, ours].map(Entrant::name).into_iter().zip(LOSS_OF_PEER);
        all.extend(measured.filter(|(name, _)| wire.has(name)).map(|(name, least)| Verdict {
            what: format!("{path}: goodput of {}, of the best peer", load.name()),
            measured: wire.of_best_peer(&name),
            subject: name,
            wanted: Wanted::AtLeast(least),
        }));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn results(rows: &[(&str, f64, f64)]) -> Results {
        let mut results = Results::new("tiers", 3, 1);
        for (name, mbps, p99) in rows {
            results.add(name, &[("goodput_mbps", *mbps), ("rtt_p99_ms", *p99)], Value::Null);
        }
        results
    }

    fn lines(results: &Results) -> Vec<Verdict> {
        TIERS.iter().flat_map(|tier| of_tier(results, tier)).collect()
    }

    #[test]
    fn a_tier_is_held_to_the_ceiling_and_to_the_best_peer_at_each_figure() {
        let results = results(&[
            ("2500/clean/none/tcp", 2000.0, 1.0),
            ("2500/clean/stoq-xdp/tcp", 1820.0, 2.0),
            ("2500/clean/gotatun/tcp", 900.0, 9.0),
            ("2500/clean/quincy/tcp", 950.0, 8.0),
        ]);
        let all = lines(&results);
        let of = |what: &str| {
            let found = all.iter().find(|v| v.subject == "stoq-xdp" && v.what.contains(what));
            found.cloned().unwrap()
        };
        let ceiling = of("2500: goodput, of the ceiling");
        assert!((ceiling.measured.unwrap() - 0.91 / Ceiling::BED.share()).abs() < 1e-9);
        assert_eq!(ceiling.is_reached(), Some(true));
        assert_eq!(of("2500: goodput, of the best peer").is_reached(), Some(false));
        assert_eq!(of("2500: ping p99").measured, Some(0.25));
        assert_eq!(of("2500: CPU").is_reached(), None, "nothing was measured");
    }

    #[test]
    fn what_was_not_measured_is_not_called_reached() {
        assert_eq!(verdicts(&results(&[])), "");
        let text = verdicts(&results(&[
            ("none/clean/none/tcp", 4000.0, 1.0),
            ("none/clean/stoq-mio/tcp", 3200.0, 1.0),
        ]));
        assert!(text.contains("not measured") && text.contains("0.800"), "{text}");
    }

    #[test]
    fn loss_is_judged_with_recovery_and_without() {
        let mut measured = results(&[
            ("1000/rtt20-loss5/stoq-uring/tcp", 30.0, 1.0),
            ("1000/rtt20-loss5/stoq-uring+no-recovery/tcp", 9.0, 1.0),
        ]);
        measured.add("1000/rtt20-loss5/gotatun/tcp", &[("goodput_mbps", 10.0)], Value::Null);
        let reached: Vec<bool> =
            in_loss(&measured).iter().filter_map(Verdict::is_reached).collect();
        assert_eq!(reached, [false, true]);
    }
}
