//! What the tier benchmark runs: by default what its table asks for, on request the whole matrix or a
//! chosen part of it.

use super::cell::{self, Load, Path};
use crate::bed::Shape;
use crate::bench::Subject;
use crate::bench::stream::WARM_UP_S;
use crate::peers::Peer;
use std::path::PathBuf;
use std::time::Duration;

/// The rates of the tiers that have a line in the table of what is wanted; the last is no limit.
pub const SHAPES: [Shape; 4] =
    [Shape::Mbit(100), Shape::Mbit(1000), Shape::Mbit(2500), Shape::Unshaped];

/// The rate at which loss is measured: above what one or eight streams reach with it, below what the
/// relay carries.
pub const LOSS_SHAPE: Shape = Shape::Mbit(1000);

/// The lossy paths of the table.
pub const LOSSY: [Path; 2] =
    [Path { rtt_ms: 20, loss_percent: 1 }, Path { rtt_ms: 20, loss_percent: 5 }];

/// The port that is measured with loss: which one it is makes no difference there.
pub const LOSS_PORT: &str = "uring";

/// The same without recovery of what was lost.
pub const WITHOUT_RECOVERY: Variant =
    Variant { name: "no-recovery", key: "transport.recovery", value: "\"off\"" };

/// Further paths of the whole matrix.
const FURTHER: [Path; 2] =
    [Path { rtt_ms: 0, loss_percent: 1 }, Path { rtt_ms: 20, loss_percent: 0 }];

/// How long a subject takes to carry packets, and a run beyond its seconds: for the estimate only.
const START: Duration = Duration::from_millis(2500);

/// Seconds of ping without a load.
pub(super) const IDLE_S: u32 = 1;

/// A setting of `stoqd` that is measured beside its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// What is added to the subject's name.
    pub name: &'static str,
    /// The key of the configuration.
    pub key: &'static str,
    /// Its value, as in TOML.
    pub value: &'static str,
}

/// A subject, as it is by default or varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entrant {
    /// What carries.
    pub subject: Subject,
    /// What is set besides.
    pub variant: Option<Variant>,
}

impl Entrant {
    /// The subject as it is by default.
    #[must_use]
    pub fn plain(subject: Subject) -> Self {
        Self { subject, variant: None }
    }

    /// Its name in a row.
    #[must_use]
    pub fn name(self) -> String {
        match self.variant {
            None => self.subject.to_string(),
            Some(variant) => format!("{}+{}", self.subject, variant.name),
        }
    }
}

/// Subjects that carry the same loads on the same wire, so that they can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The wire's rate.
    pub shape: Shape,
    /// What it does besides.
    pub path: Path,
    /// In the order of a round.
    pub entrants: Vec<Entrant>,
    /// One after the other, while the subject runs.
    pub loads: Vec<Load>,
}

impl Group {
    /// The name of a row of this group.
    #[must_use]
    pub fn row(&self, entrant: Entrant, load: Load) -> String {
        cell::name(self.shape, self.path, &entrant.name(), load)
    }
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is compared with what.
    pub groups: Vec<Group>,
    /// Seconds of each run, after the warm-up.
    pub seconds: u32,
    /// Runs of each figure.
    pub rounds: u32,
    /// One cable between the edges instead of a bridge; then there are no shapes.
    pub direct: bool,
    /// Keys of `stoqd`'s configuration to set, with their values.
    pub settings: Vec<(String, String)>,
    /// Where the JSON goes; the tables and plots go beside it.
    pub output: PathBuf,
}

impl Plan {
    /// How long it takes, roughly.
    #[must_use]
    pub fn estimate(&self) -> Duration {
        let loaded = Duration::from_secs(u64::from(self.seconds + WARM_UP_S));
        let of_load = |load: &Load| match load {
            Load::Idle => Duration::from_secs(IDLE_S.into()),
            _ => loaded,
        };
        let of_group = |group: &Group| {
            let entrants = u32::try_from(group.entrants.len()).unwrap_or(u32::MAX);
            (START + group.loads.iter().map(of_load).sum::<Duration>()) * entrants
        };
        self.groups.iter().map(of_group).sum::<Duration>() * self.rounds
    }

    /// The subjects that are in it, each once.
    #[must_use]
    pub fn subjects(&self) -> Vec<Subject> {
        let mut all: Vec<Subject> = Vec::new();
        for entrant in self.groups.iter().flat_map(|group| &group.entrants) {
            if !all.contains(&entrant.subject) {
                all.push(entrant.subject);
            }
        }
        all
    }
}

/// What the table of what is wanted asks for: each tier with one stream, and loss.
#[must_use]
pub fn asked() -> Vec<Group> {
    let entrants: Vec<Entrant> = Subject::DEFAULT.map(Entrant::plain).to_vec();
    let tier = |shape| Group {
        shape,
        path: Path::default(),
        entrants: entrants.clone(),
        loads: vec![Load::Idle, Load::Tcp],
    };
    let lossy = |path| Group {
        shape: LOSS_SHAPE,
        path,
        entrants: in_loss(),
        loads: vec![Load::Tcp, Load::Tcp8],
    };
    SHAPES.into_iter().map(tier).chain(LOSSY.into_iter().map(lossy)).collect()
}

/// Who is compared on a lossy path.
fn in_loss() -> Vec<Entrant> {
    let ours = Subject::Stoq(LOSS_PORT);
    vec![
        Entrant::plain(Subject::NoTunnel),
        Entrant::plain(ours),
        Entrant { subject: ours, variant: Some(WITHOUT_RECOVERY) },
        Entrant::plain(Subject::Peer(Peer::Gotatun)),
        Entrant::plain(Subject::Peer(Peer::Quincy)),
    ]
}

/// Everything: each tier, path, subject and load.
#[must_use]
pub fn whole() -> Vec<Group> {
    let paths: Vec<Path> = [Path::default()].into_iter().chain(FURTHER).chain(LOSSY).collect();
    let mut groups = chosen(&SHAPES, &paths, &Subject::ALL, &Load::ALL);
    let varied = Entrant { subject: Subject::Stoq(LOSS_PORT), variant: Some(WITHOUT_RECOVERY) };
    let judged = |group: &&mut Group| group.shape == LOSS_SHAPE && LOSSY.contains(&group.path);
    groups.iter_mut().filter(judged).for_each(|group| group.entrants.push(varied));
    groups
}

/// Every combination of these.
#[must_use]
pub fn chosen(
    shapes: &[Shape],
    paths: &[Path],
    subjects: &[Subject],
    loads: &[Load],
) -> Vec<Group> {
    let entrants: Vec<Entrant> = subjects.iter().copied().map(Entrant::plain).collect();
    let group =
        |shape, path| Group { shape, path, entrants: entrants.clone(), loads: loads.to_vec() };
    let of_shape = |&shape: &Shape| paths.iter().map(move |&path| (shape, path));
    shapes.iter().flat_map(of_shape).map(|(shape, path)| group(shape, path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(groups: Vec<Group>) -> Plan {
        let output = "tiers.json".into();
        Plan { groups, seconds: 3, rounds: 3, direct: false, settings: Vec::new(), output }
    }

    #[test]
    fn the_default_takes_less_than_twenty_minutes() {
        let minutes = plan(asked()).estimate().as_secs() / 60;
        assert!(minutes < 18, "{minutes} minutes leave no room for installing and starting");
    }

    #[test]
    fn the_default_has_every_tier_and_the_whole_has_every_peer() {
        let shapes: Vec<Shape> = asked().iter().map(|group| group.shape).collect();
        assert!(SHAPES.iter().all(|shape| shapes.contains(shape)));
        assert_eq!(plan(whole()).subjects().len(), Subject::ALL.len());
    }

    #[test]
    fn rows_of_a_plan_have_names_of_their_own() {
        for groups in [asked(), whole()] {
            let mut names = std::collections::BTreeSet::new();
            for group in &groups {
                for (entrant, load) in
                    group.entrants.iter().flat_map(|e| group.loads.iter().map(move |l| (*e, *l)))
                {
                    assert!(names.insert(group.row(entrant, load)), "{group:?}");
                }
            }
        }
    }
}
