//! Three commands, and everybody reaches everybody: hosts by name, sites by route.

use crate::{SOON, fixture};
use stoq_perf::bed::Family;
use stoq_perf::measure::ping;
use stoq_perf::mesh::{MESH, MeshHost, Page};
use stoq_perf::wait;

#[test]
fn three_commands_make_a_mesh_that_pings_and_curls_by_name() {
    let Some(fixture) = fixture("three_commands_make_a_mesh_that_pings_and_curls_by_name") else {
        return;
    };
    let hosts = fixture.mesh(3);
    let _pages: Vec<Page> = hosts.iter().map(|host| Page::serve(host).unwrap()).collect();
    for from in &hosts {
        for to in hosts.iter().filter(|to| to.name != from.name) {
            reaches_by_name(from, to);
        }
    }
}

fn reaches_by_name(from: &MeshHost, to: &MeshHost) {
    let name = to.domain_name();
    let addresses = wait::until(&format!("{name} known on {}", from.name), SOON, || {
        from.run("getent", &["ahosts", &name]).map_err(|error| error.to_string())
    });
    let first = addresses.unwrap().split_whitespace().next().unwrap().to_owned();
    assert_eq!(first, to.tunnel(Family::V6).unwrap().to_string(), "IPv6 comes first");
    for family in ["-4", "-6"] {
        from.run("ping", &[family, "-c", "2", "-i", "0.1", "-W", "2", &name]).unwrap();
    }
    let page = from.run("curl", &["-sS", "--fail", "-m", "5", &Page::address(to)]).unwrap();
    assert_eq!(page.trim(), to.name);
    let reverse = from.run("getent", &["hosts", &first]).unwrap();
    assert!(reverse.contains(&name), "{reverse}");
}

#[test]
fn sites_reach_each_other_once_routes_are_added_and_no_longer_once_they_are_removed() {
    let Some(fixture) = fixture("sites_reach_each_other_once_routes_are_added") else { return };
    let hosts = fixture.mesh(3);
    let (first, second) = (&hosts[1], &hosts[2]);
    for host in [first, second] {
        for family in Family::BOTH {
            hosts[0].ctl(&["mesh", "route", "add", &host.name, &host.guest.site(family)]).unwrap();
        }
    }
    for family in Family::BOTH {
        ping::wait_for_answer(&first.site, second.guest.site_host(family), SOON).unwrap();
        ping::wait_for_answer(&second.site, first.guest.site_host(family), SOON).unwrap();
    }
    let overlap = hosts[0].ctl(&["mesh", "route", "add", "edge-a", "10.5.7.0/24"]);
    assert!(overlap.is_err(), "a network was put behind two nodes");
    let gone = second.guest.site(Family::V4);
    hosts[0].ctl(&["mesh", "route", "remove", &second.name, &gone]).unwrap();
    let target = second.guest.site_host(Family::V4).to_string();
    wait::until("the end of a removed route", SOON, || {
        match first.site.run("ping", ["-n", "-c", "1", "-W", "0.3", &target]) {
            Ok(answered) => Err(answered),
            Err(_) => Ok(()),
        }
    })
    .unwrap();
}

/// What an operator sees of it.
#[test]
fn members_certificates_and_logs_are_shown_and_verify() {
    let Some(fixture) = fixture("members_certificates_and_logs_are_shown_and_verify") else {
        return;
    };
    let hosts = fixture.mesh(2);
    for host in &hosts {
        let members = host.ctl_json(&["mesh", "members"]).unwrap();
        let names: Vec<&str> = members["members"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|m| m["node"].as_str())
            .collect();
        assert_eq!(names, ["edge-a", "edge-b"]);
        assert!(members["mesh"].as_str().unwrap().starts_with(&format!("{MESH}-")), "{members}");
        let shown = host.ctl(&["cert", "show"]).unwrap();
        assert!(shown.contains(&host.name), "{shown}");
    }
    hosts[0].ctl(&["log", "verify"]).unwrap();
    hosts[0].ctl(&["audit", "verify"]).unwrap();
}
