//! `soak`: mixed traffic for a long time, and whether memory and descriptors stay flat. A command that
//! is run on purpose, because it takes as long as it says.

use crate::bed::{Bed, Family, Namespace, Side};
use crate::measure::flow::Flow;
use crate::measure::iperf::{Load, Transfer};
use crate::measure::{file, median, ping};
use crate::node::{Deployment, LINK_UP, Node, NodeConfig};
use crate::{Error, Result, workspace};
use serde::Serialize;
use serde_json::json;
use std::fs;
use std::time::{Duration, Instant};

/// Records that must arrive in each turn on each flow: far below what any path carries.
const GOES_ON: u64 = 100;

/// How long a turn's records may take.
const TURN: Duration = Duration::from_secs(30);

/// Seconds of UDP in each turn, and its rate in Mbit/s: beside TCP at full speed, not instead of it.
const UDP_S: u32 = 5;
const UDP_MBIT: u32 = 50;

/// Bytes of the file that is copied in each turn.
const FILE: u64 = 16 << 20;

/// Memory that may be gained between the second fifth of the run and the last: a leak of one
/// packet in a million would show, and noise of an allocator does not.
const GROWTH: f64 = 8.0 * 1024.0 * 1024.0;

/// What is read of a daemon after each turn.
#[derive(Clone, Copy, Debug, Serialize)]
struct Reading {
    resident_bytes: u64,
    descriptors: usize,
}

/// Runs mixed traffic for `minutes` on a port, prints what it reads, and writes
/// `target/bench/soak.json`.
///
/// # Errors
/// When traffic stops, or memory or descriptors are not flat.
pub fn run(port: &str, minutes: u32) -> Result<()> {
    let bed = Bed::with_sites()?;
    let deployment = Deployment::new(&bed)?;
    let (a, b) = deployment.start_both(&NodeConfig::new(port))?;
    let hosts = (bed.a.site_host()?, bed.b.site_host()?);
    ping::wait_for_answer(hosts.0, Side::B.host(Family::V6), LINK_UP)?;
    let flows = [
        Flow::start(hosts.0, hosts.1, Side::B.host(Family::V6))?,
        Flow::start(hosts.1, hosts.0, Side::A.host(Family::V4))?,
    ];
    let (begin, length) = (Instant::now(), Duration::from_secs(u64::from(minutes) * 60));
    let mut readings = Vec::new();
    while begin.elapsed() < length {
        turn(&bed, hosts, &flows)?;
        let reading = [&a, &b].map(read);
        let [on_a, on_b] =
            reading.map(|r| format!("{} KiB, {} files", r.resident_bytes / 1024, r.descriptors));
        let records = flows.each_ref().map(Flow::received);
        println!("{:>5} s: A {on_a}; B {on_b}; records {records:?}", begin.elapsed().as_secs());
        readings.push(reading);
    }
    for flow in flows {
        flow.finish()?;
    }
    write(port, minutes, &readings, &a)?;
    is_flat(&readings)
}

fn turn(bed: &Bed, hosts: (&Namespace, &Namespace), flows: &[Flow; 2]) -> Result<()> {
    let address = Side::B.host(Family::V4);
    let udp = Transfer::start(hosts, address, Load::Udp(UDP_MBIT), (0, UDP_S), bed.folder())?;
    ping::run(hosts.0, Side::B.host(Family::V6), UDP_S * ping::RATE_PER_S)?;
    udp.finish()?;
    let copied = file::copy(hosts, address, FILE, bed.folder())?;
    if copied.sent != copied.arrived {
        return Err(Error::Output {
            what: "a file".to_owned(),
            expected: copied.sent,
            got: copied.arrived,
        });
    }
    flows.iter().try_for_each(|flow| flow.wait_for_more(GOES_ON, TURN))
}

fn read(node: &Node) -> Reading {
    Reading {
        resident_bytes: node.process.resident_bytes(),
        descriptors: node.process.descriptors(),
    }
}

fn write(port: &str, minutes: u32, readings: &[[Reading; 2]], node: &Node) -> Result<()> {
    let path = workspace::target().join("bench/soak.json");
    let report = json!({ "benchmark": "soak", "port": port, "minutes": minutes,
        "readings": readings, "status": node.status()? });
    let folder = path.parent().unwrap_or(&path);
    fs::create_dir_all(folder).map_err(Error::io("make target/bench"))?;
    fs::write(&path, format!("{report:#}\n")).map_err(Error::io("write soak.json"))
}

/// Compares the second fifth with the last: the first one fills pools and tables.
fn is_flat(readings: &[[Reading; 2]]) -> Result<()> {
    let fifth = readings.len() / 5;
    let (early, late) = (&readings[fifth..2 * fifth], &readings[readings.len() - fifth..]);
    for (node, name) in ["A", "B"].iter().enumerate() {
        let memory = |part: &[[Reading; 2]]| middle(part, |r| r[node].resident_bytes);
        let files = |part: &[[Reading; 2]]| middle(part, |r| r[node].descriptors as u64);
        let (gained, opened) = (memory(late) - memory(early), files(late) - files(early));
        println!(
            "{name}: {:+.0} KiB, {opened:+} files, from the second fifth to the last",
            gained / 1024.0
        );
        if gained > GROWTH || opened > 1.0 {
            return Err(Error::Output {
                what: format!("the soak of edge {name}"),
                expected: format!("at most {GROWTH} more bytes and one more file"),
                got: format!("{gained} bytes and {opened} files"),
            });
        }
    }
    Ok(())
}

fn middle(part: &[[Reading; 2]], figure: impl Fn(&[Reading; 2]) -> u64) -> f64 {
    median(&part.iter().map(|reading| figure(reading) as f64).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(
        memory: impl Fn(u64) -> u64,
        descriptors: impl Fn(u64) -> usize,
    ) -> Vec<[Reading; 2]> {
        let one = |turn| Reading { resident_bytes: memory(turn), descriptors: descriptors(turn) };
        (0..20).map(|turn| [one(turn), one(turn)]).collect()
    }

    #[test]
    fn a_start_that_grows_is_flat_and_a_leak_is_not() {
        let settles = readings(|turn| 10_000_000 + turn.min(3) * 5_000_000, |_| 40);
        assert!(is_flat(&settles).is_ok());
        assert!(is_flat(&readings(|turn| 10_000_000 + turn * 1_000_000, |_| 40)).is_err());
        assert!(is_flat(&readings(|_| 10_000_000, |turn| 40 + turn as usize)).is_err());
    }
}
