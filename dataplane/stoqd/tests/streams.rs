//! Two daemons on the loopback, without tunnel and without privilege, and streams between them: what
//! is refused and why, and what becomes of a stream when either end goes or does not read.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant, SystemTime};

use stoq_control::{Client, LinkState, Request, Response, Status};

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a stream that is not read may hold on its whole way: four socket buffers, the windows of the
/// stream and what both daemons have in hand are well below it.
const HELD_MAX: usize = 4 << 20;

/// Two linked daemons, edge-a and edge-b, in a folder of their own.
struct Pair {
    folder: tempfile::TempDir,
    daemons: Vec<Child>,
}

impl Drop for Pair {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if std::thread::panicking() {
            for node in ["edge-a", "edge-b"] {
                let log = std::fs::read_to_string(self.folder.path().join(node).join("log"));
                eprintln!("--- {node}\n{}", log.unwrap_or_default());
            }
        }
    }
}

fn configuration(node: &str, peer: &str, at: &Path, listen: &str, dial: &str) -> String {
    let home = at.join(node);
    let own = nix::unistd::geteuid();
    format!(
        "[node]\nname = '{node}'\nuser = 'no-such-user'\n\
         [identity]\ncertificate = '{0}/node.crt'\nkey = '{0}/node.key'\nauthority = '{0}/ca.crt'\n\
         [transport]\nport = 'mio'\nworkers = 1\nlisten = [{listen}]\nstate = '{0}/state'\n\
         [control]\nsocket = '{0}/sock'\npush_uids = [{own}]\noperate_uids = [{own}]\n\
         [[peer]]\nname = '{peer}'\nendpoints = [{dial}]\n\
         [[service]]\nname = 'open'\nsocket = '{1}/open'\npeers = ['{peer}']\n\
         [[service]]\nname = 'closed'\nsocket = '{1}/open'\npeers = []\n\
         [[service]]\nname = 'told'\nsocket = '{1}/open'\npeers = '*'\nannounce = true\n\
         [[service]]\nname = 'absent'\nsocket = '{1}/absent'\npeers = ['{peer}']\n",
        home.display(),
        at.display(),
    )
}

impl Pair {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        stoq_pki::init(&at.join("root"), "test", SystemTime::now()).unwrap();
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let address = format!("'{free}'");
        let sides = [("edge-a", "edge-b", "", &*address), ("edge-b", "edge-a", &*address, "")];
        let mut pair = Self { folder, daemons: Vec::new() };
        for (node, peer, listen, dial) in sides {
            let at = pair.folder.path();
            stoq_pki::issue(&at.join("root"), node, &at.join(node), SystemTime::now()).unwrap();
            let file = at.join(node).join("stoqd.toml");
            std::fs::write(&file, configuration(node, peer, at, listen, dial)).unwrap();
            let log = File::create(at.join(node).join("log")).unwrap();
            let mut stoqd = Command::new(env!("CARGO_BIN_EXE_stoqd"));
            stoqd.arg("--config").arg(&file).stderr(log.try_clone().unwrap()).stdout(log);
            let daemon = stoqd.spawn().unwrap();
            pair.daemons.push(daemon);
        }
        pair.wait("the link", |pair| {
            ["edge-a", "edge-b"].iter().all(|node| {
                pair.status(node).is_some_and(|status| status.links[0].state == LinkState::Up)
            })
        });
        pair
    }

    fn wait(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !done(self) {
            assert!(begin.elapsed() < PATIENCE, "{what} did not come");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn client(&self, node: &str) -> Option<Client> {
        Client::connect(&self.folder.path().join(node).join("sock"), PATIENCE).ok()
    }

    fn status(&self, node: &str) -> Option<Status> {
        match self.client(node)?.call(Request::Status {}).ok()? {
            Response::Status(status) => Some(*status),
            _ => None,
        }
    }

    fn drops(&self, node: &str, reason: &str) -> u64 {
        self.status(node).unwrap().drops[reason]
    }

    fn listen(&self) -> UnixListener {
        UnixListener::bind(self.folder.path().join("open")).unwrap()
    }

    /// Opens a stream from edge-a to a service of edge-b; or says why there is none.
    fn open(&self, service: &str) -> Result<UnixStream, String> {
        let mut client = self.client("edge-a").unwrap();
        let wanted = Request::Stream { peer: "edge-b".into(), service: service.into() };
        let answer = client.call(wanted).map_err(|error| error.to_string())?;
        assert_eq!(answer, Response::Stream {});
        let (_, stream) = client.into_duplex().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Ok(stream)
    }

    /// A stream, and the service's end of it.
    fn joined(&self, listener: &UnixListener) -> (UnixStream, UnixStream) {
        let here = self.open("open").unwrap();
        let (there, _) = listener.accept().unwrap();
        there.set_read_timeout(Some(PATIENCE)).unwrap();
        there.set_write_timeout(Some(PATIENCE)).unwrap();
        (here, there)
    }
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    fastrand::Rng::with_seed(7).fill(&mut noise);
    noise
}

/// Sends `content`, then the end of it, on a thread.
fn send(mut to: UnixStream, content: Vec<u8>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        to.write_all(&content).unwrap();
        to.shutdown(Shutdown::Write).unwrap();
    })
}

fn read_to_end(mut from: &UnixStream) -> Vec<u8> {
    let mut all = Vec::new();
    from.read_to_end(&mut all).unwrap();
    all
}

#[test]
fn both_directions_are_carried_and_ended_apart() {
    let pair = Pair::start();
    let listener = pair.listen();
    for (out, back) in [(0, 5), (5, 0), (9_000_001, 3_000_001)] {
        let (here, there) = pair.joined(&listener);
        let sending = send(here.try_clone().unwrap(), noise(out));
        assert!(read_to_end(&there) == noise(out));
        // The other direction still works after this one has ended.
        let answering = send(there.try_clone().unwrap(), noise(back));
        assert!(read_to_end(&here) == noise(back));
        sending.join().unwrap();
        answering.join().unwrap();
    }
    let carried = pair.status("edge-b").unwrap().links[0].rx_bytes;
    assert!(carried >= 9_000_006, "{carried}");
}

#[test]
fn a_service_for_all_is_told_who_calls_before_the_first_byte() {
    let pair = Pair::start();
    let listener = pair.listen();
    let here = pair.open("told").unwrap();
    let (there, _) = listener.accept().unwrap();
    there.set_read_timeout(Some(PATIENCE)).unwrap();
    let sending = send(here, b"{\"peer\":\"edge-z\"}\n".to_vec());
    let all = String::from_utf8(read_to_end(&there)).unwrap();
    let told = "{\"peer\":\"edge-a\",\"node\":\"stoq://test/edge-a\"}\n";
    assert_eq!(all, format!("{told}{{\"peer\":\"edge-z\"}}\n"));
    sending.join().unwrap();
}

#[test]
fn a_renewed_identity_is_taken_up_and_no_link_is_lost() {
    let pair = Pair::start();
    let listener = pair.listen();
    let (here, there) = pair.joined(&listener);
    let at = pair.folder.path();
    // The end that accepted asks the other to replace the connection.
    for node in ["edge-b", "edge-a"] {
        let before = pair.status(node).unwrap().certificate.unwrap();
        assert_eq!((before.kind.as_str(), before.policy.as_str()), ("node", "hybrid"));
        stoq_pki::issue(&at.join("root"), node, &at.join(node), SystemTime::now()).unwrap();
        let [certificate, key] = ["node.crt", "node.key"].map(|file| at.join(node).join(file));
        let mut client = pair.client(node).unwrap();
        let elsewhere = Request::Identity { certificate: key.clone(), key: key.clone() };
        let refusal = client.call(elsewhere).unwrap_err().to_string();
        assert!(refusal.contains("expected the configured files"), "{refusal}");
        let answer = client.call(Request::Identity { certificate, key }).unwrap();
        let Response::Identity { certificate: now } = answer else { panic!("{answer:?}") };
        assert_ne!(now.serial, before.serial);
        assert_eq!(pair.status(node).unwrap().certificate, Some(now));
        let links = ["edge-a", "edge-b"].map(|node| pair.status(node).unwrap().links[0].state);
        assert_eq!(links, [LinkState::Up; 2]);
    }
    for node in ["edge-a", "edge-b"] {
        let log = std::fs::read_to_string(at.join(node).join("log")).unwrap();
        assert!(!log.contains("link down"), "{log}");
        assert!(log.contains("another certificate is in use"), "{log}");
    }
    let sending = send(here, noise(100_000));
    assert!(read_to_end(&there) == noise(100_000), "a stream lasts");
    sending.join().unwrap();
}

#[test]
fn what_is_refused_says_why_and_is_counted() {
    let pair = Pair::start();
    let _listener = pair.listen();
    let refused = |service: &str| pair.open(service).unwrap_err();
    assert!(refused("unknown").contains("got `unknown service`"));
    assert!(refused("closed").contains("got `refused`"));
    assert!(refused("absent").contains("is the service running there?"));
    assert!(refused("Not a name").contains("expected 1 to 32 of a-z"));
    for reason in ["stream_unknown", "stream_not_allowed", "stream_local"] {
        assert_eq!(pair.drops("edge-b", reason), 1, "{reason}");
    }
    let mut client = pair.client("edge-a").unwrap();
    let wanted = Request::Stream { peer: "edge-c".into(), service: "open".into() };
    let error = client.call(wanted).unwrap_err().to_string();
    assert!(error.contains("expected a configured peer, got `edge-c`"), "{error}");
}

#[test]
fn streams_beyond_the_bound_are_refused_until_others_end() {
    let pair = Pair::start();
    let listener = pair.listen();
    let mut open = Vec::new();
    let refusal = loop {
        match pair.open("open") {
            Ok(stream) => open.push((stream, listener.accept().unwrap().0)),
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(open.len(), 15);
    assert!(refusal.contains("room for one stream more"), "{refusal}");
    open.clear();
    pair.wait("room", |pair| pair.open("open").is_ok());
}

#[test]
fn a_service_that_goes_midway_ends_the_stream_for_the_program() {
    let pair = Pair::start();
    let listener = pair.listen();
    let (mut here, there) = pair.joined(&listener);
    here.write_all(b"hello").unwrap();
    drop(there);
    assert_eq!(read_to_end(&here), b"");
    // What is still written finds nobody: the daemons break the stream off.
    let begin = Instant::now();
    while here.write_all(&[0; 4096]).is_ok() {
        assert!(begin.elapsed() < PATIENCE, "the stream goes on");
    }
    pair.wait("the count", |pair| pair.drops("edge-b", "stream_local") == 1);
}

#[test]
fn a_program_that_goes_midway_ends_the_stream_for_the_service() {
    let pair = Pair::start();
    let listener = pair.listen();
    let (mut here, mut there) = pair.joined(&listener);
    here.write_all(b"hello").unwrap();
    drop(here);
    assert_eq!(read_to_end(&there), b"hello");
    let begin = Instant::now();
    while there.write_all(&[0; 4096]).is_ok() {
        assert!(begin.elapsed() < PATIENCE, "the stream goes on");
    }
}

#[test]
fn a_peer_that_dies_ends_the_stream() {
    let mut pair = Pair::start();
    let listener = pair.listen();
    let (here, there) = pair.joined(&listener);
    let mut b = pair.daemons.pop().unwrap();
    b.kill().unwrap();
    b.wait().unwrap();
    assert_eq!(read_to_end(&there), b"");
    // Its successor answers what still comes by a stateless reset, or its handshake supersedes.
    let mut again = Command::new(env!("CARGO_BIN_EXE_stoqd"));
    again.arg("--config").arg(pair.folder.path().join("edge-b/stoqd.toml"));
    pair.daemons.push(again.spawn().unwrap());
    (&here).write_all(b"anybody?").unwrap();
    assert_eq!(read_to_end(&here), b"");
}

#[test]
fn a_reader_that_does_not_read_holds_the_writer() {
    let pair = Pair::start();
    let listener = pair.listen();
    let (here, there) = pair.joined(&listener);
    here.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut written = 0;
    while let Ok(length) = (&here).write(&[7; 64 << 10]) {
        written += length;
        assert!(written < HELD_MAX, "{written} bytes are held somewhere");
    }
    // Others are not held up by it.
    let (other, service) = pair.joined(&listener);
    let sending = send(other, noise(2_000_000));
    assert!(read_to_end(&service) == noise(2_000_000));
    sending.join().unwrap();
    // And nothing of it is lost.
    here.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&there).len(), written);
}
