//! `stoqctl tune` as an operator runs it: each command a process of its own that knows of those
//! before only what is in the record. What changes an interface needs root, and does it in a
//! namespace of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

const STOQCTL: &str = env!("CARGO_BIN_EXE_stoqctl");

/// A user that is not root: `nobody`.
const NOBODY: u32 = 65_534;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A directory with a configuration for one AF_XDP worker on `wan`.
fn configured() -> TempDir {
    let directory = TempDir::new().unwrap();
    let config = "[transport]\ninterface = \"wan\"\nport = \"xdp\"\nworkers = 1\ncores = [1]\n\
                  [control]\nsocket = \"/nonexistent/stoqd.sock\"\n";
    fs::write(directory.path().join("stoqd.toml"), config).unwrap();
    directory
}

/// Runs a script in new namespaces with a `/sys` of their own and a veth `wan` of four queues;
/// `None` if there may be none here. Of the machine itself nothing can be set from there: it has two
/// cores without a clock, and no systemd. In it, `tune ACTION [STAGE]` is the command under test with this
/// configuration, and `state` shows the queues and the thread of `wan`.
fn in_namespace(directory: &Path, script: &str) -> Option<String> {
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "sh", "-ec", script]).current_dir(directory);
        command.output().unwrap()
    };
    if !unshare("mount -t sysfs sysfs /sys").status.success() {
        eprintln!("SKIPPED: needs namespaces of its own; run as root");
        return None;
    }
    let prepare = format!(
        "mount -t sysfs sysfs /sys
         mount -t tmpfs none /run
         mount -t tmpfs none /sys/devices/system/cpu; echo 0-1 >/sys/devices/system/cpu/online
         tune() {{
             case $1 in undo) ;; *) set -- \"$@\" --config stoqd.toml ;; esac
             case $1 in check) ;; *) set -- \"$@\" --record state/tuning.json ;; esac
             '{STOQCTL}' tune \"$@\" 2>&1 || echo \"exit code $?\"
         }}
         state() {{ echo $(ls /sys/class/net/wan/queues) $(cat /sys/class/net/wan/threaded); }}
         q='numrxqueues 2 numtxqueues 2'
         ip link add wan $q type veth peer name far $q
         ip link set wan up; ip link set far up; ethtool -K wan gro on
         {script}"
    );
    let output = unshare(&prepare);
    assert!(output.status.success(), "{}", text(&output.stderr));
    Some(text(&output.stdout))
}

#[test]
fn what_one_process_applied_another_undoes() {
    let directory = configured();
    let script = "state; tune check; echo; tune apply; echo; state; tune apply channels; tune check
                  echo; tune undo channels; state; tune undo; state; tune undo; ls state";
    let Some(shown) = in_namespace(directory.path(), script) else { return };
    let (before, tuned) = ("rx-0 rx-1 tx-0 tx-1 0", "rx-0 tx-0 1");
    let parts: Vec<&str> = shown.split("\n\n").collect();
    let [check, apply, again, undo] = parts[..] else { panic!("{shown}") };
    assert!(check.starts_with(before), "{shown}");
    for (part, stage, expected) in [
        (check, "channels", "rx 2 tx 2 for 1 worker -> rx 1 tx 1 (an AF_XDP worker owns one queue"),
        (check, "channels", "; gain: not measured on a card"),
        (check, "rings", "wan has none to set"),
        (check, "flow-hash", "one worker: nothing to spread (good)"),
        (check, "gro", "rx-gro is on (good)"),
        (check, "threaded-napi", "0 -> 1; a virtual interface takes it only"),
        (check, "threaded-napi", "`cargo xtask bench port`"),
        (check, "irq-affinity", "wan has no interrupts of its own (good)"),
        (apply, "channels", "wan channels: rx 2 tx 2 -> rx 1 tx 1"),
        (apply, "flow-hash", "unchanged: one worker: nothing to spread"),
        (apply, "threaded-napi", "wan threaded: 0 -> 1"),
        (apply, "irq-affinity", "unchanged: wan has no interrupts of its own"),
        (again, "channels", "unchanged: rx 1 tx 1 for 1 worker"),
        (again, "channels", "rx 1 tx 1 for 1 worker (good)"),
        (again, "threaded-napi", "1 (good)"),
    ] {
        let mut lines = part.lines().filter(|line| line.split(' ').next() == Some(stage));
        assert!(lines.any(|line| line.contains(expected)), "{stage}: {expected}: {part}");
    }
    assert!(again.starts_with(tuned), "{shown}");
    let expected = [
        "wan channels: rx 1 tx 1 -> rx 2 tx 2",
        "rx-0 rx-1 tx-0 tx-1 1",
        "wan threaded: 1 -> 0",
        before,
        "Nothing to undo: state/tuning.json names nothing of it.",
    ];
    assert_eq!(undo.lines().collect::<Vec<_>>(), expected, "{shown}");
}

#[test]
fn after_a_reboot_an_undo_leaves_what_it_finds() {
    let directory = configured();
    // To the record another boot is another name in its file.
    let script = "tune apply channels >/dev/null; sed -i 's/\"boot\": \".*\"/\"boot\": \"earlier\"/' state/tuning.json
                  tune undo; state; ls state; tune apply channels >/dev/null; tune undo --json";
    let Some(shown) = in_namespace(directory.path(), script) else { return };
    let expected = "wan channels: a reboot has restored it; left at rx 1 tx 1\nrx-0 tx-0 0\n[]\n";
    assert_eq!(shown, expected);
}

#[test]
fn scripts_are_answered_in_json() {
    let directory = configured();
    let script =
        "tune check channels --json; echo; tune apply channels --json; echo; tune undo --json";
    let Some(shown) = in_namespace(directory.path(), script) else { return };
    let answers: Vec<serde_json::Value> =
        shown.split("\n\n").map(|text| serde_json::from_str(text).unwrap()).collect();
    let [check, apply, undo] = &answers[..] else { panic!("{shown}") };
    for (answer, pointer, expected) in [
        (check, "/0/stage", "channels"),
        (check, "/0/verdict", "advice"),
        (check, "/0/mend", "stoqctl tune apply channels"),
        (apply, "/0/stage", "channels"),
        (apply, "/0/steps/0/setting", "wan channels"),
        (apply, "/0/steps/0/outcome", "changed"),
        (apply, "/0/steps/0/to", "rx 1 tx 1"),
        (undo, "/0/outcome", "changed"),
        (undo, "/0/to", "rx 2 tx 2"),
    ] {
        assert_eq!(
            answer.pointer(pointer).and_then(|value| value.as_str()),
            Some(expected),
            "{shown}"
        );
    }
    assert!(check.pointer("/0/gain").unwrap().as_str().unwrap().contains("measured"), "{shown}");
}

#[test]
fn the_plan_of_cores_follows_the_configuration() {
    let directory = configured();
    let config = directory.path().join("stoqd.toml");
    let cores = |extra: &[&str]| {
        let mut command = Command::new(STOQCTL);
        let output = command.args(["tune", "cores", "--config"]).arg(&config).args(extra).output();
        text(&output.unwrap().stdout)
    };
    let shown = cores(&[]);
    assert!(shown.starts_with("workers        1, pinned to 1\n"), "{shown}");
    assert!(shown.contains("because        the configuration lists the workers' cores"), "{shown}");
    let plan: serde_json::Value = serde_json::from_str(&cores(&["--json"])).unwrap();
    assert_eq!((&plan["workers"], &plan["pinned"]), (&1.into(), &serde_json::json!([1])));
    assert!(!plan["control"].as_array().unwrap().contains(&1.into()), "{plan}");
}

#[test]
fn an_interface_that_went_away_is_named_and_forgotten() {
    let directory = configured();
    let script = "tune apply >/dev/null; ip link del wan; tune apply; tune undo; ls state";
    let Some(shown) = in_namespace(directory.path(), script) else { return };
    assert!(shown.contains("expected the interface of the configuration"), "{shown}");
    assert!(shown.contains("exit code 2"), "{shown}");
    assert!(shown.contains("wan channels: the interface wan is not there any more"), "{shown}");
    assert!(shown.ends_with("of what was set\n"), "the record is still there: {shown}");
}

#[test]
fn a_refused_undo_ends_with_2_and_stays_recorded() {
    let directory = configured();
    let script = "tune apply >/dev/null; ethtool -K wan gro off
                  if ! echo 0 2>/dev/null >/sys/class/net/wan/threaded; then tune undo; fi
                  ls state; ethtool -K wan gro on; tune undo threaded-napi; ls state";
    let Some(shown) = in_namespace(directory.path(), script) else { return };
    if shown.contains("exit code") {
        assert!(shown.contains("wan threaded: unchanged, wan has no NAPI now"), "{shown}");
        assert!(shown.contains("exit code 2\ntuning.json\n"), "{shown}");
        assert!(shown.ends_with("wan threaded: 1 -> 0\n"), "{shown}");
    } else {
        eprintln!("SKIPPED: this kernel takes the value without NAPI");
    }
}

#[test]
fn without_root_nothing_is_changed_and_the_command_is_named() {
    let as_nobody = |arguments: &[&str]| -> std::io::Result<Output> {
        let mut command = Command::new(STOQCTL);
        if fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
        {
            command.uid(NOBODY);
        }
        command.args(arguments).output()
    };
    for (action, expected) in [
        (&["tune", "apply", "channels"][..], "run `sudo stoqctl tune apply channels`"),
        (&["tune", "undo"], "run `sudo stoqctl tune undo`"),
    ] {
        let Ok(output) = as_nobody(action) else {
            eprintln!("SKIPPED: user {NOBODY} may not run {STOQCTL}");
            return;
        };
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    }
}

#[test]
fn wrong_stages_and_missing_configurations_end_with_2() {
    let output = Command::new(STOQCTL).args(["tune", "check", "channls"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("'channels'"), "{}", text(&output.stderr));
    let arguments = ["tune", "check", "--config", "/nonexistent/stoqd.toml"];
    let output = Command::new(STOQCTL).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("/nonexistent/stoqd.toml"), "{}", text(&output.stderr));
}
