//! Stands in for the links between stoqds: joins the sockets of hosts of a test.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use stoq_control::{ErrorCode, Refusal, Reply, Request, Response, Status, decode_call, encode};

use super::Host;

/// Which peer's socket a host reaches by a name.
type Way = Arc<dyn Fn(&str) -> Option<PathBuf> + Send + Sync>;

/// Hosts that all reach each other by name, until they are cut off.
#[derive(Clone, Default)]
pub struct Mesh(Arc<Mutex<BTreeMap<String, PathBuf>>>);

impl Mesh {
    /// Gives a host its links, and whoever asks for `name` reaches it from now on.
    pub fn plug(&self, host: &Host, name: &str) {
        let ways = self.clone();
        self.reach(host, name);
        serve(host, name, Vec::new(), move |peer| ways.0.lock().unwrap().get(peer).cloned());
    }

    /// Whoever asks for `name` reaches this host from now on.
    pub fn reach(&self, host: &Host, name: &str) {
        self.0.lock().unwrap().insert(name.to_owned(), host.peers());
    }

    /// Nobody reaches `name` any more.
    pub fn cut(&self, name: &str) {
        self.0.lock().unwrap().remove(name);
    }
}

/// A stoqd for `host`, known to its peers as `name`, that was shown these heads of logs.
pub fn serve(
    host: &Host,
    name: &str,
    heads: Vec<String>,
    way: impl Fn(&str) -> Option<PathBuf> + Send + Sync + 'static,
) {
    let listener = UnixListener::bind(host.dir.path().join("stoqd.sock")).unwrap();
    let (name, way): (_, Way) = (name.to_owned(), Arc::new(way));
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (name, heads, way) = (name.clone(), heads.clone(), Arc::clone(&way));
            std::thread::spawn(move || answer(stream, &name, heads, &way));
        }
    });
}

/// Answers one connection; what goes wrong ends it, as when a host of the test is gone.
fn answer(mut stream: UnixStream, name: &str, heads: Vec<String>, way: &Way) -> Option<()> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        line.push(byte[0]);
    }
    let mut peers = None;
    let response = match decode_call(&line).ok()?.request {
        Request::Stream { peer, .. } => {
            peers = way(&peer);
            let none = || Response::Error(Refusal::new(ErrorCode::Refused, "no link"));
            peers.as_ref().map_or_else(none, |_| Response::Stream {})
        }
        Request::Push { snapshot } => {
            Response::Pushed { number: snapshot.number, overridden: Vec::new() }
        }
        _ => {
            let status = Status { bundle: Some(u64::MAX), heads, ..Status::default() };
            Response::Status(Box::new(status))
        }
    };
    stream.write_all(&encode(&Reply::new(response)).ok()?).ok()?;
    join(stream, UnixStream::connect(peers?).ok()?, name)
}

/// Passes bytes between the two until both have ended.
fn join(mut stream: UnixStream, mut peer: UnixStream, name: &str) -> Option<()> {
    writeln!(peer, "{{\"peer\":\"{name}\",\"node\":\"x\"}}").ok()?;
    let (mut from, mut to) = (stream.try_clone().ok()?, peer.try_clone().ok()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let _ = std::io::copy(&mut peer, &mut stream);
    stream.shutdown(Shutdown::Both).ok()
}
