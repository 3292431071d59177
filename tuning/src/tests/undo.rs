//! What was applied is undone exactly: by any sequence of applying and undoing, through reboots and
//! refusals.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::recorded::Nic;
use super::{FAULTLESS, plan, write};
use crate::{
    Feature, Flow, FlowHash, Host, Outcome, Plan, RecordError, Ruleset, Setting, SettingError,
    Step, Sysctl, TuneError, apply, check_tuned, stage_names, undo,
};

const MOST_QUEUES: u32 = 4;
const THREADED: &str = "sys/class/net/wan/threaded";

/// What a host comes up with.
#[derive(Clone, Debug)]
struct Boot {
    channels: u32,
    hash: FlowHash,
    threaded: &'static str,
    cores: Vec<&'static str>,
    rings: u32,
    table: Option<[u32; 8]>,
    features: [bool; 2],
    receive_max: &'static str,
    governor: &'static str,
}

const RECEIVE_MAX: &str = "proc/sys/net/core/rmem_max";
const GOVERNOR: &str = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
const BOOT_ID: &str = "proc/sys/kernel/random/boot_id";
const DROP_IN: &str = "run/systemd/system/hypermeshd.service.d/50-stoq-cores.conf";

/// A host that is set, with its record.
struct Bed {
    root: TempDir,
    nic: Nic,
    host: Host,
    record: PathBuf,
    boot: Boot,
    boots: Cell<u32>,
}

impl Bed {
    fn new(boot: Boot) -> Self {
        // In memory: the record is synced to disk before each change, hundreds of times here.
        let memory = TempDir::new_in("/dev/shm");
        let root = memory.or_else(|_| TempDir::new()).unwrap();
        for (path, contents) in FAULTLESS {
            write(root.path(), path, contents);
        }
        let nic = Nic::new(root.path(), MOST_QUEUES);
        let ruleset = Ruleset::Nftables(String::new());
        let host = Host::at(root.path(), ruleset, Box::new(nic.clone()));
        let record = root.path().join("var/lib/stoq/tuning.json");
        write(root.path(), "sys/fs/cgroup/cgroup.controllers", "cpuset cpu io\n");
        write(root.path(), "sys/class/net/lan/device/vendor", "");
        let bed = Self { root, nic, host, record, boot, boots: Cell::new(0) };
        bed.reboot();
        bed
    }

    fn reboot(&self) {
        let (root, boot) = (self.root.path(), &self.boot);
        self.boots.set(self.boots.get() + 1);
        write(root, BOOT_ID, &format!("boot-{}\n", self.boots.get()));
        let fits = |table: &&[u32; 8]| table.iter().all(|queue| *queue < boot.channels);
        self.nic.force(boot.channels, boot.hash, &boot.cores);
        self.nic.force_queues(boot.rings, boot.table.as_ref().filter(fits).map(|table| &table[..]));
        self.nic.force_feature("wan", Feature::Gro, boot.features[0]);
        self.nic.force_feature("lan", Feature::UdpGroForwarding, boot.features[1]);
        for (path, value) in
            [(THREADED, boot.threaded), (RECEIVE_MAX, boot.receive_max), (GOVERNOR, boot.governor)]
        {
            write(root, path, value);
        }
        drop(fs::remove_dir_all(root.join("run")));
        fs::create_dir_all(root.join("run/systemd/system")).unwrap();
    }

    /// Every value that a stage can change.
    fn values(&self) -> Vec<String> {
        let interface = "wan".to_owned();
        let mut settings = vec![
            Setting::Channels { interface: interface.clone() },
            Setting::ThreadedNapi { interface: interface.clone() },
            Setting::Rings { interface: interface.clone() },
            Setting::Spread { interface: interface.clone() },
            Setting::Feature { interface: interface.clone(), feature: Feature::Gro },
            Setting::Feature { interface: "lan".into(), feature: Feature::UdpGroForwarding },
            Setting::Sysctl { key: Sysctl::ReceiveMax },
            Setting::Sysctl { key: Sysctl::SendMax },
            Setting::Governor { core: 0 },
            Setting::ControlCores,
        ];
        let hash = |flow| Setting::FlowHash { interface: interface.clone(), flow };
        settings.extend(Flow::ALL.map(hash));
        let name = |queue| format!("wan-TxRx-{queue}");
        let irq = |queue| Setting::IrqAffinity { interface: interface.clone(), irq: name(queue) };
        settings.extend((0..MOST_QUEUES).map(irq));
        let value = |what| self.host.get(what).unwrap_or_else(|error| error.to_string());
        settings.iter().map(value).collect()
    }

    fn record_is_gone(&self) -> bool {
        let directory = self.record.parent().unwrap();
        fs::read_dir(directory).map_or(true, |entries| entries.count() == 0)
    }
}

/// What happens to a host.
#[derive(Clone, Debug)]
enum Event {
    Apply { stage: Option<&'static str>, workers: u16 },
    Undo { stage: Option<&'static str> },
    Reboot,
    Refuse(bool),
}

fn stages() -> impl Strategy<Value = Option<&'static str>> {
    prop::option::of(prop::sample::select(stage_names().collect::<Vec<_>>()))
}

fn boots() -> impl Strategy<Value = Boot> {
    let hashes =
        prop::sample::select(vec![FlowHash(0), FlowHash(0x30), FlowHash(0xf0), FlowHash(1 << 40)]);
    let cores = prop::sample::select(vec!["0-3", "0", "2", "1,3"]);
    let cores = prop::collection::vec(cores, MOST_QUEUES as usize);
    let table = prop::option::of(prop::array::uniform8(0..MOST_QUEUES));
    let queues = (1..=MOST_QUEUES, prop::sample::select(vec![64, 1024, 4096]), table);
    let receive_max = prop::sample::select(vec!["212992", "8388608", "16777216"]);
    let governor = prop::sample::select(vec!["powersave", "schedutil", "performance"]);
    let threaded = prop::sample::select(vec!["0", "1"]);
    let rest = (prop::array::uniform2(any::<bool>()), receive_max, governor);
    (queues, hashes, threaded, cores, rest).prop_map(
        |((channels, rings, table), hash, threaded, cores, (features, receive_max, governor))| {
            Boot { channels, hash, threaded, cores, rings, table, features, receive_max, governor }
        },
    )
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let apply = (stages(), 1u16..=5).prop_map(|(stage, workers)| Event::Apply { stage, workers });
    let event = prop_oneof![
        4 => apply,
        3 => stages().prop_map(|stage| Event::Undo { stage }),
        1 => Just(Event::Reboot),
        1 => any::<bool>().prop_map(Event::Refuse),
    ];
    prop::collection::vec(event, 0..12)
}

fn run(bed: &Bed, event: &Event) {
    match event {
        Event::Apply { stage, workers } => {
            let plan = Plan { workers: Some(*workers), ..plan() };
            apply(&bed.host, &plan, *stage, &bed.record).unwrap();
        }
        Event::Undo { stage } => drop(undo(&bed.host, *stage, &bed.record).unwrap()),
        Event::Reboot => bed.reboot(),
        Event::Refuse(refuse) => bed.nic.refuse(*refuse),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn any_sequence_is_undone_exactly(boot in boots(), events in events()) {
        let bed = Bed::new(boot);
        let before = bed.values();
        for event in &events {
            run(&bed, event);
        }
        bed.nic.refuse(false);
        undo(&bed.host, None, &bed.record).unwrap();
        prop_assert_eq!(bed.values(), before);
        prop_assert!(bed.record_is_gone());
    }

    #[test]
    fn what_is_applied_is_found_good(boot in boots(), workers in 1u16..=4) {
        let bed = Bed::new(boot);
        let plan = Plan { workers: Some(workers), ..plan() };
        apply(&bed.host, &plan, None, &bed.record).unwrap();
        let applied = bed.values();
        for finding in check_tuned(&bed.host, &plan, None).unwrap() {
            prop_assert_eq!(finding.verdict, crate::Verdict::Good, "{:?}", finding);
        }
        apply(&bed.host, &plan, None, &bed.record).unwrap();
        prop_assert_eq!(bed.values(), applied, "applied twice is applied");
    }
}

fn boot() -> Boot {
    Boot {
        channels: 4,
        hash: FlowHash(0x30),
        threaded: "0",
        cores: vec!["1,3"; 4],
        rings: 64,
        table: Some([0, 0, 1, 2, 3, 3, 2, 1]),
        features: [false; 2],
        receive_max: "212992",
        governor: "powersave",
    }
}

fn remove_interface(root: &Path) {
    fs::remove_dir_all(root.join("sys/class/net/wan")).unwrap();
}

#[test]
fn what_is_gone_with_its_interface_is_said_and_forgotten() {
    let bed = Bed::new(boot());
    apply(&bed.host, &plan(), None, &bed.record).unwrap();
    remove_interface(bed.root.path());
    let steps = undo(&bed.host, None, &bed.record).unwrap();
    let of_wan = |step: &&Step| step.what.interface() == Some("wan");
    assert!(steps.iter().filter(of_wan).count() >= 8, "{steps:?}");
    for step in steps.iter().filter(of_wan) {
        let Outcome::Failed(SettingError::Gone(what)) = &step.outcome else { panic!("{step:?}") };
        assert_eq!((what.as_str(), step.outcome.is_refused()), ("the interface wan", false));
    }
    assert!(bed.record_is_gone());
    assert!(undo(&bed.host, None, &bed.record).unwrap().is_empty());
}

#[test]
fn a_refusal_is_told_leaves_no_record_and_stops_no_other_stage() {
    let bed = Bed::new(boot());
    let before = bed.values();
    bed.nic.refuse(true);
    let plan = Plan { workers: Some(2), ..plan() };
    for applied in apply(&bed.host, &plan, None, &bed.record).unwrap() {
        let refused = applied.steps.iter().any(|step| step.outcome.is_refused());
        let by_driver =
            ["rss-table", "channels", "rings", "flow-hash", "gro", "udp-gro-forwarding"]
                .contains(&applied.finding.stage);
        assert_eq!(refused, by_driver, "{applied:?}");
    }
    let changed = fs::read_to_string(&bed.record).unwrap();
    assert!(changed.contains("threaded-napi") && !changed.contains("flow-hash"), "{changed}");
    assert!(!changed.contains("\"channels\""), "{changed}");
    undo(&bed.host, None, &bed.record).unwrap();
    assert_eq!(bed.values(), before);
}

#[test]
fn interrupts_that_came_back_with_their_channels_keep_their_cores() {
    let bed = Bed::new(Boot { channels: 2, table: None, ..boot() });
    let before = bed.values();
    let plan = Plan { workers: Some(1), ..plan() };
    apply(&bed.host, &plan, None, &bed.record).unwrap();
    undo(&bed.host, Some("channels"), &bed.record).unwrap();
    undo(&bed.host, None, &bed.record).unwrap();
    assert_eq!(bed.values(), before);
}

#[test]
fn a_refused_undo_stays_recorded_for_the_next() {
    let bed = Bed::new(boot());
    let before = bed.values();
    apply(&bed.host, &plan(), None, &bed.record).unwrap();
    bed.nic.refuse(true);
    let steps = undo(&bed.host, None, &bed.record).unwrap();
    assert!(steps.iter().any(|step| step.outcome.is_refused()), "{steps:?}");
    bed.nic.refuse(false);
    undo(&bed.host, None, &bed.record).unwrap();
    assert_eq!(bed.values(), before);
    assert!(bed.record_is_gone());
}

#[test]
fn nothing_is_changed_when_it_cannot_be_recorded() {
    let bed = Bed::new(boot());
    let before = bed.values();
    write(bed.root.path(), "var/lib/stoq/tuning.json", "{\"version\":1,\"settings\":[]}");
    let error = apply(&bed.host, &plan(), None, &bed.record).unwrap_err();
    assert!(matches!(error, TuneError::Record(RecordError::Foreign { .. })), "{error}");
    assert_eq!(bed.values(), before);
    let error = undo(&bed.host, None, &bed.record).unwrap_err();
    assert!(matches!(error, TuneError::Record(RecordError::Foreign { .. })), "{error}");
}

#[test]
fn values_that_are_none_are_refused_before_the_driver_sees_them() {
    let bed = Bed::new(boot());
    let interface = "wan".to_owned();
    for (what, value) in [
        (Setting::Channels { interface: interface.clone() }, "combined -1"),
        (Setting::FlowHash { interface: interface.clone(), flow: Flow::Udp4 }, "sdfn; reboot"),
        (Setting::ThreadedNapi { interface: interface.clone() }, "yes"),
        (Setting::Spread { interface: interface.clone() }, "equal -1"),
        (Setting::Rings { interface: interface.clone() }, "rx 1"),
        (Setting::Feature { interface: interface.clone(), feature: Feature::Gro }, "maybe"),
        (Setting::IrqAffinity { interface, irq: "wan-TxRx-0".into() }, "0-"),
        (Setting::Sysctl { key: Sysctl::SendMax }, "1e9"),
        (Setting::Governor { core: 0 }, "../../x"),
        (Setting::ControlCores, "0\n[Service]\nExecStart=/bin/sh"),
    ] {
        let before = bed.values();
        let error = bed.host.set(&what, value).unwrap_err();
        assert!(matches!(error, SettingError::Value { .. }), "{what}: {error}");
        assert_eq!(bed.values(), before);
    }
}

#[test]
fn after_a_reboot_what_an_operator_set_since_is_left() {
    let bed = Bed::new(boot());
    apply(&bed.host, &plan(), None, &bed.record).unwrap();
    assert!(fs::read_to_string(&bed.record).unwrap().contains("boot-1"));
    bed.reboot();
    write(bed.root.path(), RECEIVE_MAX, "33554432");
    bed.nic.force_queues(2048, None);
    let chosen = bed.values();
    let steps = undo(&bed.host, None, &bed.record).unwrap();
    let shown = |what: &Setting| steps.iter().find(|step| step.what == *what).unwrap();
    let receive = shown(&Setting::Sysctl { key: Sysctl::ReceiveMax });
    let Outcome::Rebooted(Some(now)) = &receive.outcome else { panic!("{receive:?}") };
    assert_eq!(now, "33554432");
    assert_eq!(bed.values(), chosen);
    assert!(bed.record_is_gone());
}

#[test]
fn applied_again_after_a_reboot_the_new_values_are_what_was_there() {
    let bed = Bed::new(boot());
    apply(&bed.host, &plan(), None, &bed.record).unwrap();
    bed.reboot();
    bed.nic.force_queues(512, None);
    let chosen = bed.values();
    apply(&bed.host, &plan(), Some("rings"), &bed.record).unwrap();
    assert_ne!(bed.values(), chosen);
    undo(&bed.host, None, &bed.record).unwrap();
    assert_eq!(bed.values(), chosen);
    assert!(bed.record_is_gone());
}

#[test]
fn a_boot_without_a_name_may_be_the_same() {
    let bed = Bed::new(boot());
    let before = bed.values();
    fs::remove_file(bed.root.path().join(BOOT_ID)).unwrap();
    apply(&bed.host, &plan(), None, &bed.record).unwrap();
    assert_ne!(bed.values(), before);
    write(bed.root.path(), BOOT_ID, "boot-1");
    undo(&bed.host, None, &bed.record).unwrap();
    assert_eq!(bed.values(), before);
}

#[test]
fn the_limit_of_the_control_plane_is_a_drop_in_that_goes_again() {
    let bed = Bed::new(boot());
    apply(&bed.host, &plan(), Some("cpuset"), &bed.record).unwrap();
    let drop_in = bed.root.path().join(DROP_IN);
    assert!(fs::read_to_string(&drop_in).unwrap().ends_with("[Service]\nAllowedCPUs=0\n"));
    let others = drop_in.with_file_name("10-other.conf");
    fs::write(&others, "").unwrap();
    undo(&bed.host, None, &bed.record).unwrap();
    assert!(!drop_in.exists() && others.exists());
    fs::remove_file(&others).unwrap();
    apply(&bed.host, &plan(), Some("cpuset"), &bed.record).unwrap();
    undo(&bed.host, None, &bed.record).unwrap();
    assert!(!drop_in.parent().unwrap().exists());
}
