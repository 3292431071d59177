//! How the program comes to an interface and how it leaves it.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use stoq_xdp::{Attached, Program, Settings, XdpError};

use crate::bed::{ip, with_veth};

/// Tells the child process of a test what it is to attach to.
const CHILD: &str = "STOQ_XDP_TEST_CHILD";

fn is_attached() -> bool {
    ip("link show wan").contains("xdp")
}

#[test]
fn it_is_attached_in_the_driver_while_the_value_lives() {
    with_veth(1500, |_| {
        let program = Program::attach("wan", &Settings::default()).unwrap();
        assert_eq!(program.attached(), Attached::Native, "{:?}", program.native_refusal());
        assert!(ip("link show wan").contains("prog/xdp id"), "{}", ip("link show wan"));
        drop(program);
        assert!(!is_attached(), "{}", ip("link show wan"));
    });
}

#[test]
fn frames_larger_than_a_page_are_no_obstacle() {
    with_veth(9000, |_| {
        let program = Program::attach("wan", &Settings::default()).unwrap();
        assert_eq!(program.attached(), Attached::Native, "{:?}", program.native_refusal());
    });
}

/// The loopback's driver knows no XDP.
#[test]
fn an_interface_without_native_mode_gets_the_generic_one() {
    with_veth(1500, |_| {
        let program = Program::attach("lo", &Settings::default()).unwrap();
        assert_eq!(program.attached(), Attached::Generic);
        assert!(program.native_refusal().is_some_and(|why| why.contains("not supported")));
        let error = Program::attach("lo", &Settings::default()).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("ip link set dev lo xdpgeneric off"), "{error}");
    });
}

#[test]
fn another_program_stays_and_is_named() {
    with_veth(1500, |_| {
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

#[test]
fn an_interface_that_goes_away_takes_the_program_with_it() {
    with_veth(1500, |_| {
        let mut program = Program::attach("wan", &Settings::default()).unwrap();
        ip("link set wan down");
        ip("link set wan name renamed");
        ip("link set renamed mtu 1400");
        assert!(ip("link show renamed").contains("prog/xdp id"));
        ip("link delete renamed");
        program.apply(&Settings::default()).unwrap();
        assert!(program.counters().is_ok());
        drop(program);
        ip("link add wan type veth peer name far");
        Program::attach("wan", &Settings::default()).map(|_| ()).unwrap();
    });
}

#[test]
fn it_is_detached_when_its_process_is_killed() {
    if let Ok(interface) = env::var(CHILD) {
        return be_killed(&interface);
    }
    with_veth(1500, |_| {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "life::it_is_detached_when_its_process_is_killed", "--nocapture"])
            .env(CHILD, "wan")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let attached = lines.map_while(Result::ok).any(|line| line.contains("attached to wan"));
        assert!(attached, "the child ended");
        assert!(is_attached());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_attached(), "{}", ip("link show wan"));
        Program::attach("wan", &Settings::default()).map(|_| ()).unwrap();
    });
}

/// The other process of that test: attaches, says so, and waits to be killed.
fn be_killed(interface: &str) {
    let _program = Program::attach(interface, &Settings::default()).unwrap();
    println!("attached to {interface}");
    // Nobody writes: this ends with the process, or with its parent.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}
