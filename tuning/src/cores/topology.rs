//! What the kernel says about the cores of a host: which there are, which belong together, and which
//! this process may use.
//!
//! Owns the reading of `/sys/devices/system` and of the limits of a container. Called by the plan's
//! makers ([`Topology::of`]); what is read is judged by [`super::CorePlan`] alone.

use std::collections::BTreeSet;

use crate::cpu;
use crate::host::Host;

/// One core as the kernel counts them: with SMT a hardware thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Core {
    /// Its number.
    pub id: usize,
    /// The highest number among the usable threads of the same physical core; its own without SMT.
    pub physical: usize,
    /// The NUMA node whose memory is near.
    pub node: Option<u32>,
    /// How fast it is beside the others of this host, in parts of [`FULL_CAPACITY`].
    pub capacity: u32,
    /// The kernel keeps other work off it (`isolcpus`).
    pub isolated: bool,
}

/// The cores that may be used, and where the WAN interface is attached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// In ascending order of their numbers.
    pub cores: Vec<Core>,
    /// The NUMA node of the WAN interface; `None` for a virtual one, or on a host with a single node.
    pub interface_node: Option<u32>,
}

/// The capacity of the fastest cores (`cpu_capacity`, Documentation/ABI/testing/sysfs-devices-system-cpu).
pub const FULL_CAPACITY: u32 = 1024;

/// The capacity given to efficiency cores that a kernel lists without a figure. Any number below
/// [`FULL_CAPACITY`] would do: only the order counts.
const EFFICIENT_CAPACITY: u32 = 512;

/// The cores that a cgroup (version 2) may use. At the top of what this process sees it is the limit of
/// its container, or the whole host.
const CONTAINER: &str = "sys/fs/cgroup/cpuset.cpus.effective";

impl Topology {
    /// The cores that this process may use, with a WAN interface of this name.
    ///
    /// Cores that are isolated are outside the mask that a process is born with; they count as usable
    /// unless somebody has narrowed the mask further.
    #[must_use]
    pub fn of(host: &Host, interface: Option<&str>) -> Self {
        let isolated = set(host, "sys/devices/system/cpu/isolated");
        let all = reachable(host);
        let mask = mask(host);
        let born: BTreeSet<_> = all.difference(&isolated).copied().collect();
        // Everything is isolated, or nothing of the mask can be read: there is nobody's wish to follow.
        let free = mask.is_empty() || mask == born || mask.is_superset(&all);
        let usable = if free { all } else { mask };
        Self::with(host, interface, &usable, &isolated)
    }

    /// The cores that every process of this host or container may use: what several daemons, each with a
    /// mask of its own, agree on. As [`of`](Self::of) where the kernel does not tell.
    #[must_use]
    pub fn shared(host: &Host, interface: Option<&str>) -> Self {
        if !host.exists(CONTAINER) {
            return Self::of(host, interface);
        }
        let isolated = set(host, "sys/devices/system/cpu/isolated");
        Self::with(host, interface, &reachable(host), &isolated)
    }

    fn with(
        host: &Host,
        interface: Option<&str>,
        usable: &BTreeSet<usize>,
        isolated: &BTreeSet<usize>,
    ) -> Self {
        let nodes = nodes(host);
        let efficient = set(host, "sys/devices/cpu_atom/cpus");
        let core = |&id: &usize| {
            let node = nodes.iter().find(|(_, cores)| cores.contains(&id)).map(|(node, _)| *node);
            let slow = if efficient.contains(&id) { EFFICIENT_CAPACITY } else { FULL_CAPACITY };
            let said = host.read(&format!("sys/devices/system/cpu/cpu{id}/cpu_capacity"));
            let capacity = said.and_then(|text| text.parse().ok()).unwrap_or(slow);
            let physical = siblings(host, id).into_iter().rev().find(|id| usable.contains(id));
            let physical = physical.unwrap_or(id);
            Core { id, physical, node, capacity, isolated: isolated.contains(&id) }
        };
        let cores: Vec<Core> = usable.iter().map(core).collect();
        let node = interface.and_then(|name| interface_node(host, name));
        let interface_node = node.filter(|_| nodes.len() > 1);
        Self { cores, interface_node }
    }
}

/// The cores of this host, or of the container that this process is in.
fn reachable(host: &Host) -> BTreeSet<usize> {
    let online: BTreeSet<_> = cpu::online(host).into_iter().collect();
    match host.read(CONTAINER).as_deref().and_then(cpu::cores) {
        Some(limit) => limit.into_iter().filter(|core| online.contains(core)).collect(),
        // Without that file a container is seen by the mask alone. The top group of an old hierarchy
        // and a host without cgroups leave the mask whole, but for isolated cores.
        None => online,
    }
}

/// The cores that this process may run on now.
fn mask(host: &Host) -> BTreeSet<usize> {
    let status = host.read("proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    let list = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.and_then(cpu::cores).unwrap_or_default().into_iter().collect()
}

/// The threads of the same physical core, its own included, in ascending order.
fn siblings(host: &Host, id: usize) -> Vec<usize> {
    let path = format!("sys/devices/system/cpu/cpu{id}/topology/thread_siblings_list");
    let mut siblings = host.read(&path).as_deref().and_then(cpu::cores).unwrap_or_default();
    siblings.sort_unstable();
    siblings
}

/// The NUMA nodes with cores, each with them.
fn nodes(host: &Host) -> Vec<(u32, BTreeSet<usize>)> {
    let names = host.entries("sys/devices/system/node").into_iter();
    let numbers = names.filter_map(|name| name.strip_prefix("node")?.parse().ok());
    let nodes = numbers
        .map(|node: u32| (node, set(host, &format!("sys/devices/system/node/node{node}/cpulist"))));
    nodes.filter(|(_, cores)| !cores.is_empty()).collect()
}

/// The node that an interface is attached to; the kernel says -1 where there is no telling.
fn interface_node(host: &Host, name: &str) -> Option<u32> {
    let there = crate::network::is_there(host, name);
    let path = format!("sys/class/net/{name}/device/numa_node");
    there.then(|| host.read(&path)).flatten()?.parse().ok()
}

/// The cores that a file lists; none when it is empty or not there.
fn set(host: &Host, path: &str) -> BTreeSet<usize> {
    let list = host.read(path).as_deref().and_then(cpu::cores);
    list.unwrap_or_default().into_iter().collect()
}
