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
fn the_founding_host_is_destroyed_and_comes_back_elsewhere_from_its_last_backup() {
    let Some(fixture) = fixture("the_founding_host_is_destroyed_and_comes_back") else { return };
    let mut hosts = fixture.mesh(3);
    let kept = hosts[1].guest.site(Family::V4);
    hosts[0].ctl(&["mesh", "route", "add", &hosts[1].name, &kept]).unwrap();
    let backup = back_up(&hosts[0]);
    // Outside the host: what an operator's drop-in to the unit does.
    let bytes = fs::read(hosts[0].file(&backup)).unwrap();
    let lost = hosts[2].guest.site(Family::V4);
    hosts[0].ctl(&["mesh", "route", "add", &hosts[2].name, &lost]).unwrap();
    let mut late = MeshHost::new(&fixture.bed, &fixture.binaries, 3).unwrap();
    late.start_hypermeshd().unwrap();
    late.join(&hosts[0].token(&late.name).unwrap()).unwrap();
    late.wait_for_links(&["edge-a", "edge-b", "edge-c"], mesh::LINKS_UP).unwrap();
    let beside = Pings::start(&hosts[1], hosts[2].tunnel(Family::V6).unwrap()).unwrap();
    let address = hosts[0].tunnel(Family::V6).unwrap();

    let gone = Instant::now();
    destroy(&mut hosts[0]);
    let elsewhere = bring_back(&fixture, &bytes);
    ping::wait_for_answer(&hosts[1].guest.namespace, address, mesh::LINKS_UP).unwrap();
    ping::wait_for_answer(&hosts[2].guest.namespace, address, mesh::LINKS_UP).unwrap();
    let took = gone.elapsed();
    println!(
        "recovery: {:.1} s from the loss of the host to traffic with both members, from {} bytes",
        took.as_secs_f64(),
        bytes.len()
    );
    assert!(took < RECOVERY_MAX, "{took:?}");

    let routes = elsewhere.ctl(&["mesh", "members"]).unwrap();
    println!("{routes}");
    assert!(routes.contains(&kept), "what was in the backup is lost: {routes}");
    assert!(!routes.contains(&lost), "what was not in the backup is there: {routes}");
    let counted = beside.finish().unwrap();
    assert!(counted.sent - counted.answered <= 1, "traffic of others stood still: {counted:?}");
    assert!(!routes.contains(&late.name), "who joined after the backup is a member: {routes}");
    goes_on(&elsewhere, &hosts[1..]);
    comes_again(&elsewhere, &mut late);
}

/// Its daemons die, and its disk is empty.
fn destroy(host: &mut MeshHost) {
    host.kill_hypermeshd().unwrap();
    host.forget().unwrap();
    host.run("rm", &["-rf", "/var/lib/stoq-root", "/var/lib/stoq-backup"]).unwrap();
}

/// The documented commands, on a bare host.
fn bring_back(fixture: &Fixture, bytes: &[u8]) -> MeshHost {
    let mut elsewhere = MeshHost::new(&fixture.bed, &fixture.binaries, 4).unwrap();
    elsewhere.start_hypermeshd().unwrap();
    fs::write(elsewhere.file(BROUGHT), bytes).unwrap();
    println!("{}", elsewhere.ctl(&["restore", BROUGHT]).unwrap());
    elsewhere.start_stoqd().unwrap();
    elsewhere.wait_for_links(&["edge-b", "edge-c"], mesh::LINKS_UP).unwrap();
    elsewhere
}

/// A network that nobody had before the loss.
const NEW: &str = "10.77.0.0/16";

/// The mesh takes changes again, and every member hears of them.
fn goes_on(sequencer: &MeshHost, members: &[MeshHost]) {
    sequencer.ctl(&["mesh", "route", "add", "edge-c", NEW]).unwrap();
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

/// A member that the backup does not know joins again.
fn comes_again(sequencer: &MeshHost, late: &mut MeshHost) {
    late.kill_hypermeshd().unwrap();
    late.forget().unwrap();
    late.start_hypermeshd().unwrap();
    late.join(&sequencer.token(&late.name).unwrap()).unwrap();
    late.wait_for_links(&["edge-a", "edge-b", "edge-c"], mesh::LINKS_UP).unwrap();
}
