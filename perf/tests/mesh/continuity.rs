//! Traffic does not notice what happens to the control plane.

use crate::{SOON, fixture};
use stoq_perf::bed::Family;
use stoq_perf::mesh::{self, Pings};
use stoq_perf::wait;

/// Answers that show that a flow goes on: two seconds of them.
const GOES_ON: u64 = 200;

#[test]
fn a_fourth_host_joins_and_hypermeshd_is_killed_without_a_packet_lost() {
    let Some(fixture) = fixture("a_fourth_host_joins_and_hypermeshd_is_killed") else { return };
    let mut hosts = mesh::bare_hosts(&fixture.bed, &fixture.binaries, 4).unwrap();
    let mut fourth = hosts.pop().unwrap();
    mesh::found_and_join(&mut hosts).unwrap();
    let pings: Vec<Pings> = [(0, 1), (1, 2), (2, 0)]
        .into_iter()
        .flat_map(|(from, to)| Family::BOTH.map(|family| (from, to, family)))
        .map(|(from, to, family): (usize, usize, Family)| {
            Pings::start(&hosts[from], hosts[to].tunnel(family).unwrap()).unwrap()
        })
        .collect();

    let token = hosts[0].token(&fourth.name).unwrap();
    fourth.join(&token).unwrap();
    hosts.push(fourth);
    mesh::wait_for_full_mesh(&hosts).unwrap();
    for host in &mut hosts {
        host.kill_hypermeshd().unwrap();
    }
    wait_for_more(&pings);
    for host in &mut hosts {
        host.start_hypermeshd().unwrap();
    }
    wait::until("members known again", SOON, || {
        hosts[1].ctl(&["mesh", "members"]).map_err(|error| error.to_string())
    })
    .unwrap();
    wait_for_more(&pings);
    for ping in pings {
        let counted = ping.finish().unwrap();
        assert!(counted.sent > GOES_ON, "{counted:?}");
        // One may be on its way as ping is stopped.
        assert!(counted.sent - counted.answered <= 1, "{counted:?}");
    }
}

fn wait_for_more(pings: &[Pings]) {
    for ping in pings {
        let before = ping.answered();
        wait::until("answers going on", SOON, || {
            let more = ping.answered() - before;
            if more >= GOES_ON { Ok(()) } else { Err(format!("{more} more answers")) }
        })
        .unwrap();
    }
}
