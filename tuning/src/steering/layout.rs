//! Which cores the workers run on, and which are left. Called by the stages of steering.

use crate::Plan;
use crate::cpu;
use crate::host::Host;

/// Most workers that stoqd starts (`transport.workers`).
const MAX_WORKERS: usize = 64;

/// Workers and cores of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Number of workers.
    pub(super) workers: u32,
    /// The core of each worker; empty when they are not pinned.
    pub(super) pinned: Vec<usize>,
    /// The cores that no worker is pinned to.
    pub(super) spare: Vec<usize>,
}

impl Layout {
    /// As stoqd does it: one worker for each listed core, or one less than there are cores; on the
    /// listed cores, or on the last ones if that leaves one.
    pub(super) fn of(host: &Host, plan: &Plan) -> Self {
        let online = cpu::online(host);
        let listed = plan.cores.as_ref();
        let fixed = plan.workers.map(usize::from);
        let workers = fixed
            .or(listed.map(Vec::len))
            .unwrap_or(online.len().saturating_sub(1))
            .clamp(1, MAX_WORKERS);
        let pinned = match listed {
            Some(cores) => cores.iter().copied().take(workers).collect(),
            None if online.len() > workers => online[online.len() - workers..].to_vec(),
            None => Vec::new(),
        };
        let spare = online.into_iter().filter(|core| !pinned.contains(core)).collect();
        Self { workers: u32::try_from(workers).unwrap_or(1), pinned, spare }
    }
}
