//! The plan of cores on the `/sys` of machines of several shapes, as such machines show it.

use tempfile::TempDir;

use super::recorded::Nic;
use super::write;
use crate::{CorePlan, Host, Ruleset, Topology, Wish, control_cores};

/// A machine: the files that differ from machine to machine, and nothing else.
type Shape = &'static [(&'static str, &'static str)];

const SYSTEM: &str = "sys/devices/system";

/// A small virtual machine.
const TWO_CORES: Shape = &[
    ("cpu/online", "0-1"),
    ("cpu/cpu0/topology/thread_siblings_list", "0"),
    ("cpu/cpu1/topology/thread_siblings_list", "1"),
    ("node/node0/cpulist", "0-1"),
];

/// A virtual machine with both threads of one core.
const ONE_CORE_TWO_THREADS: Shape = &[
    ("cpu/online", "0-1"),
    ("cpu/cpu0/topology/thread_siblings_list", "0-1"),
    ("cpu/cpu1/topology/thread_siblings_list", "0-1"),
];

/// A desktop processor: the second threads are counted after the first ones.
const FOUR_CORES_EIGHT_THREADS: Shape = &[
    ("cpu/online", "0-7"),
    ("cpu/cpu0/topology/thread_siblings_list", "0,4"),
    ("cpu/cpu1/topology/thread_siblings_list", "1,5"),
    ("cpu/cpu2/topology/thread_siblings_list", "2,6"),
    ("cpu/cpu3/topology/thread_siblings_list", "3,7"),
    ("cpu/cpu4/topology/thread_siblings_list", "0,4"),
    ("cpu/cpu5/topology/thread_siblings_list", "1,5"),
    ("cpu/cpu6/topology/thread_siblings_list", "2,6"),
    ("cpu/cpu7/topology/thread_siblings_list", "3,7"),
    ("node/node0/cpulist", "0-7"),
];

/// A server of two sockets with four cores each and memory of its own each.
const TWO_NODES: Shape = &[
    ("cpu/online", "0-7"),
    ("node/node0/cpulist", "0-3"),
    ("node/node1/cpulist", "4-7"),
    // Memory without cores, as of a persistent module.
    ("node/node2/cpulist", "\n"),
];

/// Two fast cores with two threads each, four slow ones without.
const HYBRID: Shape = &[
    ("cpu/online", "0-7"),
    ("cpu/cpu0/topology/thread_siblings_list", "0-1"),
    ("cpu/cpu1/topology/thread_siblings_list", "0-1"),
    ("cpu/cpu2/topology/thread_siblings_list", "2-3"),
    ("cpu/cpu3/topology/thread_siblings_list", "2-3"),
    ("node/node0/cpulist", "0-7"),
];

/// A board with four slow and two fast cores, which tell how fast.
const BIG_LITTLE: Shape = &[
    ("cpu/online", "0-5"),
    ("cpu/cpu0/cpu_capacity", "446"),
    ("cpu/cpu1/cpu_capacity", "446"),
    ("cpu/cpu2/cpu_capacity", "446"),
    ("cpu/cpu3/cpu_capacity", "446"),
    ("cpu/cpu4/cpu_capacity", "1024"),
    ("cpu/cpu5/cpu_capacity", "1024"),
];

/// A host of this shape, with these files besides.
fn machine(shape: Shape, besides: &[(&str, &str)]) -> (TempDir, Host) {
    let root = TempDir::new().unwrap();
    for (path, contents) in shape {
        write(root.path(), &format!("{SYSTEM}/{path}"), contents);
    }
    for (path, contents) in besides {
        write(root.path(), path, contents);
    }
    let nic = Nic::new(root.path(), 0);
    let host = Host::at(root.path(), Ruleset::Unknown(String::new()), Box::new(nic));
    (root, host)
}

fn planned(shape: Shape, besides: &[(&str, &str)]) -> CorePlan {
    let (_root, host) = machine(shape, besides);
    CorePlan::new(&Topology::of(&host, Some("wan")), Wish::default())
}

/// Workers' cores, the control plane's, and those beside a worker.
fn parts(plan: &CorePlan) -> (&[usize], &[usize], &[usize]) {
    (&plan.pinned, &plan.control, &plan.beside)
}

#[track_caller]
fn says(plan: &CorePlan, part: &str) {
    assert!(plan.why.iter().any(|why| why.contains(part)), "{plan:?}");
}

#[test]
fn two_cores_are_one_workers_and_one_for_the_rest() {
    let plan = planned(TWO_CORES, &[]);
    assert_eq!((plan.workers, parts(&plan)), (1, (&[1][..], &[0][..], &[][..])));
    let plan = planned(ONE_CORE_TWO_THREADS, &[]);
    assert_eq!((plan.workers, parts(&plan)), (1, (&[1][..], &[0][..], &[][..])));
}

#[test]
fn a_single_core_is_everybodys() {
    let plan = planned(&[("cpu/online", "0")], &[]);
    assert_eq!((plan.workers, parts(&plan)), (1, (&[][..], &[0][..], &[][..])));
    says(&plan, "none is pinned");
}

#[test]
fn without_smt_all_cores_but_the_first_are_workers() {
    let plan = planned(&[("cpu/online", "0-3")], &[]);
    assert_eq!((plan.workers, parts(&plan)), (3, (&[1, 2, 3][..], &[0][..], &[][..])));
}

#[test]
fn workers_do_not_share_a_physical_core() {
    let plan = planned(FOUR_CORES_EIGHT_THREADS, &[]);
    assert_eq!((plan.workers, parts(&plan)), (3, (&[5, 6, 7][..], &[0, 4][..], &[1, 2, 3][..])));
    says(&plan, "one worker for each physical core");
    says(&plan, "left to the control plane");
    assert_eq!(plan.spare(), [0, 1, 2, 3, 4]);
}

#[test]
fn workers_are_near_the_interface() {
    let near = [("sys/class/net/wan/device/numa_node", "1")];
    let plan = planned(TWO_NODES, &near);
    assert_eq!((plan.workers, parts(&plan)), (4, (&[4, 5, 6, 7][..], &[0, 1, 2, 3][..], &[][..])));
    says(&plan, "NUMA node 1");
    let first = planned(TWO_NODES, &[("sys/class/net/wan/device/numa_node", "0")]);
    assert_eq!(parts(&first), (&[1, 2, 3][..], &[0, 4, 5, 6, 7][..], &[][..]));
    for nowhere in [&[("sys/class/net/wan/device/numa_node", "-1")][..], &[]] {
        let plan = planned(TWO_NODES, nowhere);
        assert_eq!((plan.workers, &plan.control[..]), (7, &[0][..]), "{nowhere:?}");
    }
}

#[test]
fn workers_take_the_fast_cores() {
    let plan = planned(HYBRID, &[("sys/devices/cpu_atom/cpus", "4-7")]);
    assert_eq!((plan.workers, parts(&plan)), (2, (&[1, 3][..], &[4, 5, 6, 7][..], &[0, 2][..])));
    says(&plan, "fast cores");
    let plan = planned(BIG_LITTLE, &[]);
    assert_eq!((plan.workers, parts(&plan)), (2, (&[4, 5][..], &[0, 1, 2, 3][..], &[][..])));
}

#[test]
fn a_container_is_planned_within_its_limit() {
    let limit = ("sys/fs/cgroup/cpuset.cpus.effective", "2-3,6");
    let mask = ("proc/self/status", "Cpus_allowed:\t4c\nCpus_allowed_list:\t2-3,6\n");
    let expected = (&[6][..], &[3][..], &[2][..]);
    for besides in [&[limit][..], &[mask], &[limit, mask]] {
        let plan = planned(FOUR_CORES_EIGHT_THREADS, besides);
        assert_eq!((plan.workers, parts(&plan)), (1, expected), "{besides:?}");
    }
}

#[test]
fn isolated_cores_are_the_workers_though_nobody_is_born_there() {
    let isolated = ("sys/devices/system/cpu/isolated", "2-3,6-7");
    let born = ("proc/self/status", "Cpus_allowed_list:\t0-1,4-5\n");
    let plan = planned(FOUR_CORES_EIGHT_THREADS, &[isolated, born]);
    assert_eq!((plan.workers, parts(&plan)), (2, (&[6, 7][..], &[0, 1, 4, 5][..], &[2, 3][..])));
    says(&plan, "isolated");
    // Somebody narrowed the mask: that is to be followed.
    let narrowed = ("proc/self/status", "Cpus_allowed_list:\t1,4\n");
    let plan = planned(FOUR_CORES_EIGHT_THREADS, &[isolated, narrowed]);
    assert_eq!(parts(&plan), (&[4][..], &[1][..], &[][..]));
}

#[test]
fn what_is_configured_wins() {
    let (_root, host) = machine(FOUR_CORES_EIGHT_THREADS, &[]);
    let topology = Topology::of(&host, None);
    let plan = |workers, cores| CorePlan::new(&topology, Wish { workers, cores });
    let listed = plan(None, Some(&[4, 1][..]));
    assert_eq!(
        (listed.workers, parts(&listed)),
        (2, (&[4, 1][..], &[2, 3, 6, 7][..], &[0, 5][..]))
    );
    assert_eq!(plan(Some(1), Some(&[4, 1])).pinned, [4]);
    assert_eq!(plan(Some(2), None).pinned, [6, 7]);
    // More workers than physical cores share some; as many as threads are not pinned.
    assert_eq!(plan(Some(5), None).pinned, [3, 4, 5, 6, 7]);
    assert_eq!(parts(&plan(Some(7), None)).1, [0]);
    let all = plan(Some(8), None);
    assert_eq!((all.workers, &all.pinned[..], all.control.len()), (8, &[][..], 8));
    assert_eq!((plan(Some(0), None).workers, plan(Some(9999), None).workers), (1, 64));
}

#[test]
fn daemons_with_masks_of_their_own_agree_on_the_shared_plan() {
    let limit = ("sys/fs/cgroup/cpuset.cpus.effective", "0-7");
    let narrowed = ("proc/self/status", "Cpus_allowed_list:\t0,4\n");
    let (_root, host) = machine(FOUR_CORES_EIGHT_THREADS, &[limit, narrowed]);
    let shared = CorePlan::new(&Topology::shared(&host, None), Wish::default());
    assert_eq!(shared, planned(FOUR_CORES_EIGHT_THREADS, &[]));
    assert_eq!(control_cores(&host), None, "somebody has chosen already");
}

#[test]
fn the_control_plane_finds_its_cores_without_the_configuration() {
    for node in ["0", "1"] {
        let near = [("sys/class/net/wan/device/numa_node", node)];
        let (_root, host) = machine(TWO_NODES, &near);
        let plan = planned(TWO_NODES, &near);
        let control = control_cores(&host).unwrap();
        assert!(control.iter().all(|core| plan.control.contains(core)), "{control:?} {plan:?}");
    }
    let (_root, single) = machine(&[("cpu/online", "0")], &[]);
    assert_eq!(control_cores(&single), None);
}

#[test]
fn a_host_that_shows_nothing_has_one_worker() {
    let plan = planned(&[], &[("sys/devices/system/cpu/online", "x")]);
    assert_eq!((plan.workers, parts(&plan)), (1, (&[][..], &[][..], &[][..])));
}

#[test]
fn a_plan_never_shares_a_core_and_forgets_none() {
    for shape in
        [TWO_CORES, ONE_CORE_TWO_THREADS, FOUR_CORES_EIGHT_THREADS, TWO_NODES, HYBRID, BIG_LITTLE]
    {
        let (_root, host) = machine(shape, &[("sys/devices/system/cpu/isolated", "1")]);
        let topology = Topology::of(&host, None);
        for workers in (0..10).map(Some).chain([None]) {
            let plan = CorePlan::new(&topology, Wish { workers, cores: None });
            let mut all = [&plan.pinned[..], &plan.control, &plan.beside].concat();
            let count = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), count, "a core twice: {plan:?}");
            assert!(!plan.control.is_empty(), "{plan:?}");
            assert!(plan.pinned.is_empty() || plan.pinned.len() == usize::from(plan.workers));
        }
    }
}
