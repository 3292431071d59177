//! The stages, on the files of a faultless host and of hosts with one fault each.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::{Finding, Host, Plan, Ruleset, Verdict, check};
use recorded::{Nic, faultless_nic};

mod cores;
mod kernel;
mod recorded;
mod stages;
mod steering;
mod undo;

/// A faultless gateway: what the stages read, and nothing else.
const FAULTLESS: &[(&str, &str)] = &[
    ("proc/sys/kernel/osrelease", "6.12.5-amd64\n"),
    ("proc/self/status", "Name:\tstoqctl\nCapBnd:\t000001ffffffffff\n"),
    ("dev/net/tun", ""),
    ("proc/sys/kernel/io_uring_disabled", "0\n"),
    ("proc/sys/net/ipv4/ip_forward", "1\n"),
    ("proc/sys/net/ipv6/conf/all/forwarding", "1\n"),
    ("sys/class/net/wan/operstate", "up\n"),
    ("sys/class/net/wan/mtu", "1500\n"),
    ("proc/sys/net/ipv4/conf/all/rp_filter", "0\n"),
    ("proc/sys/net/ipv4/conf/wan/rp_filter", "2\n"),
    ("proc/sys/net/core/rmem_max", "8388608\n"),
    ("proc/sys/net/core/wmem_max", "212992\n"),
    ("proc/net/udp", "  sl  local_address rem_address   st\n"),
    ("sys/devices/system/cpu/online", "0-3\n"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "schedutil\n"),
];

const BOUND: &str = "  sl  local_address rem_address   st\n  1: 00000000:244C 00000000:0000 07\n";

fn plan() -> Plan {
    let (interface, listen_ports) = (Some("wan".to_owned()), vec![9292]);
    Plan { interface, listen_ports, workers: Some(3), ..Plan::default() }
}

fn write(root: &Path, path: &str, contents: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
}

/// The faultless host, with a network card whose settings are as they should be.
fn faultless() -> (TempDir, Nic) {
    let root = TempDir::new().unwrap();
    for (path, contents) in FAULTLESS {
        write(root.path(), path, contents);
    }
    let nic = faultless_nic(root.path());
    (root, nic)
}

/// The findings on the faultless host with these files instead; `None` removes one.
fn findings(faults: &[(&str, Option<&str>)], ruleset: &str, plan: &Plan) -> Vec<Finding> {
    let (root, nic) = faultless();
    for (path, contents) in faults {
        match contents {
            Some(contents) => write(root.path(), path, contents),
            None => fs::remove_file(root.path().join(path)).unwrap(),
        }
    }
    check(&Host::at(root.path(), Ruleset::Nftables(ruleset.to_owned()), Box::new(nic)), plan)
}

/// The one finding that is not good.
fn fault(findings: Vec<Finding>) -> Finding {
    let mut bad = findings.into_iter().filter(|finding| finding.verdict != Verdict::Good);
    let found = bad.next().expect("no fault was found");
    assert_eq!(bad.next(), None, "one fault, two findings");
    found
}

#[test]
fn a_faultless_host_has_only_good_findings() {
    for finding in findings(&[], "", &plan()) {
        assert_eq!(finding.verdict, Verdict::Good, "{finding:?}");
    }
}

#[test]
fn each_fault_is_found_by_its_stage_with_a_remedy() {
    let (problem, advice) = (Verdict::Problem, Verdict::Advice);
    for (path, contents, stage, verdict, mend) in [
        ("proc/self/status", Some("CapBnd:\t0\n"), "capabilities", problem, "--cap-add NET_ADMIN"),
        ("dev/net/tun", None, "tun", problem, "modprobe tun"),
        ("proc/sys/kernel/io_uring_disabled", Some("2"), "io_uring", advice, "io_uring_disabled=0"),
        ("proc/sys/kernel/osrelease", Some("6.1.0"), "offloads", advice, "newer kernel"),
        ("proc/sys/net/ipv4/ip_forward", Some("0"), "forwarding-v4", advice, "ip_forward=1"),
        ("proc/sys/net/ipv6/conf/all/forwarding", None, "forwarding-v6", advice, "ipv6.disable"),
        ("sys/class/net/wan/operstate", Some("down"), "interface", problem, "ip link set wan up"),
        ("sys/class/net/wan/mtu", Some("1300"), "mtu", advice, "mtu 1500"),
        ("sys/class/net/wan/mtu", Some("1200"), "mtu", problem, "mtu 1500"),
        ("proc/sys/net/ipv4/conf/wan/rp_filter", Some("1"), "rp_filter", advice, "rp_filter=2"),
        (
            "proc/sys/net/core/rmem_max",
            Some("212992"),
            "receive-buffer",
            advice,
            "rmem_max=8388608",
        ),
        ("proc/sys/net/core/wmem_max", Some("65536"), "send-buffer", advice, "wmem_max=212992"),
        ("proc/net/udp", Some(BOUND), "port", problem, "ss -ulpn"),
        ("sys/devices/system/cpu/online", Some("0"), "cores", advice, "another core"),
        (
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
            Some("powersave"),
            "governor",
            advice,
            "stoqctl tune apply governor",
        ),
    ] {
        let found = fault(findings(&[(path, contents)], "", &plan()));
        assert_eq!((found.stage, found.verdict), (stage, verdict), "{found:?}");
        assert!(found.mend.contains(mend), "{found:?}");
        assert!(!found.why.is_empty() && !found.should.is_empty(), "{found:?}");
    }
}

#[test]
fn an_old_kernel_is_a_problem_and_explains_what_else_it_lacks() {
    let found = findings(&[("proc/sys/kernel/osrelease", Some("5.10.0"))], "", &plan());
    let bad = found.iter().filter(|finding| finding.verdict != Verdict::Good);
    let stages: Vec<_> = bad.map(|finding| (finding.stage, finding.verdict)).collect();
    let (problem, advice) = (Verdict::Problem, Verdict::Advice);
    assert_eq!(stages, [("kernel", problem), ("io_uring", advice), ("offloads", advice)]);
}

#[test]
fn the_larger_of_both_reverse_path_filters_counts() {
    let all = ("proc/sys/net/ipv4/conf/all/rp_filter", Some("2"));
    let strict = ("proc/sys/net/ipv4/conf/wan/rp_filter", Some("1"));
    let found = findings(&[all, strict], "", &plan());
    assert!(found.iter().all(|finding| finding.verdict == Verdict::Good), "{found:?}");
}

#[test]
fn an_absent_interface_names_those_that_are_there() {
    let missing = Plan { interface: Some("eth7".to_owned()), ..plan() };
    let found = fault(findings(&[], "", &missing));
    assert_eq!((found.stage, found.should.as_str()), ("interface", "one of wan"));
}

#[test]
fn a_running_daemon_must_hold_its_port() {
    let running = Plan { daemon_runs: true, ..plan() };
    let held = findings(&[("proc/net/udp", Some(BOUND))], "", &running);
    assert!(held.iter().all(|finding| finding.verdict == Verdict::Good), "{held:?}");
    assert_eq!(fault(findings(&[], "", &running)).stage, "port");
    let dialling = Plan { listen_ports: Vec::new(), ..running };
    let found = findings(&[], "", &dialling);
    assert!(found.iter().all(|finding| finding.verdict == Verdict::Good), "{found:?}");
}

#[test]
fn a_firewall_that_drops_input_must_name_the_port() {
    let chain = "type filter hook input priority filter; policy drop;";
    let found = fault(findings(&[], chain, &plan()));
    assert_eq!(found.stage, "firewall");
    assert!(found.mend.contains("udp dport 9292 accept"), "{found:?}");
    for open in [
        format!("{chain}\nudp dport 9292 accept"),
        "type filter hook input priority filter; policy accept;".to_owned(),
        "type filter hook forward priority filter; policy drop;".to_owned(),
    ] {
        let found = findings(&[], &open, &plan());
        assert!(found.iter().all(|finding| finding.verdict == Verdict::Good), "{open}: {found:?}");
    }
}

#[test]
fn a_clock_that_the_processor_manages_is_good() {
    let found = findings(
        &[
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", Some("powersave")),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_driver", Some("intel_pstate")),
        ],
        "",
        &plan(),
    );
    assert!(found.iter().all(|finding| finding.verdict == Verdict::Good), "{found:?}");
}

#[test]
fn a_host_of_which_nothing_can_be_read_is_no_panic() {
    let root = TempDir::new().unwrap();
    let nic = Nic::new(root.path(), 0);
    let host = Host::at(root.path(), Ruleset::Unknown("no nft".to_owned()), Box::new(nic));
    let found = check(&host, &plan());
    assert!(
        found.iter().any(|finding| finding.stage == "firewall" && finding.is.contains("no nft"))
    );
    assert!(found.iter().any(|finding| finding.verdict == Verdict::Problem));
}

#[test]
fn this_host_is_looked_at_without_a_panic() {
    let found = check(&Host::this(), &plan());
    assert!(found.iter().any(|finding| finding.stage == "kernel" && finding.is.contains("Linux")));
}
