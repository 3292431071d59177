//! How the daemon's answers are shown to a person. Pure text; scripts use `--json`.

use std::fmt::Write;
use std::time::Duration;

use stoq_control::{Link, LinkState, Status, Tier};
use stoq_identity::Span;

/// Blank columns between two columns of a table.
const GAP: &str = "  ";

/// The whole of `stoqctl status`.
pub fn status(status: &Status) -> String {
    let uptime = Span(Duration::from_secs(status.uptime_s));
    let mut text = format!("{}  stoqd {}  up {uptime}\n", status.node, status.version);
    let _ = writeln!(text, "port {} ({})", status.port.selected, status.port.mode);
    for passed in &status.port.passed_over {
        let _ = writeln!(text, "  not {}: {}", passed.port, passed.reason);
    }
    let workers = status.workers.iter().map(|worker| {
        let core = worker.core.map_or("unpinned".to_owned(), |core| format!("core {core}"));
        format!("{core}: {} connections", worker.connections)
    });
    let _ = writeln!(text, "workers {}", workers.collect::<Vec<_>>().join(", "));
    text.push('\n');
    text.push_str(&links(&status.links));
    text.push_str(&drops(status));
    for warning in &status.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

/// What a reload changed.
pub fn reloaded(restart_needed: &[String], warnings: &[String]) -> String {
    let mut text = "Reloaded.\n".to_owned();
    if !restart_needed.is_empty() {
        let keys = restart_needed.join(", ");
        let _ = writeln!(text, "Only after a restart: {keys} (`systemctl restart stoqd`).");
    }
    for warning in warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

fn links(links: &[Link]) -> String {
    if links.is_empty() {
        return "no peers are configured\n".to_owned();
    }
    let head = ["PEER", "STATE", "ENDPOINT", "TIER", "RTT", "DATAGRAM", "SENT", "RECEIVED", "KEYS"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(links.iter().map(|link| {
        [
            link.peer.clone(),
            state(link.state).to_owned(),
            link.endpoint.map_or("-".to_owned(), |endpoint| endpoint.to_string()),
            tier(link.tier).to_owned(),
            milliseconds(link.rtt_us),
            link.datagram_max.to_string(),
            bytes(link.tx_bytes),
            bytes(link.rx_bytes),
            link.key_exchange.clone(),
        ]
    }));
    columns(&rows)
}

fn drops(status: &Status) -> String {
    let mut text = String::new();
    for (reason, packets) in status.drops.iter().filter(|(_, packets)| **packets > 0) {
        let _ = writeln!(text, "dropped {packets} packets: {reason}");
    }
    text
}

/// Left-aligned columns, each as wide as its widest cell.
pub fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join(GAP).trim_end());
        text.push('\n');
    }
    text
}

/// The state's name, as in JSON.
pub const fn state(state: LinkState) -> &'static str {
    match state {
        LinkState::Connecting => "connecting",
        LinkState::Up => "up",
        LinkState::Draining => "draining",
        LinkState::Down => "down",
    }
}

const fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Floor => "floor",
        Tier::M100 => "100M",
        Tier::G1 => "1G",
        Tier::G2_5 => "2.5G",
        Tier::G10 => "10G",
    }
}

fn milliseconds(us: u64) -> String {
    format!("{}.{:02} ms", us / 1000, us % 1000 / 10)
}

/// Bytes in the largest binary unit that leaves at least one before the point.
fn bytes(count: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let Some((unit, shift)) = units.into_iter().find(|(_, shift)| count >> shift > 0) else {
        return format!("{count} B");
    };
    let tenths = (u128::from(count) * 10) >> shift;
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stoq_control::{PassedOver, Port, Worker};

    fn example() -> Status {
        let link = Link {
            peer: "edge-b".into(),
            state: LinkState::Up,
            endpoint: Some("[fd00:99::2]:9292".parse().unwrap()),
            tier: Tier::G1,
            key_exchange: "X25519MLKEM768".into(),
            rtt_us: 310,
            datagram_max: 1350,
            tx_bytes: 3 << 29,
            rx_bytes: 1023,
            expired_s: 0,
        };
        let quiet =
            Link { peer: "c".into(), state: LinkState::Down, endpoint: None, ..link.clone() };
        Status {
            node: "edge-a".into(),
            version: "0.1.0".into(),
            uptime_s: 61,
            port: Port {
                selected: "uring".into(),
                mode: "gso+gro".into(),
                passed_over: vec![PassedOver { port: "xdp".into(), reason: "no BPF".into() }],
            },
            workers: vec![
                Worker { core: Some(1), connections: 2 },
                Worker { core: None, connections: 0 },
            ],
            links: vec![link, quiet],
            drops: [("no_route".to_owned(), 4), ("too_big".to_owned(), 0)].into(),
            ..Status::default()
        }
    }

    #[test]
    fn a_status_is_shown_whole() {
        let expected = "\
edge-a  stoqd 0.1.0  up 1 min 1 s
port uring (gso+gro)
  not xdp: no BPF
workers core 1: 2 connections, unpinned: 0 connections

PEER    STATE  ENDPOINT           TIER  RTT      DATAGRAM  SENT     RECEIVED  KEYS
edge-b  up     [fd00:99::2]:9292  1G    0.31 ms  1350      1.5 GiB  1023 B    X25519MLKEM768
c       down   -                  1G    0.31 ms  1350      1.5 GiB  1023 B    X25519MLKEM768
dropped 4 packets: no_route
warning: raise the buffers
";
        let mut shown = example();
        shown.warnings.push("raise the buffers".into());
        assert_eq!(status(&shown), expected);
    }

    #[test]
    fn a_reload_names_what_needs_a_restart() {
        assert_eq!(reloaded(&[], &[]), "Reloaded.\n");
        let text = reloaded(&["transport.port".into()], &["edge-b is overridden".into()]);
        assert!(text.contains("Only after a restart: transport.port"), "{text}");
        assert!(text.ends_with("warning: edge-b is overridden\n"), "{text}");
    }

    #[test]
    fn bytes_are_shown_in_the_unit_that_fits() {
        let shown = [0, 1023, 1024, 1536, (1 << 20) - 1, 1 << 20, u64::MAX].map(bytes);
        let expected =
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1023.9 KiB", "1.0 MiB", "17179869183.9 GiB"];
        assert_eq!(shown, expected);
    }
}
