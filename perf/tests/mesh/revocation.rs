//! A revoked host is cut off everywhere, at once and for good.

use crate::{SOON, fixture};
use std::fs;
use std::time::{Duration, SystemTime};
use stoq_perf::bed::Family;
use stoq_perf::mesh::{LINKS_UP, MeshHost, Pings};
use stoq_perf::wait;

/// How soon a revoked host should be cut off from every other one. A machine that does much else is
/// later, so that it is told here and not demanded; `bench revoke` measures it.
const CUT_OFF: Duration = Duration::from_secs(2);

/// Silence that is long enough to be the end, with an answer every 10 ms before.
const SILENCE: Duration = Duration::from_secs(1);

#[test]
fn a_revoked_host_is_cut_off_everywhere_and_its_name_is_gone() {
    let Some(fixture) = fixture("a_revoked_host_is_cut_off_everywhere") else { return };
    let hosts = fixture.mesh(3);
    let revoked = &hosts[2];
    let to = revoked.tunnel(Family::V6).unwrap();
    let pings: Vec<Pings> = hosts[..2].iter().map(|from| Pings::start(from, to).unwrap()).collect();
    let kept = Pings::start(&hosts[0], hosts[1].tunnel(Family::V6).unwrap()).unwrap();
    let begin = SystemTime::now();
    hosts[0].ctl(&["mesh", "revoke", &revoked.name]).unwrap();
    for (from, ping) in hosts.iter().zip(pings) {
        tell(from, &ping, begin, "the command began");
    }
    let counted = kept.finish().unwrap();
    assert!(counted.sent - counted.answered <= 1, "others lost packets: {counted:?}");
    let again = hosts[0].token(&revoked.name);
    assert!(again.is_err(), "a revoked name was given out again");
}

/// Cuts a host off from all others, both ways; programs on it still reach each other.
fn cut_off(host: &MeshHost) {
    let chain = |name, hook, side| {
        let priority = "priority 0; policy accept;";
        format!("chain {name} {{ type filter hook {hook} {priority} {side} wan drop; }}")
    };
    let (inwards, outwards) = (chain("in", "input", "iifname"), chain("out", "output", "oifname"));
    host.guest.namespace.nft(&format!("table inet cut {{ {inwards}\n{outwards}\n}}")).unwrap();
}

fn heal(host: &MeshHost) {
    host.guest.namespace.nft("delete table inet cut").unwrap();
}

/// The last answer, once there have been none for a while.
fn last_answer(ping: &Pings) -> SystemTime {
    wait::until("the last answer", SOON, || {
        let last = ping.last_answer().unwrap();
        let silent = SystemTime::now().duration_since(last).unwrap_or_default();
        if silent > SILENCE { Ok(last) } else { Err(format!("{silent:?} of silence")) }
    })
    .unwrap()
}

/// Waits until nothing is answered any more, and says when that was.
fn tell(from: &MeshHost, ping: &Pings, since: SystemTime, what: &str) {
    let took = last_answer(ping).duration_since(since).unwrap_or_default();
    let late = if took > CUT_OFF { ", later than it should" } else { "" };
    println!("cut off from {} {} ms after {what}{late}", from.name, took.as_millis());
}

/// A host is revoked while two others cannot be told; what it still has with them ends as they can.
#[test]
fn hosts_beyond_a_partition_cut_a_revoked_host_off_as_soon_as_it_heals() {
    let Some(fixture) = fixture("hosts_beyond_a_partition_cut_a_revoked_host_off") else { return };
    let hosts = fixture.mesh(4);
    let to = hosts[3].tunnel(Family::V6).unwrap();
    let pings: Vec<Pings> =
        hosts[1..3].iter().map(|from| Pings::start(from, to).unwrap()).collect();
    cut_off(&hosts[0]);
    hosts[0].ctl(&["mesh", "revoke", "edge-d"]).unwrap();
    for ping in &pings {
        let before = ping.answered();
        wait::until("answers beyond the partition", SOON, || {
            let more = ping.answered() - before;
            if more >= 100 { Ok(()) } else { Err(format!("{more} more answers")) }
        })
        .unwrap();
    }
    heal(&hosts[0]);
    let healed = SystemTime::now();
    for (from, ping) in hosts[1..3].iter().zip(&pings) {
        tell(from, ping, healed, "the partition healed");
    }
}

/// Whoever can write a host's files may bring back an older set; the host is told the newer one before
/// anything passes.
#[test]
fn an_older_set_in_the_files_of_a_restarted_stoqd_lets_nobody_back_in() {
    let Some(fixture) = fixture("an_older_set_in_the_files_of_a_restarted_stoqd") else { return };
    let mut hosts = fixture.mesh(4);
    let sequence = |host: &MeshHost| host.status().unwrap()["revocation_sequence"].as_u64();
    let revoke = |hosts: &[MeshHost], name: &str, wanted: u64| {
        hosts[0].ctl(&["mesh", "revoke", name]).unwrap();
        wait::until("the set on edge-b", SOON, || {
            let known = sequence(&hosts[1]);
            if known >= Some(wanted) { Ok(()) } else { Err(format!("{known:?}")) }
        })
        .unwrap();
    };
    let first = sequence(&hosts[1]).unwrap_or(0) + 1;
    revoke(&hosts, "edge-d", first);
    let file = hosts[1].file("/var/lib/stoq/revocations");
    let older = fs::read(&file).unwrap();
    revoke(&hosts, "edge-c", first + 1);
    hosts[1].kill_hypermeshd().unwrap();
    hosts[1].stoqd = None;
    assert_ne!(fs::read(&file).unwrap(), older);
    fs::write(&file, older).unwrap();
    hosts[1].start_stoqd().unwrap();
    hosts[1].wait_for_links(&["edge-a"], LINKS_UP).unwrap();
    assert_eq!(sequence(&hosts[1]), Some(first + 1));
    let links = hosts[1].status().unwrap()["links"].to_string();
    assert!(!links.contains("edge-c") && !links.contains("edge-d"), "{links}");
}

/// Every hypermeshd dead: what stoqd has persisted and what links carry must be enough.
#[test]
fn a_set_that_one_node_knows_reaches_the_others_without_a_control_plane() {
    let Some(fixture) = fixture("a_set_that_one_node_knows_reaches_the_others") else { return };
    let mut hosts = fixture.mesh(3);
    // The second host's hypermeshd is dead as the revocation happens, so only stoqd can tell it.
    hosts[1].kill_hypermeshd().unwrap();
    let to = hosts[2].tunnel(Family::V6).unwrap();
    let ping = Pings::start(&hosts[1], to).unwrap();
    hosts[0].ctl(&["mesh", "revoke", "edge-c"]).unwrap();
    last_answer(&ping);
    let status = hosts[1].status().unwrap();
    assert!(status["revocation_sequence"].as_u64() > Some(0), "{status}");
}
