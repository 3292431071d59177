//! The `xdp` port really goes past the kernel, and lives with what the host does to its interface.

use crate::{Fixture, MIB, SOON};
use serde_json::Value;
use std::fs;
use std::time::Duration;
use stoq_perf::bed::{Family, Namespace, Side, WAN};
use stoq_perf::measure::file;
use stoq_perf::measure::flow::Flow;
use stoq_perf::node::Node;
use stoq_perf::wait;
use stoq_xdp::{Program, Settings};

/// How long TCP inside may need to notice that the path is back (RFC 6298 §5.5).
const TCP_NOTICES: Duration = Duration::from_secs(30);

/// Records that show that a flow goes on, and not only empties a buffer.
const GOES_ON: u64 = 500;

/// Datagrams that the kernel may see while packets go past it: handshakes, and the one now and then
/// that keeps a neighbour known.
const SEEN_BY_KERNEL: u64 = 100;

/// Makes each function of a [`Fixture`] a test on the `xdp` port.
macro_rules! on_xdp {
    ($($test:ident),* $(,)?) => {
        mod xdp {
            $(#[test] fn $test() { crate::run(stringify!($test), "xdp", super::$test) })*
        }
    };
}

on_xdp!(
    the_kernel_does_not_see_the_packets,
    packets_are_tagged_for_a_vlan,
    jumbo_frames_pass_whole,
    an_interface_that_goes_down_and_up,
    an_interface_with_another_name,
    an_interface_that_is_deleted_and_made_anew,
    an_mtu_that_grows,
    a_kill_leaves_no_program_and_a_restart_succeeds_at_once,
    a_program_of_another_is_not_displaced,
    the_rules_are_reloaded,
    auto_tries_all_three,
    packets_are_handed_to_the_worker_that_owns_them,
    a_new_version_that_cannot_be_started_leaves_the_port,
);

/// A hand-over begins by leaving the interface to the new process.
fn a_new_version_that_cannot_be_started_leaves_the_port(fixture: &Fixture) {
    let own = fixture.deployment.with_own_program().unwrap();
    let (a, b) = own.start_both(&fixture.config()).unwrap();
    fixture.wait_for_sites(SOON);
    let flow = flow(fixture);
    fs::remove_file(&own.binaries().stoqd).unwrap();
    let refused = a.ctl(&["upgrade"]).unwrap_err().to_string();
    assert!(refused.contains("No such file"), "{refused}");
    wait_for_port(&a, "xdp");
    let before = redirected(&a);
    wait::until("packets going past the kernel again", SOON, || match redirected(&a) {
        now if now >= before + GOES_ON => Ok(()),
        now => Err(format!("{now} so far, {before} before")),
    })
    .unwrap();
    drop((flow, b));
}

/// UDP datagrams that the kernel of a namespace has taken, and those that it has sent, both families.
fn kernel_datagrams(of: &Namespace) -> [u64; 2] {
    let text = of.run("cat", ["/proc/net/snmp6", "/proc/net/snmp"]).unwrap();
    let v6 = |wanted: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(wanted)).unwrap();
        line.trim().parse::<u64>().unwrap()
    };
    // Two lines, of names and of figures: InDatagrams is the first, OutDatagrams the fourth.
    let v4 = text.lines().filter_map(|line| line.strip_prefix("Udp: ")).nth(1).unwrap();
    let v4: Vec<u64> = v4.split_whitespace().map(|word| word.parse().unwrap()).collect();
    [v4[0] + v6("Udp6InDatagrams"), v4[3] + v6("Udp6OutDatagrams")]
}

fn redirected(node: &Node) -> u64 {
    let metrics = node.metrics().unwrap();
    let line = metrics.lines().find(|line| line.contains("verdict=\"redirected\"")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// The port as the status has it, once it is this one.
fn wait_for_port(node: &Node, port: &str) -> Value {
    wait::until(&format!("the port being {port}"), SOON, || {
        let status = node.status().map_err(|error| error.to_string())?;
        let is = status["port"].clone();
        if is["selected"] == port { Ok(is) } else { Err(is.to_string()) }
    })
    .unwrap()
}

fn flow(fixture: &Fixture) -> Flow {
    let address = Side::B.host(Family::V6);
    let flow = Flow::start(fixture.host(Side::A), fixture.host(Side::B), address).unwrap();
    flow.wait_for_more(GOES_ON, SOON).unwrap();
    flow
}

/// A file crosses, and the kernel of either edge sees next to nothing of it.
fn goes_past_the_kernel(fixture: &Fixture, nodes: [&Node; 2]) {
    let edges = [&fixture.bed.a.namespace, &fixture.bed.b.namespace];
    let before = edges.map(kernel_datagrams);
    let rings = nodes.map(redirected);
    fixture.copy(16 * MIB, Family::V6);
    for (side, edge) in edges.iter().enumerate() {
        let now = kernel_datagrams(edge);
        let seen = [now[0] - before[side][0], now[1] - before[side][1]];
        let few = seen.iter().all(|seen| *seen < SEEN_BY_KERNEL);
        assert!(few, "the kernel of edge {side} took and sent {seen:?} datagrams");
    }
    let counted: u64 = (0..2).map(|side| redirected(nodes[side]) - rings[side]).sum();
    assert!(counted > 10_000, "only {counted} packets went through the rings");
}

fn the_kernel_does_not_see_the_packets(fixture: &Fixture) {
    let (a, b) = fixture.start();
    fixture.wait_for_sites(SOON);
    fixture.copy(MIB, Family::V4);
    for node in [&a, &b] {
        let port = node.status().unwrap()["port"].clone();
        assert_eq!((&port["selected"], &port["mode"]), (&"xdp".into(), &"native+copy".into()));
    }
    goes_past_the_kernel(fixture, [&a, &b]);
}

fn packets_are_tagged_for_a_vlan(fixture: &Fixture) {
    if let Err(error) = fixture.bed.tag(7) {
        eprintln!("packets_are_tagged_for_a_vlan: SKIPPED, this kernel has no VLANs: {error}");
        return;
    }
    let (a, b) = fixture.start();
    fixture.wait_for_sites(SOON);
    fixture.copy(MIB, Family::V4);
    goes_past_the_kernel(fixture, [&a, &b]);
}

fn jumbo_frames_pass_whole(fixture: &Fixture) {
    fixture.bed.mtu(9000).unwrap();
    let (a, b) = fixture.start();
    fixture.wait_for_sites(SOON);
    let before = redirected(&b);
    // From edge to edge: the sites' own networks have an MTU of 1500.
    let edges = (&fixture.bed.a.namespace, &fixture.bed.b.namespace);
    let copied = file::copy(edges, Side::B.tunnel(Family::V6), 32 * MIB, fixture.bed.folder());
    let copied = copied.unwrap();
    assert_eq!(copied.sent, copied.arrived);
    let packets = redirected(&b) - before;
    assert!(packets < 32 * MIB / 4000, "{packets} packets for 32 MiB are not jumbo frames");
    let room = a.status().unwrap()["links"][0]["datagram_max"].as_u64().unwrap();
    assert!(room > 8000, "datagrams of {room} bytes");
}

fn an_interface_that_goes_down_and_up(fixture: &Fixture) {
    survives(fixture, |edge| drop(edge.ip(&format!("link set {WAN} up")).unwrap()));
}

fn an_interface_with_another_name(fixture: &Fixture) {
    survives(fixture, |edge| {
        edge.ip(&format!("link set {WAN} name uplink")).unwrap();
        edge.ip("link set uplink up").unwrap();
    });
}

/// A flow lives on while the interface is down and something is done to it, and packets go past the
/// kernel again afterwards.
fn survives(fixture: &Fixture, what: impl FnOnce(&Namespace)) {
    let edge = &fixture.bed.a.namespace;
    // Or the addresses go with the carrier, and nobody here gives them back.
    edge.sysctl("net.ipv6.conf.wan.keep_addr_on_down", "1").unwrap();
    let (a, b) = fixture.start();
    fixture.wait_for_sites(SOON);
    let flow = flow(fixture);
    edge.ip(&format!("link set {WAN} down")).unwrap();
    what(edge);
    flow.wait_for_more(GOES_ON, TCP_NOTICES).unwrap();
    flow.finish().unwrap();
    wait_for_port(&a, "xdp");
    goes_past_the_kernel(fixture, [&a, &b]);
}

fn an_interface_that_is_deleted_and_made_anew(fixture: &Fixture) {
    let (a, b) = fixture.start();
    fixture.wait_for_sites(SOON);
    let flow = flow(fixture);
    fixture.bed.unplug(Side::A).unwrap();
    let beneath = wait::until("the port beneath", SOON, || {
        let port = a.status().map_err(|error| error.to_string())?["port"].clone();
        if port["selected"] == "xdp" { Err(port.to_string()) } else { Ok(port) }
    });
    let beneath = beneath.unwrap();
    assert_eq!(beneath["passed_over"][0]["port"], "xdp", "{beneath}");
    assert!(beneath["passed_over"][0]["reason"].as_str().unwrap().contains(WAN), "{beneath}");
    fixture.bed.replug(Side::A).unwrap();
    wait_for_port(&a, "xdp");
    flow.wait_for_more(GOES_ON, TCP_NOTICES).unwrap();
    flow.finish().unwrap();
    goes_past_the_kernel(fixture, [&a, &b]);
}

fn an_mtu_that_grows(fixture: &Fixture) {
    let (a, b) = fixture.start();
    fixture.wait_for_sites(SOON);
    let flow = flow(fixture);
    fixture.bed.mtu(3000).unwrap();
    flow.wait_for_more(GOES_ON, TCP_NOTICES).unwrap();
    flow.finish().unwrap();
    for node in [&a, &b] {
        wait_for_port(node, "xdp");
    }
    goes_past_the_kernel(fixture, [&a, &b]);
}

fn has_program(edge: &Namespace) -> bool {
    edge.ip(&format!("link show dev {WAN}")).unwrap().contains("prog/xdp")
}

fn a_kill_leaves_no_program_and_a_restart_succeeds_at_once(fixture: &Fixture) {
    let edge = &fixture.bed.b.namespace;
    let (_a, mut b) = fixture.start();
    for _ in 0..3 {
        assert!(has_program(edge));
        b.kill().unwrap();
        b = fixture.deployment.start(Side::B, &fixture.config()).unwrap();
        b.wait_for_link("up", SOON).unwrap();
    }
    b.kill().unwrap();
    // Its broker hears of the death by a signal, and ends.
    wait::until("the program being gone", SOON, || {
        if has_program(edge) { Err("it is still attached".to_owned()) } else { Ok(()) }
    })
    .unwrap();
}

fn a_program_of_another_is_not_displaced(fixture: &Fixture) {
    let edge = fixture.bed.a.namespace.clone();
    let other = edge.enter(|| Program::attach(WAN, &Settings::default())).unwrap().unwrap();
    let mut refused = fixture.deployment.start(Side::A, &fixture.config()).unwrap();
    let status = refused.process.wait_exit(SOON).unwrap();
    let log = refused.process.log();
    assert!(!status.success(), "{log}");
    for word in ["program", WAN, "uring"] {
        assert!(log.contains(word), "`{word}` is missing in {log}");
    }
    assert!(has_program(&edge), "the other program was displaced");
    drop(other);
    let (_a, _b) = fixture.start();
}

fn the_rules_are_reloaded(fixture: &Fixture) {
    let (_a, b) = fixture.start();
    fixture.wait_for_sites(SOON);
    let mut config = fixture.config();
    config.set("xdp.deny", "[\"fd00:99::1/128\", \"10.99.0.1/32\"]");
    fixture.deployment.write(Side::B, &config).unwrap();
    b.ctl(&["reload"]).unwrap();
    wait::until("packets of the refused peer being dropped", SOON, || {
        match b.drops("xdp_denied").unwrap() {
            0 => Err("none yet".to_owned()),
            _ => Ok(()),
        }
    })
    .unwrap();
    fixture.deployment.write(Side::B, &fixture.config()).unwrap();
    b.ctl(&["reload"]).unwrap();
    fixture.wait_for_sites(TCP_NOTICES);
}

fn auto_tries_all_three(fixture: &Fixture) {
    let mut config = fixture.config();
    config.set("transport.port", "\"auto\"");
    let (a, _b) = fixture.deployment.start_both(&config).unwrap();
    let port = a.status().unwrap()["port"].clone();
    let mut named: Vec<&str> = vec![port["selected"].as_str().unwrap()];
    for other in port["passed_over"].as_array().unwrap() {
        named.push(other["port"].as_str().unwrap());
        let reason = other["reason"].as_str().unwrap();
        assert!(reason.contains("slower here"), "{port}");
    }
    eprintln!("auto: {port}");
    let measured = port.to_string().contains("ns of CPU to send a packet");
    assert!(measured, "xdp was not compared with the others: {port}");
    named.sort_unstable();
    assert_eq!(named, ["mio", "uring", "xdp"], "{port}");
    let edge = &fixture.bed.a.namespace;
    assert_eq!(has_program(edge), port["selected"] == "xdp", "{port}");
    let left = edge.ip("-6 neigh show").unwrap();
    assert!(!left.contains("544f"), "the made-up neighbour is left behind: {left}");
    fixture.wait_for_sites(SOON);
    fixture.copy(MIB, Family::V6);
}

/// Two workers and one queue: what arrives for the second worker's connections reaches the first.
fn packets_are_handed_to_the_worker_that_owns_them(fixture: &Fixture) {
    let mut config = fixture.config();
    config.set("transport.workers", "2");
    let (a, b) = fixture.deployment.start_both(&config).unwrap();
    fixture.wait_for_sites(SOON);
    let edges = [&fixture.bed.a.namespace, &fixture.bed.b.namespace];
    let before = edges.map(|edge| kernel_datagrams(edge)[0]);
    // A flow stays on one connection, and which one is by chance.
    for _ in 0..8 {
        fixture.copy(MIB, Family::V6);
    }
    for node in [&a, &b] {
        let metrics = node.metrics().unwrap();
        let lines =
            metrics.lines().filter(|line| line.starts_with("stoq_worker_handed_over_total"));
        let handed: u64 =
            lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum();
        let name = node.side.node();
        assert!(handed > 0, "{name} handed nothing over with one queue for two workers");
        assert_eq!(node.drops("handover_full").unwrap(), 0, "{name}");
    }
    // The worker without a queue sends through the kernel, but everything arrives past it.
    for (edge, before) in edges.iter().zip(before) {
        let taken = kernel_datagrams(edge)[0] - before;
        assert!(taken < SEEN_BY_KERNEL, "the kernel of {} took {taken} datagrams", edge.name());
    }
}
