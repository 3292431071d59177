//! The stages on real interfaces of the kernel, in a network namespace of its own. Need root.

use std::fs;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use super::plan;
use crate::{
    Feature, Host, Outcome, Plan, Setting, SettingError, Verdict, apply, check_tuned, undo,
};

/// Runs `test` in a new network namespace with a `/sys` that shows it, or says why it cannot. Only
/// this thread enters them; they end with it, and with the programs that it starts. Of the machine
/// itself nothing can be set from there: it has four cores without a clock, and no systemd.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        let apart = unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS);
        let none = None::<&str>;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        let apart = apart.and_then(|()| mount(none, "/", none, private, none));
        let apart = apart
            .and_then(|()| mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none));
        let hide =
            |place: &'static str| mount(Some("none"), place, Some("tmpfs"), MsFlags::empty(), none);
        let apart =
            apart.and_then(|()| hide("/run")).and_then(|()| hide("/sys/devices/system/cpu"));
        if let Err(errno) = apart {
            eprintln!("SKIPPED: needs namespaces of its own, got {errno}; run as root");
            return;
        }
        fs::write("/sys/devices/system/cpu/online", "0-3").unwrap();
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn run(command: &str) {
    let status = Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(status.success(), "{command}");
}

/// A veth `wan` with four queues.
fn make_veth() {
    let queues = "numrxqueues 4 numtxqueues 4";
    run(&format!("ip link add wan {queues} type veth peer name far {queues}"));
    run("ip link set wan up && ip link set far up");
}

fn xdp(workers: u16) -> Plan {
    let port = Some("xdp".to_owned());
    Plan { workers: Some(workers), cores: Some((1..=workers.into()).collect()), port, ..plan() }
}

/// The receive and transmit queues of `wan`, as sysfs lists them, and whether NAPI has threads.
fn queues_and_threaded() -> (usize, usize, String) {
    let queues = fs::read_dir("/sys/class/net/wan/queues").unwrap().flatten();
    let queues: Vec<_> = queues.map(|queue| queue.file_name().into_string().unwrap()).collect();
    let count = |kind| queues.iter().filter(|name| name.starts_with(kind)).count();
    let threaded = fs::read_to_string("/sys/class/net/wan/threaded").unwrap();
    (count("rx-"), count("tx-"), threaded.trim().to_owned())
}

#[test]
fn a_veth_takes_channels_and_threads_and_gives_them_back() {
    in_namespace(|| {
        make_veth();
        run("ethtool -K wan gro on");
        let directory = TempDir::new().unwrap();
        let record = directory.path().join("tuning.json");
        for workers in [1, 3, 2] {
            apply(&Host::this(), &xdp(workers), None, &record).unwrap();
            let (rx, tx, threaded) = queues_and_threaded();
            assert_eq!((rx, tx, threaded.as_str()), (workers.into(), workers.into(), "1"));
            let channels = check_tuned(&Host::this(), &xdp(workers), Some("channels")).unwrap();
            assert_eq!(channels[0].verdict, Verdict::Good, "{channels:?}");
        }
        let text = fs::read_to_string(&record).unwrap();
        assert!(text.contains("rx 4 tx 4"), "the first value is lost: {text}");
        undo(&Host::this(), None, &record).unwrap();
        assert_eq!(queues_and_threaded(), (4, 4, "0".to_owned()));
        assert!(!record.exists());
    });
}

#[test]
fn what_a_veth_cannot_do_is_told_and_not_recorded() {
    in_namespace(|| {
        make_veth();
        let directory = TempDir::new().unwrap();
        let record = directory.path().join("tuning.json");
        let findings = check_tuned(&Host::this(), &xdp(2), Some("flow-hash")).unwrap();
        assert_eq!(findings[0].verdict, Verdict::Advice);
        assert!(findings[0].is.contains("Operation not supported"), "{findings:?}");
        let findings = check_tuned(&Host::this(), &xdp(2), Some("irq-affinity")).unwrap();
        assert!(findings[0].is.contains("no interrupts"), "{findings:?}");
        // Without an XDP program and without GRO a veth has no NAPI.
        let applied = apply(&Host::this(), &xdp(1), Some("threaded-napi"), &record).unwrap();
        let refused = &applied[0].steps[0].outcome;
        assert!(matches!(refused, Outcome::Failed(SettingError::NoNapi(_))), "{applied:?}");
        assert!(!record.exists(), "a refused change is recorded");
    });
}

#[test]
fn a_thread_that_cannot_be_undone_now_can_be_undone_later() {
    in_namespace(|| {
        make_veth();
        run("ethtool -K wan gro on");
        let directory = TempDir::new().unwrap();
        let record = directory.path().join("tuning.json");
        apply(&Host::this(), &xdp(1), Some("threaded-napi"), &record).unwrap();
        assert!(record.exists());
        run("ethtool -K wan gro off");
        let steps = undo(&Host::this(), None, &record).unwrap();
        // A kernel that keeps the flag without NAPI refuses; one that drops it has nothing to do.
        let refused = steps.iter().any(|step| step.outcome.is_refused());
        assert_eq!(refused, record.exists(), "{steps:?}");
        run("ethtool -K wan gro on");
        undo(&Host::this(), None, &record).unwrap();
        assert_eq!(queues_and_threaded().2, "0");
        assert!(!record.exists());
    });
}

#[test]
fn an_interface_that_is_deleted_is_forgotten() {
    in_namespace(|| {
        make_veth();
        let directory = TempDir::new().unwrap();
        let record = directory.path().join("tuning.json");
        apply(&Host::this(), &xdp(1), Some("channels"), &record).unwrap();
        assert!(record.exists());
        run("ip link del wan");
        let steps = undo(&Host::this(), None, &record).unwrap();
        let [step] = steps.as_slice() else { panic!("{steps:?}") };
        assert_eq!(step.what, Setting::Channels { interface: "wan".into() });
        assert!(matches!(step.outcome, Outcome::Failed(SettingError::Gone(_))), "{step:?}");
        assert!(!record.exists());
    });
}

#[test]
fn a_veth_switches_its_features_and_takes_them_back() {
    in_namespace(|| {
        make_veth();
        let shown = |feature: &str| {
            let output = Command::new("ethtool").args(["-k", "wan"]).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix(feature));
            line.unwrap().trim_start_matches(": ").to_owned()
        };
        let directory = TempDir::new().unwrap();
        let record = directory.path().join("tuning.json");
        let host = Host::this();
        assert_eq!(shown("generic-receive-offload"), "off");
        let applied = apply(&host, &xdp(1), Some("gro"), &record).unwrap();
        assert!(matches!(applied[0].steps[0].outcome, Outcome::Changed { .. }), "{applied:?}");
        assert_eq!(shown("generic-receive-offload"), "on");
        undo(&host, None, &record).unwrap();
        assert_eq!(shown("generic-receive-offload"), "off");

        let feature = Feature::UdpGroForwarding;
        let what = Setting::Feature { interface: "wan".into(), feature };
        for value in ["on", "off"] {
            host.set(&what, value).unwrap();
            assert_eq!(
                (shown(feature.name()), host.get(&what).unwrap()),
                (value.into(), value.into())
            );
        }
    });
}

#[test]
fn rings_and_tables_that_a_veth_lacks_are_no_fault() {
    in_namespace(|| {
        make_veth();
        for stage in ["rings", "rss-table"] {
            let findings = check_tuned(&Host::this(), &xdp(2), Some(stage)).unwrap();
            assert_eq!(findings[0].verdict, Verdict::Good, "{findings:?}");
        }
    });
}
