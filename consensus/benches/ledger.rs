//! What the ledger costs at 10,000 members: a command with its hash, the state's hash alone, a
//! snapshot, its restoration, and replay. `cargo bench -p hypermesh-consensus --bench ledger`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark")]

use std::hint::black_box;
use std::time::Instant;

use hypermesh_consensus::{Command, CommandV1, Entry, Founder, Ledger, Policy, Role, replay};

const MEMBERS: u32 = 10_000;
const NOW: u64 = 1_800_000_000;
/// Commands of one measurement.
const COMMANDS: u32 = 1000;
/// Measurements of each kind. The fastest counts: other work on the machine only ever adds.
const RUNS: usize = 7;

fn found() -> CommandV1 {
    CommandV1::Found {
        mesh: "lab-0123456789abcdef".to_owned(),
        name: "lab".to_owned(),
        prefix: "fd12:3456:789a::/48".parse().unwrap(),
        ipv4: Some("10.92.0.0/16".parse().unwrap()),
        policy: Policy::Hybrid,
        root: vec![0x30; 4500],
        founder: Founder { node: "n0".to_owned(), keys: [0xff; 32], endpoints: Vec::new() },
        at_s: NOW,
    }
}

fn keys(n: u32) -> [u8; 32] {
    let mut keys = [0xaa; 32];
    keys[..4].copy_from_slice(&n.to_be_bytes());
    keys
}

fn token(n: u32) -> CommandV1 {
    let (hash, node, role) = (keys(n), format!("node-{n}"), Role::Node);
    CommandV1::CreateToken { hash, node, role, expires_at_s: NOW + 60, at_s: NOW }
}

fn enrol(n: u32) -> CommandV1 {
    let node = format!("node-{n}");
    let endpoints = vec!["198.51.100.7:9292".parse().unwrap()];
    CommandV1::Enrol { token: keys(n), node, keys: keys(!n), endpoints, at_s: NOW }
}

fn route(n: u32) -> CommandV1 {
    let prefix = format!("172.{}.{}.0/24", 16 + n / 256 % 16, n % 256).parse().unwrap();
    CommandV1::AddRoute { node: format!("node-{}", n + 1), prefix }
}

/// Applies commands, each followed by its hash, as the sequencer does; microseconds each.
fn apply(ledger: &mut Ledger, commands: impl Iterator<Item = CommandV1>) -> f64 {
    let commands: Vec<Command> = commands.map(Command::V1).collect();
    let started = Instant::now();
    for command in &commands {
        ledger.apply(command).unwrap();
        black_box(ledger.hash());
    }
    started.elapsed().as_secs_f64() * 1e6 / commands.len() as f64
}

fn fastest(mut run: impl FnMut() -> f64) -> f64 {
    (0..RUNS).map(|_| run()).fold(f64::INFINITY, f64::min)
}

/// Microseconds that one call takes.
fn time<T>(mut call: impl FnMut() -> T) -> f64 {
    fastest(|| {
        let started = Instant::now();
        black_box(call());
        started.elapsed().as_secs_f64() * 1e6
    })
}

fn main() {
    let mut ledger = Ledger::default();
    apply(&mut ledger, [found()].into_iter());
    let mut entries = Vec::new();
    for n in 1..=MEMBERS {
        for command in [token(n), enrol(n)].map(Command::V1) {
            ledger.apply(&command).unwrap();
            let (height, state_hash) = (ledger.height(), ledger.hash());
            entries.push(Entry { height, command: command.encode().unwrap(), state_hash });
        }
    }
    let base = ledger.clone();
    let next = || MEMBERS + 1..=MEMBERS + COMMANDS;
    let tokens = fastest(|| apply(&mut base.clone(), next().map(token)));
    let mut tokened = base.clone();
    apply(&mut tokened, next().map(token));
    let enrolments = fastest(|| apply(&mut tokened.clone(), next().map(enrol)));
    let routes = fastest(|| apply(&mut base.clone(), (0..COMMANDS).map(route)));
    let hash = time(|| (0..COMMANDS).map(|_| base.hash()[0]).max()) / f64::from(COMMANDS);
    let snapshot = base.snapshot();
    println!(
        "{} members, every command with the hash of the state behind it:",
        ledger.members().len()
    );
    println!("create token   {tokens:8.1} us each, up to {COMMANDS} open");
    println!("enrol          {enrolments:8.1} us each");
    println!("add route      {routes:8.1} us each");
    println!("hash alone     {hash:8.1} us");
    println!(
        "snapshot       {:8.1} ms, {} KiB",
        time(|| base.snapshot()) / 1e3,
        snapshot.len() / 1024
    );
    println!("restore        {:8.1} ms", time(|| Ledger::restore(&snapshot)) / 1e3);
    let mut founding = Ledger::default();
    apply(&mut founding, [found()].into_iter());
    let start = founding.snapshot();
    let replayed = time(|| replay(Some(&start), entries.clone()).unwrap().height()) / 1e3;
    println!("replay         {replayed:8.1} ms, {} commands", entries.len());
}
