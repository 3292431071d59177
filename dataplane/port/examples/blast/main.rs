//! Measures ports between two network namespaces in wire mode: `cargo run --release --example blast`
//! (as root). The figures are those of `docs/decisions/0002-port-sender.md`.
//!
//! ```text
//! sender's namespace ── veth ── bridge's namespace ── veth ── receiver's namespace
//! ```
//!
//! Both ends spin for as long as a worker works on each packet, and the receiver tells what it got,
//! which opens the sender's window: so that, as with QUIC, nobody sends faster than the other takes.

mod end;
mod wire;

use std::process::{Command, ExitCode};

use stoq_port::{PortKind, PortOptions, Sender};

/// Runs of each case; the median is printed.
const RUNS: usize = 3;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        [] => compare(),
        [role @ ("send" | "receive"), kind, sender, offload] => parse(kind, sender, offload)
            .and_then(|(kind, options)| end::run(role == "send", kind, &options)),
        _ => Err("usage: blast [send|receive mio|uring inline|thread whole|single]".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(kind: &str, sender: &str, offload: &str) -> Result<(PortKind, PortOptions), Failure> {
    let kind = match kind {
        "mio" => PortKind::Mio,
        "uring" => PortKind::Uring,
        other => return Err(format!("expected mio or uring, got {other}").into()),
    };
    let sender = if sender == "inline" { Sender::Inline } else { Sender::Thread };
    let whole = offload == "whole";
    Ok((kind, PortOptions { gso: whole, gro: whole, sender, ..PortOptions::default() }))
}

/// All cases, in turn, so that a busy moment of the host touches all alike.
fn compare() -> Result<(), Failure> {
    let wire = wire::Wire::new()?;
    let mut cases = Vec::new();
    for offload in ["whole", "single"] {
        for kind in ["mio", "uring"] {
            for sender in ["inline", "thread"] {
                cases.push(([kind, sender, offload], Vec::new()));
            }
        }
    }
    for _ in 0..RUNS {
        for (case, results) in &mut cases {
            results.push(measure(&wire, case)?);
        }
    }
    println!("| port | sender | trains | Gbit/s | sender's CPU ns/packet | receiver's |");
    println!("|---|---|---|---|---|---|");
    for ([kind, sender, offload], mut results) in cases {
        results.sort_by(|a, b| a.gbps.total_cmp(&b.gbps));
        let middle = &results[RUNS / 2];
        println!(
            "| {kind} | {sender} | {offload} | {:.2} | {:.0} | {:.0} |",
            middle.gbps, middle.sender_ns, middle.receiver_ns
        );
    }
    Ok(())
}

/// What one run gave.
struct Run {
    gbps: f64,
    sender_ns: f64,
    receiver_ns: f64,
}

fn measure(wire: &wire::Wire, case: &[&str; 3]) -> Result<Run, Failure> {
    let program = std::env::current_exe()?;
    let mut receiver = Command::new("ip");
    receiver.args(["netns", "exec", wire.far()]).arg(&program).arg("receive").args(case);
    let receiver = wire::Started::new(receiver)?;
    let mut sender = Command::new("ip");
    sender.args(["netns", "exec", wire.near()]).arg(&program).arg("send").args(case);
    let sent = wire::Started::new(sender)?.finish()?;
    let received = receiver.finish()?;
    Ok(Run { gbps: sent[0], sender_ns: sent[1], receiver_ns: received[1] })
}
