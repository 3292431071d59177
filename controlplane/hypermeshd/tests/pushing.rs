//! How soon stoqd has the newest bundle. It is stood in for by a listener that speaks its protocol
//! and keeps the number, as stoqd needs a tunnel; the whole is measured where hosts have one.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod hosts;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use hosts::{Host, PATIENCE};
use hypermesh_api::{Done, Route, path};
use stoq_control::{Reply, Request, Response, Status, decode_call, encode};

/// Within which half of the pushes must follow their causes: well before the daemon's next look, 3 s
/// later. A machine that is busy with other tests delays some, and a push that waits for the look all.
const SOON: Duration = Duration::from_millis(1500);

/// Answers for stoqd until the first push, then is gone with all its connections.
fn until_pushed(listener: &UnixListener, bundle: Option<u64>) -> (u64, Vec<UnixStream>) {
    let mut held = Vec::new();
    loop {
        let (stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        let Ok(call) = decode_call(line.as_bytes()) else { continue };
        let (response, pushed) = match call.request {
            Request::Status {} => {
                (Response::Status(Box::new(Status { bundle, ..Status::default() })), None)
            }
            Request::Push { snapshot } => {
                assert!(snapshot.bundle.is_some());
                let number = snapshot.number;
                (Response::Pushed { number, overridden: Vec::new() }, Some(number))
            }
            other => panic!("{other:?}"),
        };
        (&stream).write_all(&encode(&Reply::new(response)).unwrap()).unwrap();
        held.push(stream);
        if let Some(number) = pushed {
            return (number, held);
        }
    }
}

/// A stoqd that runs until its first push; then says when that was.
fn stoqd(host: &Host, bundle: Option<u64>, pushed: Sender<(u64, Instant)>) {
    let socket = host.dir.path().join("stoqd.sock");
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        let (number, held) = until_pushed(&listener, bundle);
        let _ = pushed.send((number, Instant::now()));
        drop((listener, held));
    });
}

fn next(pushes: &Receiver<(u64, Instant)>) -> (u64, Instant) {
    pushes.recv_timeout(PATIENCE).unwrap()
}

#[test]
fn stoqd_has_the_bundle_soon_after_it_appears_and_after_each_change() {
    let host = Host::start();
    host.found("lab", "edge-a");
    let (sender, pushes) = channel();
    let mut took = Vec::new();
    for _ in 0..5 {
        // As after a start: it has nothing.
        let appeared = Instant::now();
        stoqd(&host, None, sender.clone());
        let (number, at) = next(&pushes);
        took.push(at - appeared);
        // As it goes on: it has what was pushed, and waits for a change.
        stoqd(&host, Some(number), sender.clone());
        let begin = Instant::now();
        while hypermesh_seen(&host) != Some(number) {
            assert!(begin.elapsed() < PATIENCE, "stoqd is not seen");
        }
        let prefix = format!("10.{number}.0.0/16").parse().unwrap();
        let route = Route { node: "edge-a".into(), prefix };
        let changed = Instant::now();
        let done: Done = host.client().post(path::ROUTE_ADD, &route).unwrap();
        let (number, at) = next(&pushes);
        assert_eq!(number, done.height);
        took.push(at - changed);
    }
    took.sort_unstable();
    println!("pushes: {took:?}");
    assert!(took[took.len() / 2] < SOON, "{took:?}");
}

/// The bundle that the daemon last saw stoqd enforce.
fn hypermesh_seen(host: &Host) -> Option<u64> {
    let status: hypermesh_api::Status = host.client().get(path::STATUS).unwrap();
    status.stoqd.bundle.filter(|_| status.stoqd.error.is_none())
}
