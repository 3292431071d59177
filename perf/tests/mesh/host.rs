//! What the bed promises of a host: files, a name and users of its own, on this machine's real paths.

use std::fs;
use stoq_perf::bed::{Bed, Family};
use stoq_perf::measure::ping;
use stoq_perf::mesh::MeshHost;
use stoq_perf::workspace::MeshBinaries;

#[test]
fn a_host_has_files_a_name_and_users_of_its_own() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("a_host_has_files_a_name_and_users_of_its_own: SKIPPED, namespaces need root");
        return;
    }
    let none = || "/nonexistent".into();
    let binaries = MeshBinaries { stoqd: none(), stoqctl: none(), hypermeshd: none() };
    let bed = Bed::new().unwrap();
    let [a, b] = [0, 1].map(|place| MeshHost::new(&bed, &binaries, place).unwrap());
    assert_eq!(a.run("hostname", &[]).unwrap().trim(), "edge-a");
    a.run("sh", &["-c", "mkdir -p /etc/stoq && echo ours >/etc/stoq/mark"]).unwrap();
    assert_eq!(fs::read_to_string(a.file("/etc/stoq/mark")).unwrap(), "ours\n");
    assert!(!b.file("/etc/stoq/mark").exists() && !fs::exists("/etc/stoq/mark").unwrap());
    let owner = a.run("stat", &["-c", "%U %a", "/var/lib/hypermesh"]).unwrap();
    assert_eq!(owner.trim(), "hypermesh 700");
    let resolvers = b.run("cat", &["/etc/resolv.conf"]).unwrap();
    assert!(resolvers.starts_with("nameserver 127.0.92.53"), "{resolvers}");
    for family in Family::BOTH {
        ping::wait_for_answer(&a.guest.namespace, b.guest.wan(family), crate::SOON).unwrap();
        ping::wait_for_answer(&a.site, a.guest.wan(family), crate::SOON).unwrap();
    }
    let source = a.run("ip", &["-o", "route", "get", "192.0.2.1"]).unwrap();
    assert!(source.contains(&a.guest.wan(Family::V4).to_string()), "{source}");
}
