//! A revoked host is cut off everywhere, at once and for good.

use crate::{SOON, fixture};
use std::time::{Duration, SystemTime};
use stoq_perf::bed::Family;
use stoq_perf::mesh::Pings;
use stoq_perf::wait;

/// How soon a revoked host must be cut off from every other one.
const CUT_OFF: Duration = Duration::from_secs(2);

/// Silence that is long enough to be the end, with an answer every 10 ms before.
const SILENCE: Duration = Duration::from_secs(1);

#[test]
fn a_revoked_host_is_cut_off_everywhere_within_two_seconds() {
    let Some(fixture) = fixture("a_revoked_host_is_cut_off_everywhere") else { return };
    let hosts = fixture.mesh(3);
    let revoked = &hosts[2];
    let to = revoked.tunnel(Family::V6).unwrap();
    let pings: Vec<Pings> = hosts[..2].iter().map(|from| Pings::start(from, to).unwrap()).collect();
    let kept = Pings::start(&hosts[0], hosts[1].tunnel(Family::V6).unwrap()).unwrap();
    let begin = SystemTime::now();
    hosts[0].ctl(&["mesh", "revoke", &revoked.name]).unwrap();
    for (from, ping) in hosts.iter().zip(pings) {
        let last = wait::until("the last answer", SOON, || {
            let last = ping.last_answer().unwrap();
            let silent = SystemTime::now().duration_since(last).unwrap_or_default();
            if silent > SILENCE { Ok(last) } else { Err(format!("{silent:?} of silence")) }
        })
        .unwrap();
        let took = last.duration_since(begin).unwrap_or_default();
        println!("cut off from {} {} ms after the command began", from.name, took.as_millis());
        assert!(took < CUT_OFF, "{} still answered after {took:?}", revoked.name);
    }
    let counted = kept.finish().unwrap();
    assert!(counted.sent - counted.answered <= 1, "others lost packets: {counted:?}");
    let again = hosts[0].token(&revoked.name);
    assert!(again.is_err(), "a revoked name was given out again");
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
    wait::until("the cut-off on a host without hypermeshd", SOON, || {
        let last = ping.last_answer().unwrap();
        let silent = SystemTime::now().duration_since(last).unwrap_or_default();
        if silent > SILENCE { Ok(()) } else { Err(format!("{silent:?} of silence")) }
    })
    .unwrap();
    let status = hosts[1].status().unwrap();
    assert!(status["revocation_sequence"].as_u64() > Some(0), "{status}");
}
