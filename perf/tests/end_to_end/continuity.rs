//! What an operator does routinely is not noticed by traffic, and what goes wrong with it neither.
//!
//! How long traffic stalled is for the benchmark to say: here, other tests may have the cores.

use crate::{Fixture, SOON};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use stoq_perf::bed::Side;
use stoq_perf::continuity::{Event, LOST_PERCENT, Noticed, Trial};
use stoq_perf::measure::iperf::Load;
use stoq_perf::node::{Deployment, Node};
use stoq_perf::{wait, workspace};

crate::on_each_port!(reloads_and_certificate_swaps_are_not_noticed, upgrades_are_not_noticed);

/// A stream that any host carries beside others that are busy: what is asked is whether it lives on.
const LOAD: Load = Load::TcpAt(20);

/// Requests before anything is done, and rounds of two events on each node.
const QUIET: u64 = 500;
const ROUNDS: usize = 5;

/// How often traffic goes on for half a second after upgrades.
const ON: usize = 10;

/// Requests that may be lost when a new version is killed that the peer already sends to: some tens are
/// until it notices, and more on a machine that is busy with other things.
const KILLED_LOST_MAX: u64 = 500;

fn reloads_and_certificate_swaps_are_not_noticed(fixture: &Fixture) {
    let configs = [fixture.config(), fixture.config()];
    let mut trial = Trial::start(&fixture.deployment, configs, LOAD, QUIET).unwrap();
    for _ in 0..ROUNDS {
        trial.happen(Event::Reload, Side::A).unwrap();
        trial.happen(Event::Certificate, Side::A).unwrap();
        trial.happen(Event::Reload, Side::B).unwrap();
        trial.happen(Event::Certificate, Side::B).unwrap();
    }
    not_noticed(fixture, trial.finish().unwrap());
}

/// The second one of A comes with that of B, before the processes that handed over have ended.
fn upgrades_are_not_noticed(fixture: &Fixture) {
    let configs = [fixture.config(), fixture.config()];
    let mut trial = Trial::start(&fixture.deployment, configs, LOAD, QUIET).unwrap();
    trial.happen(Event::Upgrade, Side::A).unwrap();
    trial.upgrade_both().unwrap();
    trial.happen(Event::Upgrade, Side::A).unwrap();
    // What xdp loses as it changes sides is a few for each process; what is promised is a share.
    (0..ON).for_each(|_| trial.goes_on().unwrap());
    not_noticed(fixture, trial.finish().unwrap());
}

fn not_noticed(fixture: &Fixture, noticed: Noticed) {
    println!("{}: {noticed}", fixture.port);
    assert!(noticed.lost_percent() <= LOST_PERCENT, "{noticed}");
}

#[test]
fn a_restart_keeps_the_device_and_its_connections() {
    crate::run("a_restart_keeps_the_device_and_its_connections", "mio", |fixture| {
        let configs = [fixture.config(), fixture.config()];
        let mut trial = Trial::start(&fixture.deployment, configs, LOAD, QUIET).unwrap();
        let before = trial.device(Side::A).unwrap();
        trial.happen(Event::Restart, Side::A).unwrap();
        assert_eq!(trial.device(Side::A).unwrap(), before);
        println!("{}", trial.finish().unwrap());
    });
}

#[test]
fn another_build_and_the_way_back_are_not_noticed() {
    if let Err(missing) = workspace::other_stoqd() {
        assert!(!workspace::names_other_stoqd(), "{missing}");
        eprintln!("another_build_and_the_way_back_are_not_noticed: SKIPPED, {missing}");
        return;
    }
    crate::run("another_build_and_the_way_back_are_not_noticed", "mio", |fixture| {
        let own = fixture.deployment.with_own_program().unwrap();
        let configs = [fixture.config(), fixture.config()];
        let mut trial = Trial::start(&own, configs, LOAD, QUIET).unwrap();
        let first = trial.node(Side::A).program().unwrap();
        trial.happen(Event::OtherBuild, Side::A).unwrap();
        assert!(trial.node(Side::A).program().unwrap() != first);
        trial.happen(Event::OtherBuild, Side::A).unwrap();
        assert!(trial.node(Side::A).program().unwrap() == first);
        not_noticed(fixture, trial.finish().unwrap());
    });
}

#[test]
fn a_broken_new_version_never_takes_traffic() {
    crate::run("a_broken_new_version_never_takes_traffic", "mio", |fixture| {
        let own = fixture.deployment.with_own_program().unwrap();
        // What B cannot dial, only A's new version can reach.
        let mut passive = fixture.config();
        passive.over(&[]);
        let configs = [fixture.config(), passive];
        let mut trial = Trial::start(&own, configs, LOAD, QUIET).unwrap();
        let first = trial.node(Side::A).process.pid();
        configuration_is_refused(fixture, &own, &mut trial);
        program_ends_at_once(fixture, &own, &trial);
        links_do_not_come_up(fixture, &own, &trial);
        let before = trial.so_far().unwrap();
        assert!(before.lost_percent() <= LOST_PERCENT, "{before:?}");
        is_killed_with_its_links_up(&trial);
        let killed = trial.so_far().unwrap().lost - before.lost;
        println!("{before:?}, and {killed} lost as one was killed");
        assert!(killed <= KILLED_LOST_MAX, "{killed}");
        assert_eq!(trial.node(Side::A).process.pid(), first);
        trial.happen(Event::Upgrade, Side::A).unwrap();
        assert_ne!(trial.node(Side::A).process.pid(), first);
        println!("{}", trial.finish().unwrap());
    });
}

fn configuration_is_refused(fixture: &Fixture, own: &Deployment, trial: &mut Trial) {
    own.write(Side::A, fixture.config().set("tunnel.mtu", "\"wide\"")).unwrap();
    let why = trial.refuse(Side::A, |_| Ok(())).unwrap();
    assert!(why.contains("exit status: 2"), "{why}");
    assert!(why.contains("this process goes on"), "{why}");
    let log = &trial.node(Side::A).process.log();
    assert!(log.contains("tunnel.mtu: expected a number"), "{log}");
    own.write(Side::A, &fixture.config()).unwrap();
}

fn program_ends_at_once(fixture: &Fixture, own: &Deployment, trial: &Trial) {
    let script = fixture.bed.folder().join("broken-stoqd");
    let works = &fixture.deployment.binaries().stoqd;
    for (line, how) in [("exit 7", "exit status: 7"), ("kill -KILL $$", "signal: 9")] {
        fs::write(&script, format!("#!/bin/sh\n{line}\n")).unwrap();
        fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
        own.replace_program(&script).unwrap();
        let why = trial.refuse(Side::A, |_| Ok(())).unwrap();
        assert!(why.contains(how), "{why}");
    }
    fs::remove_file(&own.binaries().stoqd).unwrap();
    let why = trial.refuse(Side::A, |_| Ok(())).unwrap();
    assert!(why.contains("No such file"), "{why}");
    own.replace_program(works).unwrap();
}

fn links_do_not_come_up(fixture: &Fixture, own: &Deployment, trial: &Trial) {
    own.write(Side::A, fixture.config().over(&[])).unwrap();
    let why = trial.refuse(Side::A, |_| Ok(())).unwrap();
    assert!(why.contains(Side::B.node()), "{why}");
    own.write(Side::A, &fixture.config()).unwrap();
}

fn is_killed_with_its_links_up(trial: &Trial) {
    let ups = |node: &Node| node.process.log().matches("link up").count();
    let why = trial.refuse(Side::A, |node| {
        let before = ups(node);
        wait::until("a link of the new version", SOON, || match ups(node) {
            now if now > before => Ok(()),
            _ => Err(node.process.log().lines().last().unwrap_or_default().to_owned()),
        })?;
        let heirs = node.process.grandchildren();
        let [heir] = heirs[..] else { panic!("expected one new version, got {heirs:?}") };
        let heir = Pid::from_raw(i32::try_from(heir).unwrap());
        kill(heir, Signal::SIGKILL).unwrap();
        Ok(())
    });
    let why = why.unwrap();
    assert!(why.contains("signal: 9"), "{why}");
}
