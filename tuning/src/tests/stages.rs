//! The stages about queues, offloads, clocks and limits, on recorded hosts with one fault each.

use tempfile::TempDir;

use super::recorded::Nic;
use super::{faultless, plan, write};
use crate::{
    Feature, Finding, Host, Plan, Ruleset, Verdict, check, check_tuned, gain, stage_names,
};

fn host(root: &TempDir, nic: &Nic) -> Host {
    Host::at(root.path(), Ruleset::Nftables(String::new()), Box::new(nic.clone()))
}

/// Makes a faultless host have one fault.
type Break = fn(&Nic, &TempDir);

/// The finding of a stage on the faultless host, once broken.
fn broken(stage: &str, break_it: Break, plan: &Plan) -> Finding {
    let (root, nic) = faultless();
    break_it(&nic, &root);
    let found = check(&host(&root, &nic), plan);
    found.into_iter().find(|finding| finding.stage == stage).unwrap()
}

fn lan(root: &TempDir) {
    write(root.path(), "sys/class/net/lan/device/vendor", "");
    // A virtual one is no network behind this host.
    write(root.path(), "sys/class/net/stoq0/mtu", "1400");
}

fn systemd(root: &TempDir) {
    write(root.path(), "sys/fs/cgroup/cgroup.controllers", "cpu cpuset");
    write(root.path(), "run/systemd/system/x", "");
}

#[test]
fn each_fault_is_found_alone_and_names_its_command() {
    let cases: [(&str, Break, &str, &str); 7] = [
        (
            "rss-table",
            |nic, _| nic.force_queues(1024, Some(&[0, 0, 0, 0, 1, 1, 1, 1])),
            "0 0 0 0 1 1 1 1",
            "equal 3",
        ),
        ("rings", |nic, _| nic.force_queues(256, None), "rx 256 tx 256", "rx 1024 tx 256"),
        ("gro", |nic, _| nic.force_feature("wan", Feature::Gro, false), "off", "on"),
        ("udp-gro-forwarding", |_, root| lan(root), "lan off", "on"),
        (
            "governor",
            |_, root| {
                for core in 0..3 {
                    let path = format!("sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor");
                    write(root.path(), &path, "ondemand");
                }
            },
            "ondemand on 3 cores",
            "performance",
        ),
        ("cpuset", |_, root| systemd(root), "hypermeshd.service AllowedCPUs none", "0"),
        (
            "isolation",
            |_, root| write(root.path(), "sys/devices/system/cpu/isolated", "0"),
            "isolated without a worker: 0",
            "a worker",
        ),
    ];
    for (stage, break_it, is, should) in cases {
        let (root, nic) = faultless();
        break_it(&nic, &root);
        let cores = Plan { cores: Some(vec![1, 2, 3]), ..plan() };
        let found = check(&host(&root, &nic), &cores);
        let mut bad = found.into_iter().filter(|finding| finding.verdict != Verdict::Good);
        let finding = bad.next().expect("no fault was found");
        assert_eq!(bad.next(), None, "one fault, two findings");
        assert_eq!((finding.stage, finding.verdict), (stage, Verdict::Advice));
        assert_eq!(
            (&finding.is[..], finding.should.starts_with(should)),
            (is, true),
            "{finding:?}"
        );
        let command = format!("stoqctl tune apply {stage}");
        assert_eq!(finding.mend == command, stage != "isolation", "{finding:?}");
        assert!(!finding.why.is_empty() && !finding.mend.is_empty());
    }
}

#[test]
fn what_does_not_apply_here_says_why_and_is_good() {
    let no_forwarding = |_: &Nic, root: &TempDir| {
        lan(root);
        write(root.path(), "proc/sys/net/ipv4/ip_forward", "0");
        write(root.path(), "proc/sys/net/ipv6/conf/all/forwarding", "0");
    };
    let cases: [(&str, Break, Plan, &str); 8] = [
        ("rss-table", |nic, _| nic.force(1, crate::FlowHash(0), &["0"]), plan(), "one queue"),
        (
            "rss-table",
            |nic, _| nic.force_queues(1024, Some(&[0; 8])),
            Plan { port: Some("uring".to_owned()), ..plan() },
            "leaves the queues",
        ),
        ("rings", |nic, _| nic.force_queues(4096, None), plan(), "rx 4096"),
        ("udp-gro-forwarding", no_forwarding, plan(), "forwards nothing"),
        (
            "udp-gro-forwarding",
            |_, root| lan(root),
            Plan { interface: None, ..plan() },
            "no interface configured",
        ),
        ("cpuset", |_, _| (), plan(), "no cgroup"),
        (
            "cpuset",
            |_, root| write(root.path(), "sys/fs/cgroup/cgroup.controllers", "cpuset"),
            plan(),
            "systemd does not manage",
        ),
        ("cpuset", |_, root| systemd(root), Plan { workers: Some(4), ..plan() }, "not pinned"),
    ];
    for (stage, break_it, plan, part) in cases {
        let finding = broken(stage, break_it, &plan);
        assert_eq!(finding.verdict, Verdict::Good, "{finding:?}");
        assert!(finding.is.contains(part), "{finding:?}");
    }
}

#[test]
fn isolation_is_only_ever_advised_and_with_the_cores_of_the_plan() {
    let none = broken("isolation", |_, _| (), &plan());
    assert!(none.is.contains("isolcpus=1-3 nohz_full=1-3 rcu_nocbs=1-3"), "{none:?}");
    let taken = broken(
        "isolation",
        |_, root| write(root.path(), "sys/devices/system/cpu/isolated", "1-3\n"),
        &plan(),
    );
    assert_eq!(
        (taken.verdict, &taken.is[..]),
        (Verdict::Good, "isolated, each with a worker: 1-3")
    );
    assert!(!stage_names().any(|name| name == "isolation"));
}

#[test]
fn a_driver_without_rings_and_tables_is_left_alone() {
    let (root, _) = faultless();
    let nic = Nic::new(root.path(), 0);
    for stage in ["rss-table", "rings"] {
        let finding = check_tuned(&host(&root, &nic), &plan(), Some(stage)).unwrap().remove(0);
        assert_eq!(finding.verdict, Verdict::Good);
        assert!(finding.is.contains("Operation not supported"), "{finding:?}");
    }
}

#[test]
fn every_stage_says_what_it_gains_and_how_that_is_known() {
    for stage in stage_names() {
        let text = gain(stage).unwrap();
        let sourced =
            ["not measured", "cargo xtask", "none"].iter().any(|part| text.contains(part));
        assert!(sourced, "{stage}: {text}");
    }
    assert_eq!(gain("kernel"), None);
}
