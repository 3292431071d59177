//! Which cores the workers of the data plane run on, and which are left to the control plane: a pure
//! function of the host's [`Topology`].
//!
//! The one rule for it: stoqd pins its workers by it, hypermeshd keeps to the cores that it leaves, the
//! stages of tuning set interrupts and limits by it, and `stoqctl tune cores` shows it.
//!
//! ```text
//!   physical cores   ┌ 0 ──────┐ ┌ 1 ──────┐ ┌ 2 ──────┐ ┌ 3 ──────┐
//!   threads          │  0   4  │ │  1   5  │ │  2   6  │ │  3   7  │
//!                    └─────────┘ └─────────┘ └─────────┘ └─────────┘
//!                      control    worker 0    worker 1    worker 2
//!                                  on 5        on 6        on 7        (1, 2, 3: beside a worker)
//! ```
//!
//! - A worker seals and opens all the time: two of them on the threads of one physical core share its
//!   units for AES. So `auto` counts physical cores, and the other thread of a worker's core is left
//!   to what works for the worker: its sender thread and the interface's interrupts.
//! - On a host with fast and slow cores workers take the fast ones; with several NUMA nodes those of the
//!   node that the WAN interface is attached to, because packets are in that node's memory.
//! - Cores that the host's operator has isolated are meant for workers.
//! - Of equals the last are taken: interrupts and everything else of a host tend to the first.
//! - The control plane knows no interface. So with several NUMA nodes the first core is never a worker's
//!   by itself: whichever node is near, it is left to the control plane.

mod topology;

use std::cmp::Reverse;
use std::collections::BTreeSet;

use serde::Serialize;

use crate::host::Host;

pub use topology::{Core, FULL_CAPACITY, Topology};

/// Most workers that stoqd starts (`transport.workers`): the worker is one byte of a connection ID, and
/// no edge host has more cores to give.
pub const MAX_WORKERS: u16 = 64;

/// What the configuration fixes of the plan.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish<'a> {
    /// The number of workers (`transport.workers`); `None` for `auto`.
    pub workers: Option<u16>,
    /// Their cores (`transport.cores`), which win over every rule.
    pub cores: Option<&'a [usize]>,
}

/// Who runs where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CorePlan {
    /// The number of workers, 1 to [`MAX_WORKERS`].
    pub workers: u16,
    /// The core of each worker; empty when they are not pinned, because no core would be left.
    pub pinned: Vec<usize>,
    /// The cores of the control plane and of everything else; all where workers are not pinned.
    pub control: Vec<usize>,
    /// Other threads of workers' physical cores, for what works beside a worker: sending, interrupts.
    pub beside: Vec<usize>,
    /// Why, a sentence for each rule that decided something.
    pub why: Vec<String>,
}

impl CorePlan {
    /// Makes the plan.
    #[must_use]
    pub fn new(topology: &Topology, wish: Wish<'_>) -> Self {
        let mut why = Vec::new();
        let ranked = ranked(topology);
        let count = match (wish.workers, wish.cores) {
            (Some(workers), _) => usize::from(workers),
            (None, Some(cores)) => cores.len(),
            (None, None) => best(topology, &ranked, &mut why),
        };
        let workers = u16::try_from(count).unwrap_or(MAX_WORKERS).clamp(1, MAX_WORKERS);
        let count = usize::from(workers);
        let mut pinned: Vec<usize> = match wish.cores {
            Some(cores) => {
                why.push("the configuration lists the workers' cores".to_owned());
                cores.iter().copied().take(count).collect()
            }
            None if ranked.len() > count => ranked[..count].iter().map(|core| core.id).collect(),
            None => {
                why.push(format!("{count} workers on {} cores: none is pinned", ranked.len()));
                Vec::new()
            }
        };
        if wish.cores.is_none() {
            pinned.sort_unstable();
        }
        let (control, beside) = left(topology, &pinned);
        Self { workers, pinned, control, beside, why }
    }

    /// The cores that no worker is pinned to, in ascending order: those of the control plane, and
    /// those beside a worker.
    #[must_use]
    pub fn spare(&self) -> Vec<usize> {
        let cores: BTreeSet<_> = self.control.iter().chain(&self.beside).copied().collect();
        cores.into_iter().filter(|core| !self.pinned.contains(core)).collect()
    }
}

/// Where a daemon of the control plane belongs that knows nothing of the data plane's configuration.
/// `None` when somebody has narrowed its cores already, or no core can be left to it.
#[must_use]
pub fn control_cores(host: &Host) -> Option<Vec<usize>> {
    let topology = Topology::of(host, None);
    let plan = CorePlan::new(&topology, Wish::default());
    let free = topology == Topology::shared(host, None) && !plan.pinned.is_empty();
    free.then_some(plan.control)
}

/// The cores, those that a worker should have first.
fn ranked(topology: &Topology) -> Vec<&Core> {
    let mut cores: Vec<&Core> = topology.cores.iter().collect();
    cores.sort_by_key(|core| {
        let local = is_local(topology, core);
        let apart = core.id == core.physical;
        Reverse((core.isolated, local, core.capacity, apart, core.id))
    });
    cores
}

fn is_local(topology: &Topology, core: &Core) -> bool {
    topology.interface_node.is_none_or(|node| core.node == Some(node))
}

/// How many workers `auto` is: one for each physical core that is as good as the best, and one less
/// when that would leave no physical core to anything else.
fn best(topology: &Topology, ranked: &[&Core], why: &mut Vec<String>) -> usize {
    let Some(top) = ranked.first() else {
        why.push("no core is visible here".to_owned());
        return 1;
    };
    let kind = |core: &Core| (core.isolated, is_local(topology, core), core.capacity);
    let alike = |core: &&&Core| kind(core) == kind(top);
    let physical: BTreeSet<_> = ranked.iter().filter(alike).map(|core| core.physical).collect();
    let others = |core: &&&Core| !physical.contains(&core.physical);
    let physical_others = ranked.iter().filter(others).count();
    explain(topology, top, why);
    let first = topology.cores.iter().find(|core| !core.isolated);
    let takes_first = first.is_some_and(|core| physical.contains(&core.physical));
    if physical_others == 0 || (takes_first && topology.interface_node.is_some()) {
        why.push("a physical core is left to the control plane".to_owned());
        return physical.len() - 1;
    }
    physical.len()
}

/// Names the rules by which the best cores are better than the others of this host.
fn explain(topology: &Topology, top: &Core, why: &mut Vec<String>) {
    let cores = &topology.cores;
    if cores.iter().any(|core| core.isolated != top.isolated) {
        why.push("workers take the isolated cores".to_owned());
    }
    if let Some(node) = topology.interface_node
        && cores.iter().any(|core| !is_local(topology, core))
    {
        why.push(if is_local(topology, top) {
            format!("workers are on NUMA node {node}, where the interface is attached")
        } else {
            format!("no core of NUMA node {node}, where the interface is attached, comes first")
        });
    }
    if cores.iter().any(|core| core.capacity < top.capacity) {
        why.push("workers take the fast cores".to_owned());
    }
    if cores.iter().any(|core| core.physical != core.id) {
        why.push("one worker for each physical core: its threads share the units".to_owned());
    }
}

/// What is left: the cores of everything else, and those that share a physical core with a worker.
fn left(topology: &Topology, pinned: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let taken = topology.cores.iter().filter(|core| pinned.contains(&core.id));
    let taken: BTreeSet<_> = taken.map(|core| core.physical).collect();
    let free = topology.cores.iter().filter(|core| !pinned.contains(&core.id));
    let (beside, control): (Vec<&Core>, Vec<&Core>) =
        free.partition(|core| taken.contains(&core.physical));
    let ids = |cores: Vec<&Core>| cores.into_iter().map(|core| core.id).collect::<Vec<_>>();
    match (ids(control), ids(beside)) {
        // Isolated cores that no worker has stay empty while there is another; another thread is
        // better than no core at all.
        (control, beside) if control.is_empty() => (beside, Vec::new()),
        (control, beside) => (common(topology, control), beside),
    }
}

/// Those cores that are not isolated, if any is.
fn common(topology: &Topology, ids: Vec<usize>) -> Vec<usize> {
    let isolated = |id: &usize| topology.cores.iter().any(|core| core.id == *id && core.isolated);
    let common: Vec<usize> = ids.iter().copied().filter(|id| !isolated(id)).collect();
    if common.is_empty() { ids } else { common }
}
