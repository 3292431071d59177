//! What the daemon says of itself: status for people and scripts, figures for the metrics.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use crossbeam::channel::bounded;
use stoq::{LinkState, LinkStatus, PeerId, RecoveryCounts};
use stoq_control::{Link, PassedOver, Port, Status, Worker};
use stoq_identity::Span;
use stoq_telemetry::DropReason;
use stoq_tuning::tier::{LinkTier, Tier};
use stoq_xdp::Verdict;

use super::shared::Shared;
use super::tiers::shown;
use crate::metrics::{Figures, LinkFigures, Observed, WorkerFigures, xdp_reason};
use crate::worker::{Command, Report};

/// How long a worker may take to tell how it goes; a turn of its loop takes well below 1 ms.
const PATIENCE: Duration = Duration::from_millis(500);

/// The peers that a link to is up.
#[derive(Debug, Default)]
pub(super) struct LinksUp {
    /// On every worker that answers.
    pub wholly: HashSet<String>,
    /// On some of them.
    pub partly: HashSet<String>,
    /// Workers that do not answer.
    pub silent: usize,
}

impl LinksUp {
    /// Whether some worker has it.
    pub fn has(&self, name: &str) -> bool {
        self.wholly.contains(name) || self.partly.contains(name)
    }
}

impl Shared {
    /// Asks every worker; one that does not answer is left out.
    fn reports(&self) -> Vec<Option<Report>> {
        let ask = |worker: &super::workers::Watched| {
            let (reply, answer) = bounded(1);
            worker.handle.send(Command::Report(reply)).ok()?;
            answer.recv_timeout(PATIENCE).ok()
        };
        self.workers.iter().map(ask).collect()
    }

    /// Whether every worker answers.
    pub(super) fn is_well(&self) -> bool {
        self.reports().iter().all(Option::is_some)
    }

    /// The peers that a link to is up.
    pub(super) fn links_up(&self) -> LinksUp {
        let reports = self.reports();
        let mut workers: HashMap<PeerId, usize> = HashMap::new();
        for link in reports.iter().flatten().flat_map(|report| &report.links) {
            *workers.entry(link.peer).or_default() += usize::from(link.state == LinkState::Up);
        }
        let silent = reports.iter().filter(|report| report.is_none()).count();
        let mut up = LinksUp { silent, ..LinksUp::default() };
        for (peer, name) in self.peer_names() {
            match workers.get(&peer) {
                None | Some(0) => {}
                Some(&count) if count + up.silent < reports.len() => drop(up.partly.insert(name)),
                Some(_) => drop(up.wholly.insert(name)),
            }
        }
        up
    }

    fn links_now(&self, names: &[(PeerId, String)], shares: &Shares<'_>) -> Vec<Link> {
        let tiers = self.tiers();
        let tier = |peer: &PeerId| tiers.get(peer).and_then(LinkTier::shown);
        names.iter().map(|(peer, name)| link(*peer, name, shown(tier(peer)), shares)).collect()
    }

    fn drops(&self) -> Vec<(DropReason, u64)> {
        let kept = self.held().keeper.drops();
        let sum = |reason| {
            let workers = self.workers.iter().map(|worker| worker.drops.get(reason));
            workers.sum::<u64>() + kept.get(reason)
        };
        DropReason::ALL.iter().map(|&reason| (reason, sum(reason))).collect()
    }

    fn drops_in_xdp(&self) -> Vec<(String, u64)> {
        let counters = self.xdp_counters();
        let dropped = Verdict::ALL.iter().filter(|verdict| verdict.is_drop());
        let counted = dropped.filter_map(|verdict| {
            let (_, n) = counters.iter().find(|(label, _)| label == verdict.label())?;
            Some((xdp_reason(*verdict), *n))
        });
        counted.collect()
    }

    pub(super) fn status_now(&self) -> Status {
        let reports = self.reports();
        let (names, shares) = (self.peer_names(), Shares::of(&reports));
        let selection = self.port();
        let passed_over = selection
            .passed_over
            .into_iter()
            .map(|(port, reason)| PassedOver { port: port.label().to_owned(), reason });
        let workers = reports
            .iter()
            .flatten()
            .map(|report| Worker { core: report.core, connections: report.connections as u64 });
        let drops = self.drops().into_iter().map(|(reason, n)| (reason.label().to_owned(), n));
        let mut warnings = self.host_warnings();
        let silent = reports.iter().filter(|report| report.is_none()).count();
        if silent > 0 {
            warnings.push(format!("{silent} workers do not answer; restart stoqd"));
        }
        let newest = reports.iter().flatten().filter_map(|report| report.newest_sequence);
        warnings.extend(self.mesh_warnings(newest.map(|(_, sequence)| sequence).max()));
        let links = self.links_now(&names, &shares);
        warnings.extend(outlived(&links));
        let (bundle, revocation_sequence, heads) = {
            let held = self.held();
            (held.keeper.number(), held.keeper.sequence(), held.keeper.heads())
        };
        Status {
            node: self.node(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.uptime_s(),
            port: Port {
                selected: selection.selected.label().to_owned(),
                mode: selection.mode,
                passed_over: passed_over.collect(),
            },
            links,
            workers: workers.collect(),
            drops: drops.chain(self.drops_in_xdp()).collect::<BTreeMap<_, _>>(),
            snapshot: self.snapshot_number(),
            bundle,
            revocation_sequence,
            certificate: self.certificate(),
            heads,
            warnings,
        }
    }
}

/// What is said of links whose peers' certificates have expired and are taken all the same.
fn outlived(links: &[Link]) -> Option<String> {
    let expired: Vec<_> = links.iter().filter(|link| link.expired_s > 0).collect();
    let longest = expired.iter().max_by_key(|link| link.expired_s)?;
    Some(format!(
        "{} peers have expired certificates, which identity.outlive_issuer_s lets pass: that of {} for \
         {}; no issuer renews them: restore one (`stoqctl restore`), or promote another",
        expired.len(),
        longest.peer,
        Span(Duration::from_secs(longest.expired_s))
    ))
}

fn expired_s(peer: PeerId, shares: &Shares<'_>) -> u64 {
    shares.get(peer).map(|share| share.expired_for.as_secs()).max().unwrap_or(0)
}

/// The workers' shares of every link. Found by peer: of thousands, each is asked for a dozen times.
struct Shares<'reports>(HashMap<PeerId, Vec<&'reports LinkStatus>>);

impl<'reports> Shares<'reports> {
    fn of(reports: &'reports [Option<Report>]) -> Self {
        let mut shares: HashMap<_, Vec<_>> = HashMap::new();
        for link in reports.iter().flatten().flat_map(|report| &report.links) {
            shares.entry(link.peer).or_default().push(link);
        }
        Self(shares)
    }

    fn get(&self, peer: PeerId) -> impl Iterator<Item = &'reports LinkStatus> {
        self.0.get(&peer).into_iter().flatten().copied()
    }
}

/// The state of the whole link: it carries packets if one share does.
fn state(peer: PeerId, shares: &Shares<'_>) -> stoq_control::LinkState {
    let any = |state| shares.get(peer).any(|share| share.state == state);
    if any(LinkState::Draining) {
        stoq_control::LinkState::Draining
    } else if any(LinkState::Up) {
        stoq_control::LinkState::Up
    } else if any(LinkState::Connecting) {
        stoq_control::LinkState::Connecting
    } else {
        stoq_control::LinkState::Down
    }
}

fn micros(rtt: Option<Duration>) -> u64 {
    rtt.map_or(0, |rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX))
}

fn link(peer: PeerId, name: &str, tier: stoq_control::Tier, shares: &Shares<'_>) -> Link {
    let connected = shares.get(peer).find(|share| share.endpoint.is_some());
    let up = || shares.get(peer).filter(|share| share.state == LinkState::Up);
    Link {
        peer: name.to_owned(),
        state: state(peer, shares),
        endpoint: connected.and_then(|share| share.endpoint),
        tier,
        key_exchange: connected.and_then(|share| share.key_exchange).unwrap_or_default().to_owned(),
        rtt_us: micros(connected.and_then(|share| share.rtt)),
        datagram_max: up().map(|share| share.datagram_max as u64).min().unwrap_or(0),
        tx_bytes: shares.get(peer).map(|share| share.tx_bytes).sum(),
        rx_bytes: shares.get(peer).map(|share| share.rx_bytes).sum(),
        expired_s: expired_s(peer, shares),
    }
}

fn link_figures(peer: PeerId, name: &str, tier: Option<Tier>, shares: &Shares<'_>) -> LinkFigures {
    let sum = |of: fn(&LinkStatus) -> u64| shares.get(peer).map(of).sum();
    LinkFigures {
        peer: name.to_owned(),
        up: state(peer, shares) == stoq_control::LinkState::Up,
        connections: sum(|share| share.connections as u64),
        tx_bytes: sum(|share| share.tx_bytes),
        rx_bytes: sum(|share| share.rx_bytes),
        tx_packets: sum(|share| share.tx_packets),
        rx_packets: sum(|share| share.rx_packets),
        recovery: recovery(peer, shares),
        rtt_us: micros(shares.get(peer).find_map(|share| share.rtt)),
        cwnd_bytes: sum(|share| share.congestion_window as u64),
        queue_packets: sum(|share| share.queued_packets as u64),
        expired_s: expired_s(peer, shares),
        tier: u64::from(tier.map_or(0, Tier::number)),
    }
}

fn recovery(peer: PeerId, shares: &Shares<'_>) -> RecoveryCounts {
    let mut counts = RecoveryCounts::default();
    shares.get(peer).for_each(|share| counts.add(share.recovery));
    counts
}

impl Observed for Shared {
    fn figures(&self) -> Figures {
        let reports = self.reports();
        let worker = |(worker, report): (&super::workers::Watched, &Option<Report>)| {
            let meters = &worker.handle.meters;
            let report = report.as_ref();
            WorkerFigures {
                turns: meters.turns(),
                received: meters.received(),
                sent: meters.sent(),
                handed_over: meters.handed_over(),
                connections: report.map_or(0, |report| report.connections as u64),
                handshakes: report.map_or(0, |report| report.handshakes as u64),
                retries: report.map_or(0, |report| report.retries),
                streams: report.map_or(0, |report| report.streams as u64),
                stages: report.map(|report| report.stages.clone()).unwrap_or_default(),
            }
        };
        let (names, shares) = (self.peer_names(), Shares::of(&reports));
        let tiers = self.tiers();
        let tier = |peer: &PeerId| tiers.get(peer).and_then(LinkTier::shown);
        let figures =
            |(peer, name): &(PeerId, String)| link_figures(*peer, name, tier(peer), &shares);
        Figures {
            workers: self.workers.iter().zip(&reports).map(worker).collect(),
            links: names.iter().map(figures).collect(),
            drops: self.drops(),
            xdp: self.xdp_counters(),
        }
    }

    fn turns(&self) -> Vec<u64> {
        self.workers.iter().map(|worker| worker.handle.meters.turns()).collect()
    }

    fn ready(&self) -> Result<(), String> {
        let idle = self.workers.iter().filter(|worker| worker.handle.meters.turns() == 0).count();
        if idle > 0 {
            return Err(format!("{idle} of {} workers have not begun", self.workers.len()));
        }
        Ok(())
    }
}
