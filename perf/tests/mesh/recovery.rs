//! The drill: the host that orders the mesh's changes is destroyed, and comes back elsewhere from the backup
//! that the product's own timer takes.
//!
//! What is measured is the time of the commands, from the moment of the loss; what the timer may lose follows
//! from its unit, which is read here.

use std::fs;
use std::time::{Duration, Instant};

use crate::{Fixture, SOON, fixture};
use stoq_perf::bed::Family;
use stoq_perf::measure::ping;
use stoq_perf::mesh::{self, MeshHost, Pings};
use stoq_perf::wait;

/// What is promised.
const RECOVERY_MAX: Duration = Duration::from_secs(15 * 60);

/// What is promised.
const LOST_MAX_S: u64 = 5 * 60;

/// What runs at each backup.
const SERVICE: &str = include_str!("../../../packaging/units/stoq-backup.service");

/// When it runs.
const TIMER: &str = include_str!("../../../packaging/units/stoq-backup.timer");

/// Where the backup is brought to on the new host.
const BROUGHT: &str = "/var/lib/hypermesh.backup";

/// The first value of `key` in a unit.
fn setting<'a>(unit: &'a str, key: &str) -> &'a str {
    let of_key = |line: &'a str| line.strip_prefix(key)?.strip_prefix('=');
    unit.lines().find_map(of_key).unwrap_or_else(|| panic!("{key}= is missing"))
}

/// `4min`, `30s`.
fn seconds(text: &str) -> u64 {
    let (number, factor) = match text.strip_suffix("min") {
        Some(number) => (number, 60),
        None => (text.strip_suffix('s').unwrap(), 1),
    };
    number.parse::<u64>().unwrap() * factor
}

#[test]
fn backups_are_taken_often_enough() {
    let pause = seconds(setting(TIMER, "OnUnitActiveSec")) + seconds(setting(TIMER, "AccuracySec"));
    // Counted from start to start; one that takes longer than its limit counts as failed.
    let longest = pause + seconds(&format!("{}s", setting(SERVICE, "TimeoutStartSec")));
    assert!(longest <= LOST_MAX_S + 10, "{longest} s");
    assert!(pause < LOST_MAX_S, "{pause} s");
}

/// Takes a backup by the unit's own command, and returns the file.
fn back_up(host: &MeshHost) -> String {
    let line = setting(SERVICE, "ExecStart");
    let words: Vec<&str> = line.split(' ').skip(1).collect();
    let taken = host.ctl_json(&words).unwrap();
    taken["file"].as_str().unwrap().to_owned()
}

#[test]
fn the_founding_host_is_destroyed_and_the_mesh_goes_on_from_its_backup_elsewhere() {
    let Some(fixture) = fixture("the_founding_host_is_destroyed_and_the_mesh_goes_on") else {
        return;
    };
    let mut hosts = fixture.mesh(3);
    let kept = hosts[1].guest.site(Family::V4);
    hosts[0].ctl(&["mesh", "route", "add", &hosts[1].name, &kept]).unwrap();
    let bytes = take_away(&hosts[0]);
    let beside = Pings::start(&hosts[1], hosts[2].tunnel(Family::V6).unwrap()).unwrap();
    let elsewhere = recover(&fixture, &mut hosts, &bytes);
    let counted = beside.finish().unwrap();
    assert!(counted.sent - counted.answered <= 1, "traffic of others stood still: {counted:?}");
    let members = elsewhere.ctl(&["mesh", "members"]).unwrap();
    assert!(members.contains(&kept), "what was in the backup is lost: {members}");
    goes_on(&elsewhere, &hosts[1..]);
    let mut another = MeshHost::new(&fixture.bed, &fixture.binaries, 4).unwrap();
    another.start_hypermeshd().unwrap();
    another.join(&elsewhere.token(&another.name).unwrap()).unwrap();
    another.wait_for_links(&["edge-a", "edge-b", "edge-c"], mesh::LINKS_UP).unwrap();
}

/// A route, a revocation and a new member that the backup knows nothing of: the members do.
#[test]
fn what_came_after_the_last_backup_is_taken_from_the_members() {
    let Some(fixture) = fixture("what_came_after_the_last_backup_is_taken") else { return };
    let mut hosts = fixture.mesh(3);
    let bytes = take_away(&hosts[0]);
    let kept = hosts[1].guest.site(Family::V4);
    hosts[0].ctl(&["mesh", "route", "add", "edge-b", &kept]).unwrap();
    hosts[0].ctl(&["mesh", "revoke", "edge-c"]).unwrap();
    let mut joined = MeshHost::new(&fixture.bed, &fixture.binaries, 4).unwrap();
    joined.start_hypermeshd().unwrap();
    joined.join(&hosts[0].token(&joined.name).unwrap()).unwrap();
    joined.wait_for_links(&["edge-b"], mesh::LINKS_UP).unwrap();
    let before = members(&hosts[0]);
    for member in [&hosts[1], &joined] {
        wait_for_members(member, &before);
    }
    destroy(&mut hosts[0]);
    let elsewhere = restored(&fixture, &bytes);
    elsewhere.wait_for_links(&["edge-b"], mesh::LINKS_UP).unwrap();
    order(&elsewhere, &["mesh", "route", "add", &joined.name, NEW]);
    let after = members(&elsewhere);
    for what in [kept.as_str(), NEW, "edge-b", joined.name.as_str()] {
        assert!(after.to_string().contains(what), "{what} is lost: {after}");
    }
    assert!(!after.to_string().contains("edge-c"), "it was revoked: {after}");
    for member in [&hosts[1], &joined] {
        wait_for_members(member, &after);
    }
    let address = joined.tunnel(Family::V6).unwrap();
    ping::wait_for_answer(&elsewhere.guest.namespace, address, mesh::LINKS_UP).unwrap();
}

/// The members as a host knows them, and the height of its ledger.
fn members(host: &MeshHost) -> serde_json::Value {
    host.ctl_json(&["mesh", "members"]).unwrap()
}

fn wait_for_members(host: &MeshHost, expected: &serde_json::Value) {
    wait::until(&format!("the same ledger on {}", host.name), SOON * 3, || {
        let known = host.ctl_json(&["mesh", "members"]).map_err(|error| error.to_string())?;
        if known == *expected { Ok(()) } else { Err(known.to_string()) }
    })
    .unwrap();
}

/// A command at a host that was restored, which asks its members before it takes any.
fn order(host: &MeshHost, command: &[&str]) {
    wait::until("the restored host orders changes", SOON * 3, || {
        host.ctl(command).map(drop).map_err(|error| error.to_string())
    })
    .unwrap();
}

/// A backup, and its bytes outside the host: what an operator's drop-in to the unit does.
fn take_away(host: &MeshHost) -> Vec<u8> {
    fs::read(host.file(&back_up(host))).unwrap()
}

/// Loses the founding host, brings it back on another one, and waits for traffic with every member.
fn recover(fixture: &Fixture, hosts: &mut [MeshHost], bytes: &[u8]) -> MeshHost {
    let address = hosts[0].tunnel(Family::V6).unwrap();
    let gone = Instant::now();
    destroy(&mut hosts[0]);
    let elsewhere = bring_back(fixture, bytes);
    for member in &hosts[1..] {
        ping::wait_for_answer(&member.guest.namespace, address, mesh::LINKS_UP).unwrap();
    }
    let took = gone.elapsed();
    println!(
        "recovery: {:.1} s from the loss of the host to traffic with {} members, from {} bytes",
        took.as_secs_f64(),
        hosts.len() - 1,
        bytes.len()
    );
    assert!(took < RECOVERY_MAX, "{took:?}");
    elsewhere
}

/// Its daemons die, and its disk is empty.
fn destroy(host: &mut MeshHost) {
    host.kill_hypermeshd().unwrap();
    host.forget().unwrap();
    host.run("rm", &["-rf", "/var/lib/stoq-root", "/var/lib/stoq-backup"]).unwrap();
}

/// The documented commands, on a bare host.
fn bring_back(fixture: &Fixture, bytes: &[u8]) -> MeshHost {
    let elsewhere = restored(fixture, bytes);
    elsewhere.wait_for_links(&["edge-b", "edge-c"], mesh::LINKS_UP).unwrap();
    elsewhere
}

fn restored(fixture: &Fixture, bytes: &[u8]) -> MeshHost {
    let mut elsewhere = MeshHost::new(&fixture.bed, &fixture.binaries, 3).unwrap();
    elsewhere.start_hypermeshd().unwrap();
    fs::write(elsewhere.file(BROUGHT), bytes).unwrap();
    println!("{}", elsewhere.ctl(&["restore", BROUGHT]).unwrap());
    elsewhere.start_stoqd().unwrap();
    elsewhere
}

/// A network that nobody had before the loss.
const NEW: &str = "10.77.0.0/16";

/// The mesh takes changes again, and every member hears of them.
fn goes_on(sequencer: &MeshHost, members: &[MeshHost]) {
    order(sequencer, &["mesh", "route", "add", "edge-c", NEW]);
    for member in members {
        wait::until(&format!("the new route known on {}", member.name), SOON * 3, || {
            let known = member.ctl(&["mesh", "members"]).map_err(|error| error.to_string())?;
            if known.contains(NEW) { Ok(()) } else { Err(known) }
        })
        .unwrap();
    }
    for command in ["log", "audit"] {
        sequencer.ctl(&[command, "verify"]).unwrap();
    }
}
