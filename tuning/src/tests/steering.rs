//! The stages of steering on recorded hosts: what they find, and the changes that they list.

use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::recorded::{DEFAULT_CORES, Nic};
use super::{faultless, findings, plan, write};
use crate::{
    Finding, FlowHash, Host, Outcome, Plan, Ruleset, Verdict, apply, check, check_tuned,
    stage_names,
};

fn host(root: &TempDir, nic: &Nic) -> Host {
    Host::at(root.path(), Ruleset::Nftables(String::new()), Box::new(nic.clone()))
}

/// The finding of one stage.
fn found(host: &Host, plan: &Plan, stage: &str) -> Finding {
    check_tuned(host, plan, Some(stage)).unwrap().remove(0)
}

/// What applying one stage did, as `what: from -> to`.
fn applied(root: &TempDir, host: &Host, plan: &Plan, stage: &str) -> Vec<String> {
    let record = root.path().join("tuning.json");
    let steps = apply(host, plan, Some(stage), &record).unwrap().remove(0).steps;
    let changed = steps.into_iter().filter_map(|step| match step.outcome {
        Outcome::Changed { from, to } => Some(format!("{}: {from} -> {to}", step.what)),
        _ => None,
    });
    changed.collect()
}

/// Makes a faultless host have one fault.
type Break = fn(&Nic, &TempDir);

#[test]
fn each_fault_of_steering_is_found_and_names_the_command() {
    let cases: [(&str, Break, &str, &str); 4] = [
        (
            "channels",
            |nic, _| nic.force(1, FlowHash::WITH_PORTS, &["0"]),
            "combined 1",
            "combined 3",
        ),
        ("flow-hash", |nic, _| nic.force(3, FlowHash(0x30), &["0"; 3]), "udp4 sd, udp6 sd", "sdfn"),
        (
            "threaded-napi",
            |_, root| write(root.path(), "sys/class/net/wan/threaded", "0"),
            "0",
            "1",
        ),
        (
            "irq-affinity",
            |nic, _| nic.force(3, FlowHash::WITH_PORTS, &["0", "3", "0-3"]),
            "wan-TxRx-1 on 3",
            "wan-TxRx-1 on 0, wan-TxRx-2 on 0",
        ),
    ];
    for (stage, break_it, is, should) in cases {
        let (root, nic) = faultless();
        break_it(&nic, &root);
        let bad = check(&host(&root, &nic), &plan());
        let mut bad = bad.into_iter().filter(|finding| finding.verdict != Verdict::Good);
        let finding = bad.next().expect("no fault was found");
        assert_eq!(bad.next(), None, "one fault, two findings");
        assert_eq!((finding.stage, finding.verdict), (stage, Verdict::Advice));
        assert!(finding.is.contains(is) && finding.should.contains(should), "{finding:?}");
        assert_eq!(finding.mend, format!("stoqctl tune apply {stage}"));
        assert!(!finding.why.is_empty());
    }
}

#[test]
fn queues_follow_the_workers_as_far_as_the_card_has_them() {
    for (workers, now, expected, mend) in [
        (1, 3, "combined 1", "tune apply channels"),
        (2, 3, "combined 2", "tune apply channels"),
        (4, 1, "combined 3, and `workers = 3`", "tune apply channels"),
        (4, 3, "one queue for each worker", "`workers = 3`"),
    ] {
        let (root, nic) = faultless();
        nic.force(now, FlowHash::WITH_PORTS, &["0"; 3]);
        let finding =
            found(&host(&root, &nic), &Plan { workers: Some(workers), ..plan() }, "channels");
        assert!(finding.should.contains(expected) && finding.mend.contains(mend), "{finding:?}");
    }
}

#[test]
fn workers_are_counted_as_stoqd_counts_them() {
    for (plan, cores, queues) in [
        (Plan { workers: None, ..plan() }, "0-3", "combined 3"),
        (Plan { workers: None, cores: Some(vec![2, 3]), ..plan() }, "0-3", "combined 2"),
        (Plan { workers: None, ..plan() }, "0", "combined 1"),
        (Plan { workers: Some(0), ..plan() }, "0-3", "combined 1"),
    ] {
        let (root, nic) = faultless();
        write(root.path(), "sys/devices/system/cpu/online", cores);
        let host = host(&root, &nic);
        applied(&root, &host, &plan, "channels");
        let finding = found(&host, &plan, "channels");
        assert!(finding.is.starts_with(queues), "{plan:?} on {cores}: {finding:?}");
    }
}

#[test]
fn interrupts_keep_off_the_workers_cores_while_there_is_another() {
    for (workers, cores, expected) in [
        // Cores 0 and 1 are spare: in turns.
        (
            2,
            None,
            ["wan-TxRx-0 smp_affinity_list: 0-3 -> 0", "wan-TxRx-1 smp_affinity_list: 0-3 -> 1"],
        ),
        (
            2,
            Some(vec![0, 2]),
            ["wan-TxRx-0 smp_affinity_list: 0-3 -> 1", "wan-TxRx-1 smp_affinity_list: 0-3 -> 3"],
        ),
        // Each core is a worker's: each interrupt at its own worker.
        (
            4,
            Some(vec![3, 2, 1, 0]),
            ["wan-TxRx-0 smp_affinity_list: 0-3 -> 3", "wan-TxRx-1 smp_affinity_list: 0-3 -> 2"],
        ),
    ] {
        let (root, nic) = faultless();
        nic.force(2, FlowHash::WITH_PORTS, &[DEFAULT_CORES; 2]);
        let plan = Plan { workers: Some(workers), cores, ..plan() };
        assert_eq!(applied(&root, &host(&root, &nic), &plan, "irq-affinity"), expected);
    }
}

#[test]
fn unpinned_workers_and_other_ports_are_left_alone() {
    let (root, nic) = faultless();
    nic.force(1, FlowHash::WITH_PORTS, &[DEFAULT_CORES]);
    write(root.path(), "sys/class/net/wan/threaded", "0");
    let host = host(&root, &nic);
    let unpinned = found(&host, &Plan { workers: Some(4), ..plan() }, "irq-affinity");
    assert_eq!(unpinned.verdict, Verdict::Good, "{unpinned:?}");
    let no_spare = Plan { cores: Some(vec![0, 1, 2, 3]), workers: None, ..plan() };
    assert_eq!(found(&host, &no_spare, "threaded-napi").verdict, Verdict::Good);
    let uring = Plan { port: Some("uring".to_owned()), ..plan() };
    for finding in check_tuned(&host, &uring, None).unwrap() {
        assert_eq!(finding.verdict, Verdict::Good, "{finding:?}");
    }
    let xdp = Plan { port: Some("xdp".to_owned()), ..plan() };
    assert_eq!(found(&host, &xdp, "channels").verdict, Verdict::Advice);
}

#[test]
fn a_driver_that_knows_nothing_is_quoted_and_left_alone() {
    let (root, _) = faultless();
    for queue in ["rx-0", "rx-1", "tx-0"] {
        write(root.path(), &format!("sys/class/net/wan/queues/{queue}/x"), "");
    }
    let host = host(&root, &Nic::new(root.path(), 0));
    for stage in ["channels", "flow-hash"] {
        let finding = found(&host, &plan(), stage);
        assert_eq!(finding.verdict, Verdict::Advice);
        assert!(finding.is.contains("Operation not supported"), "{finding:?}");
        assert!(applied(&root, &host, &plan(), stage).is_empty());
    }
    let fits = Plan { workers: Some(2), ..plan() };
    assert_eq!(found(&host, &fits, "channels").verdict, Verdict::Good);
}

#[test]
fn an_interface_below_virtio_has_its_parents_interrupts() {
    let (root, nic) = faultless();
    let link = root.path().join("sys/class/net/wan/device");
    std::fs::remove_dir_all(&link).unwrap();
    let function = root.path().join("sys/devices/pci/virtio2");
    std::fs::create_dir_all(&function).unwrap();
    symlink(&function, &link).unwrap();
    for (number, name) in
        [(37, "virtio2-config"), (38, "virtio2-input.0"), (39, "virtio2-output.0")]
    {
        write(root.path(), &format!("sys/devices/pci/msi_irqs/{number}"), "");
        write(root.path(), &format!("sys/kernel/irq/{number}/actions"), name);
        write(root.path(), &format!("proc/irq/{number}/smp_affinity_list"), "0-3\n");
    }
    let finding = found(&host(&root, &nic), &plan(), "irq-affinity");
    assert_eq!(finding.should, "virtio2-input.0 on 0, virtio2-output.0 on 0");
}

#[test]
fn a_running_irqbalance_is_named() {
    let finding = findings(&[("run/irqbalance/x.sock", Some(""))], "", &plan());
    let finding = finding.into_iter().find(|finding| finding.stage == "irq-affinity").unwrap();
    assert_eq!(finding.verdict, Verdict::Advice);
    assert!(finding.mend.contains("irqbalance"), "{finding:?}");
}

#[test]
fn names_that_are_not_there_are_refused() {
    let (root, nic) = faultless();
    let host = host(&root, &nic);
    let error = check_tuned(&host, &plan(), Some("colour")).unwrap_err().to_string();
    assert!(stage_names().all(|name| error.contains(name)), "{error}");
    for name in ["eth7", "..", "../net/wan", ""] {
        let plan = Plan { interface: Some(name.to_owned()), ..plan() };
        let error = check_tuned(&host, &plan, None).unwrap_err().to_string();
        assert!(error.contains("transport.interface"), "{error}");
    }
    let none = Plan { interface: None, ..plan() };
    assert!(check_tuned(&host, &none, None).unwrap().iter().all(|f| f.verdict == Verdict::Good));
}
