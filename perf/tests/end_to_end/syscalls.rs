//! The `uring` port really is one: its workers move no packet by recvmsg or sendmsg.

use crate::{Fixture, MIB, SOON};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use stoq_perf::bed::{Family, Side};
use stoq_perf::node::Node;
use stoq_perf::process::Process;

/// What moves packets without io_uring.
const PACKET_CALLS: &str = "trace=recvmsg,sendmsg,recvmmsg,sendmmsg,recvfrom,sendto";

/// How the threads of the packet path are called.
const WORKER: &str = "worker";

#[test]
fn uring_workers_make_no_packet_calls() {
    crate::run("uring_workers_make_no_packet_calls", "uring", |fixture| {
        let calls = worker_calls(fixture);
        assert!(calls.is_empty(), "{} calls, such as {:?}", calls.len(), calls.first());
    });
}

/// The same trace on the other port, so that an empty one means something.
#[test]
fn mio_workers_make_packet_calls() {
    crate::run("mio_workers_make_packet_calls", "mio", |fixture| {
        assert!(!worker_calls(fixture).is_empty());
    });
}

fn worker_calls(fixture: &Fixture) -> Vec<String> {
    let (a, _b) = fixture.start();
    fixture.wait_for_sites(SOON);
    let trace = fixture.bed.folder().join("calls.txt");
    let (file, pid) = (trace.to_string_lossy().into_owned(), a.process.pid().to_string());
    let words = ["-f", "-e", PACKET_CALLS, "-o", &file, "-p", &pid];
    let log = fixture.bed.folder().join("strace.log");
    let namespace = &fixture.bed.a.namespace;
    let mut strace = Process::spawn(namespace, &log, Path::new("strace"), words).unwrap();
    strace.wait_for_log("attached", SOON).unwrap();
    fixture.copy(MIB, Family::V6);
    // Its exit status is that of the signal.
    strace.signal(Signal::SIGINT).unwrap();
    strace.wait_exit(SOON).unwrap();
    let workers = workers(&a);
    assert!(!workers.is_empty(), "no thread of {} is called {WORKER}…", Side::A.node());
    let traced = fs::read_to_string(&trace).unwrap();
    traced.lines().filter(|line| is_call_of(line, &workers)).map(str::to_owned).collect()
}

/// A line is a thread ID and a call, or a note about a signal or an exit.
fn is_call_of(line: &str, threads: &BTreeSet<String>) -> bool {
    line.split_once(' ').is_some_and(|(tid, call)| threads.contains(tid) && call.contains('('))
}

/// The thread IDs of the workers.
fn workers(node: &Node) -> BTreeSet<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", node.process.pid())).unwrap();
    let tids = tasks.map(|task| task.unwrap().file_name().to_string_lossy().into_owned());
    tids.filter(|tid| {
        let path = format!("/proc/{}/task/{tid}/comm", node.process.pid());
        fs::read_to_string(path).unwrap_or_default().contains(WORKER)
    })
    .collect()
}
