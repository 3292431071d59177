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
/// `None` if there may be none here. In it, `tune ACTION [STAGE]` is the command under test with this
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
    let script = "state; tune check; tune apply; state; tune apply channels; tune check
                  tune undo channels; state; tune undo; state; tune undo; ls state";
    let Some(shown) = in_namespace(directory.path(), script) else { return };
    let lines: Vec<&str> = shown.lines().collect();
    let (before, tuned) = ("rx-0 rx-1 tx-0 tx-1 0", "rx-0 tx-0 1");
    assert_eq!(lines[0], before);
    for (line, (stage, part)) in lines[1..5].iter().zip([
        ("channels", "rx 2 tx 2 for 1 worker -> rx 1 tx 1 (an AF_XDP worker owns one queue"),
        ("flow-hash", "one worker: nothing to spread (good)"),
        ("threaded-napi", "0 -> 1; a virtual interface takes it only"),
        ("irq-affinity", "wan has no interrupts of its own (good)"),
    ]) {
        assert!(line.starts_with(stage) && line.contains(part), "{line}");
    }
    let expected = [
        "channels       wan channels: rx 2 tx 2 -> rx 1 tx 1",
        "flow-hash      unchanged: one worker: nothing to spread",
        "threaded-napi  wan threaded: 0 -> 1",
        "irq-affinity   unchanged: wan has no interrupts of its own",
        tuned,
        "channels       unchanged: rx 1 tx 1 for 1 worker",
        "channels       rx 1 tx 1 for 1 worker (good)",
        "flow-hash      one worker: nothing to spread (good)",
        "threaded-napi  1 (good)",
        "irq-affinity   wan has no interrupts of its own (good)",
        "wan channels: rx 1 tx 1 -> rx 2 tx 2",
        "rx-0 rx-1 tx-0 tx-1 1",
        "wan threaded: 1 -> 0",
        before,
        "Nothing to undo: state/tuning.json names nothing of it.",
    ];
    assert_eq!(lines[5..], expected, "{shown}");
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
