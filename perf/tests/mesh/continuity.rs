//! Traffic does not notice what happens to the control plane.

use crate::{SOON, fixture};
use stoq_perf::bed::Family;
use stoq_perf::measure::iperf::{Load, Transfer};
use stoq_perf::mesh::{self, Pings};
use stoq_perf::wait;

/// Answers that show that a flow goes on: two seconds of them.
const GOES_ON: u64 = 200;

/// A stream that any host carries beside others that are busy.
const RATE_MBIT: u32 = 20;

/// How long it runs: joining takes a part of that.
const TRANSFER_S: u32 = 5;

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

    let ends = (&hosts[0].guest.namespace, &hosts[1].guest.namespace);
    let to = hosts[1].tunnel(Family::V6).unwrap();
    let logs = fixture.bed.folder();
    let transfer =
        Transfer::start(ends, to, Load::TcpAt(RATE_MBIT), (0, TRANSFER_S), logs).unwrap();
    let token = hosts[0].token(&fourth.name).unwrap();
    fourth.join(&token).unwrap();
    let reached = transfer.finish().unwrap();
    println!("a fourth host joined meanwhile: {reached:?}");
    assert!(reached.mbps > f64::from(RATE_MBIT) * 0.9, "{reached:?}");
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
