//! The program on a real interface: a veth in a namespace of its own. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use stoq_xdp::{Attached, Program, Settings, XdpError};

/// Runs `test` on a thread in a new network namespace that has the veth pair `wan` and `far`, both up;
/// it goes away with the thread.
fn with_veth(mtu: u32, test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
            eprintln!("SKIPPED: needs a network namespace of its own, got {errno}; run as root");
            return;
        }
        ip(&format!("link add wan mtu {mtu} type veth peer name far mtu {mtu}"));
        ip("link set wan up");
        ip("link set far up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "ip {arguments}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn it_is_attached_in_the_driver_while_the_value_lives() {
    with_veth(1500, || {
        let program = Program::attach("wan", &Settings::default()).unwrap();
        assert_eq!(program.attached(), Attached::Native, "{:?}", program.native_refusal());
        assert!(ip("link show wan").contains("prog/xdp"), "{}", ip("link show wan"));
        drop(program);
        assert!(!ip("link show wan").contains("xdp"), "{}", ip("link show wan"));
    });
}

#[test]
fn frames_larger_than_a_page_are_no_obstacle() {
    with_veth(9000, || {
        let program = Program::attach("wan", &Settings::default()).unwrap();
        assert_eq!(program.attached(), Attached::Native, "{:?}", program.native_refusal());
    });
}

#[test]
fn another_program_stays_and_is_named() {
    with_veth(1500, || {
        let first = Program::attach("wan", &Settings::default()).unwrap();
        let error = Program::attach("wan", &Settings::default()).map(|_| ()).unwrap_err();
        let text = error.to_string();
        let XdpError::Occupied { interface, occupant } = error else { panic!("{text}") };
        assert_eq!((interface.as_str(), occupant.name.as_deref()), ("wan", Some("stoq")));
        let shown = ip("link show wan");
        assert!(shown.contains(&format!("prog/xdp id {}", occupant.id)), "{shown}");
        assert!(text.contains("native mode") && text.contains("port = \"uring\""), "{text}");
        assert!(text.contains("ip link set dev wan xdp off"), "{text}");
        drop(first);
        Program::attach("wan", &Settings::default()).map(|_| ()).unwrap();
    });
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    let error = Program::attach("no-such-if", &Settings::default()).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("no-such-if"), "{error}");
}
