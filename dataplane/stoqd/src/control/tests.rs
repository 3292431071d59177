//! The server over a real socket, with real clients.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use crossbeam::channel::Sender;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg};
use stoq_control::{
    Call, CaptureRequest, Client, ClientError, ErrorCode, Request, Response, SnapshotPeer, encode,
};

use super::*;
use crate::config::Config;

/// A daemon's operations that answer from memory, with the real rights and pushed peers.
struct Daemon {
    config: Config,
    pushed: Mutex<PushedPeers>,
    taps: Mutex<Vec<Sender<Copied>>>,
}

impl Operations for Daemon {
    fn may(&self, uid: u32, right: Right) -> bool {
        permits(&self.config.control, uid, right)
    }

    fn status(&self) -> Status {
        let snapshot = self.pushed.lock().unwrap().number();
        Status { node: self.config.node.name.clone(), snapshot, ..Status::default() }
    }

    fn reload(&self) -> Result<(Vec<String>, Vec<String>), Refusal> {
        Ok((vec!["tunnel.device".into()], Vec::new()))
    }

    fn drain(&self) -> Result<(), Refusal> {
        Err(Refusal::new(ErrorCode::Refused, "draining already"))
    }

    fn upgrade(&self) -> Result<(u32, String), Refusal> {
        Ok((7, "0.2.0".into()))
    }

    fn push(&self, snapshot: Snapshot) -> Result<Vec<String>, Refusal> {
        let mut pushed = self.pushed.lock().unwrap();
        pushed.push(snapshot, Vec::new(), &self.config)?;
        Ok(pushed.merged(&self.config).1)
    }

    fn identity(&self, certificate: &Path, key: &Path) -> Result<Certificate, Refusal> {
        assert_eq!([certificate, key], [Path::new("/id.pem"); 2]);
        Ok(Certificate { node: "stoq://hq/edge-a".into(), ..Certificate::default() })
    }

    fn names(&self, address: IpAddr) -> Result<Vec<OwnedFd>, Refusal> {
        let bound = UdpSocket::bind((address, 0))
            .map_err(|error| Refusal::new(ErrorCode::Refused, error.to_string()))?;
        let tcp = TcpListener::bind(bound.local_addr().unwrap()).unwrap();
        Ok(vec![bound.into(), tcp.into()])
    }

    fn capture(&self, _point: CapturePoint) -> Result<Receiver<Copied>, Refusal> {
        let (sender, receiver) = crossbeam::channel::bounded(16);
        for size in [10_usize, 20, 30] {
            let contents = vec![0x45; size];
            sender.send(Copied { at: SystemTime::now(), addresses: None, contents }).unwrap();
        }
        self.taps.lock().unwrap().push(sender);
        Ok(receiver)
    }

    /// A service that echoes.
    fn stream(
        &self,
        _peer: &str,
        service: &str,
        socket: &UnixStream,
        greeting: &[u8],
    ) -> Result<(), Refusal> {
        if service != "echo" {
            return Err(Refusal::new(ErrorCode::Refused, "expected `echo`"));
        }
        let mut socket = socket.try_clone().unwrap();
        let greeting = greeting.to_vec();
        std::thread::spawn(move || {
            socket.set_nonblocking(false).unwrap();
            socket.write_all(&greeting).unwrap();
            std::io::copy(&mut socket.try_clone().unwrap(), &mut socket).unwrap();
        });
        Ok(())
    }
}

/// A running server, and where.
struct Running {
    path: PathBuf,
    daemon: Arc<Daemon>,
    stop: tokio::sync::watch::Sender<bool>,
}

fn start(name: &str, uids: &str) -> Running {
    let dir = std::env::temp_dir().join(format!("stoqd-control-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let text = format!(
        "[node]\nname = 'edge-a'\n[identity]\ncertificate = 'c'\nkey = 'k'\nauthority = 'a'\n\
         [control]\nprefixes = ['10.0.0.0/8']\n{uids}\n[[peer]]\nname = 'edge-b'\n"
    );
    let config = Config::parse(Path::new("stoqd.toml"), &text).unwrap();
    let pushed = Mutex::new(PushedPeers::open(&dir).unwrap());
    let daemon = Arc::new(Daemon { config, pushed, taps: Mutex::default() });
    let path = dir.join("stoqd.sock");
    let listener = bind(&path).unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let operations = Arc::clone(&daemon);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(serve(listener, operations, stopped)).unwrap();
    });
    Running { path, daemon, stop }
}

/// The uid of this test, whose rights the daemon looks at.
fn own() -> u32 {
    nix::unistd::geteuid().as_raw()
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let _ = self.path.parent().map(std::fs::remove_dir_all);
    }
}

impl Running {
    fn client(&self) -> Client {
        Client::connect(&self.path, Duration::from_secs(20)).unwrap()
    }

    fn call(&self, request: Request) -> Result<Response, ClientError> {
        self.client().call(request)
    }

    /// What the daemon answers to raw bytes, until it closes or a line is complete.
    fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(&self.path).unwrap();
        // A daemon that refuses while bytes still come closes, and the rest cannot be written.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let mut byte = [0];
        while answer.last() != Some(&b'\n') && matches!(stream.read(&mut byte), Ok(1)) {
            answer.push(byte[0]);
        }
        String::from_utf8(answer).unwrap()
    }
}

fn all_rights() -> String {
    format!("operate_uids = [{0}]\npush_uids = [{0}]", own())
}

#[test]
fn requests_are_answered_one_after_the_other() {
    let running = start("answers", &all_rights());
    let mut client = running.client();
    for _ in 0..3 {
        let Response::Status(status) = client.call(Request::Status {}).unwrap() else { panic!() };
        assert_eq!(status.node, "edge-a");
    }
    let reloaded = client.call(Request::Reload {}).unwrap();
    assert!(
        matches!(reloaded, Response::Reloaded { restart_needed, .. } if restart_needed.len() == 1)
    );
    let refused = client.call(Request::Drain {}).unwrap_err();
    assert_eq!(refused.to_string(), "draining already");
    assert!(client.call(Request::Status {}).is_ok());
}

#[test]
fn a_push_is_bounded_persisted_and_numbered() {
    let running = start("push", &all_rights());
    let snapshot = |number, name: &str, prefix: &str| {
        let allowed_ips = vec![prefix.into()];
        let peer = SnapshotPeer { name: name.into(), endpoints: Vec::new(), allowed_ips };
        Request::Push { snapshot: Snapshot { number, peers: vec![peer], bundle: None } }
    };
    let pushed = running.call(snapshot(1, "edge-b", "10.7.0.0/16")).unwrap();
    assert_eq!(pushed, Response::Pushed { number: 1, overridden: vec!["edge-b".into()] });
    for (number, prefix) in [(1, "10.7.0.0/16"), (2, "192.168.0.0/16")] {
        let refused = running.call(snapshot(number, "edge-c", prefix)).unwrap_err();
        assert!(matches!(refused, ClientError::Refused(r) if r.code == ErrorCode::Refused));
    }
    let Response::Status(status) = running.call(Request::Status {}).unwrap() else { panic!() };
    assert_eq!(status.snapshot, Some(1));
}

#[test]
fn rights_are_by_user() {
    let control = Control {
        read_uids: vec![1],
        operate_uids: vec![2],
        push_uids: vec![3],
        ..Control::default()
    };
    let rights =
        |uid| [Right::Read, Right::Operate, Right::Push].map(|r| permits(&control, uid, r));
    assert_eq!(rights(0), [true, true, true]);
    assert_eq!(rights(1), [true, false, false]);
    assert_eq!(rights(2), [true, true, false]);
    assert_eq!(rights(3), [true, false, true]);
    assert_eq!(rights(4), [false, false, false]);
}

/// Only root can become another user, so the refusals over the socket need it.
#[test]
fn a_user_without_the_right_is_refused() {
    if own() != 0 {
        eprintln!("SKIPPED: needs to act as other users; run as root");
        return;
    }
    let running = start("rights", "read_uids = [4001]");
    let as_user = |uid, request: Request| {
        let answer = crate::testing::as_user(uid, || format!("{:?}", running.call(request)));
        answer.unwrap()
    };
    assert!(as_user(4001, Request::Status {}).contains("edge-a"));
    let refused = as_user(4001, Request::Reload {});
    assert!(refused.contains("Forbidden") && refused.contains("operate_uids"), "{refused}");
    let refused = as_user(4002, Request::Status {});
    assert!(refused.contains("Forbidden") && refused.contains("uid 4002"), "{refused}");
}

#[test]
fn bad_lines_are_refused_and_the_connection_lives_on() {
    let running = start("lines", &all_rights());
    assert!(running.raw(b"hello\n").contains("\"invalid\""));
    assert!(running.raw(b"{\"version\":9,\"request\":{}}\n").contains("\"version\""));
    assert!(running.raw(b"\xff\xff\xff\n").contains("\"invalid\""));
    let mut stream = UnixStream::connect(&running.path).unwrap();
    stream.write_all(b"nonsense\n{\"version\":1,\"request\":{\"status\":{}}}\n").unwrap();
    let mut answers = std::io::BufRead::lines(std::io::BufReader::new(stream));
    assert!(answers.next().unwrap().unwrap().contains("invalid"));
    assert!(answers.next().unwrap().unwrap().contains("edge-a"));
}

#[test]
fn a_line_without_end_is_cut_off() {
    let running = start("endless", &all_rights());
    let answer = running.raw(&vec![b' '; stoq_control::MAX_REQUEST_BYTES + 2]);
    assert!(answer.contains("longer one"), "{answer}");
    assert!(running.call(Request::Status {}).is_ok());
}

#[test]
fn connections_are_bounded_and_come_back() {
    let running = start("many", &all_rights());
    let mut clients: Vec<Client> = (0..32).map(|_| running.client()).collect();
    for client in &mut clients {
        client.call(Request::Status {}).unwrap();
    }
    let refused = running.call(Request::Status {}).unwrap_err();
    assert!(matches!(refused, ClientError::Refused(r) if r.code == ErrorCode::Busy));
    drop(clients);
    // The server sees each close as an event of its own; until then it says that it is busy.
    while matches!(running.call(Request::Status {}), Err(ClientError::Refused(_))) {
        std::thread::yield_now();
    }
    assert!(running.call(Request::Status {}).is_ok());
}

fn limits(packets: u32, bytes: u64) -> Request {
    Request::Capture(CaptureRequest { point: CapturePoint::Tunnel, packets, bytes, seconds: 20 })
}

fn captured(running: &Running, request: Request) -> Vec<u8> {
    let mut client = running.client();
    assert_eq!(client.call(request).unwrap(), Response::Capture { link_type: 101 });
    let mut bytes = Vec::new();
    client.into_stream(Duration::from_secs(20)).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_capture_ends_at_its_limits() {
    let running = start("capture", &all_rights());
    let two = captured(&running, limits(2, 10_000));
    assert_eq!(two.len(), 24 + (16 + 10) + (16 + 20));
    assert_eq!(two[..4], [0xD4, 0xC3, 0xB2, 0xA1]);
    let by_bytes = captured(&running, limits(100, 24 + 26 + 10));
    assert_eq!(by_bytes.len(), 24 + 26);
    for request in [limits(0, 1), limits(1, 0), limits(u32::MAX, 1)] {
        assert!(matches!(running.call(request), Err(ClientError::Refused(_))));
    }
}

#[test]
fn a_capture_ends_with_its_caller_and_captures_are_bounded() {
    let running = start("hangup", &all_rights());
    let mut first = running.client();
    let mut second = running.client();
    first.call(limits(1000, 10_000)).unwrap();
    second.call(limits(1000, 10_000)).unwrap();
    let refused = running.call(limits(1, 10_000)).unwrap_err();
    assert!(matches!(refused, ClientError::Refused(r) if r.code == ErrorCode::Busy));
    drop((first, second));
    // The server drops its end of the tap when it sees that the caller is gone.
    let taps = std::mem::take(&mut *running.daemon.taps.lock().unwrap());
    for tap in taps {
        let copy = || Copied { at: SystemTime::now(), addresses: None, contents: vec![0x45] };
        while tap.send_timeout(copy(), Duration::from_secs(20)).is_ok() {}
    }
    while running.call(limits(1, 10_000)).is_err() {
        std::thread::yield_now();
    }
}

#[test]
fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
    let running = start("stale", &all_rights());
    assert!(matches!(bind(&running.path), Err(ControlError::InUse(_))));
    let stale = running.path.with_extension("stale");
    drop(UnixListener::bind(&stale).unwrap());
    assert!(bind(&stale).is_ok());
    let nowhere = running.path.join("x");
    assert!(bind(&nowhere).unwrap_err().to_string().contains("expected to listen on"));
}

#[test]
fn the_sockets_of_a_server_of_names_come_beside_the_answer() {
    let running = start("names", &all_rights());
    let mut stream = UnixStream::connect(&running.path).unwrap();
    let request = Request::Names { address: "127.0.0.1".parse().unwrap() };
    stream.write_all(&encode(&Call::new(request)).unwrap()).unwrap();
    let (mut bytes, mut space) = ([0; 4096], nix::cmsg_space!([RawFd; 4]));
    let mut into = [std::io::IoSliceMut::new(&mut bytes)];
    let got = recvmsg::<()>(stream.as_raw_fd(), &mut into, Some(&mut space), MsgFlags::empty());
    let got = got.unwrap();
    let given: Vec<RawFd> = got
        .cmsgs()
        .unwrap()
        .flat_map(|message| match message {
            ControlMessageOwned::ScmRights(given) => given,
            _ => Vec::new(),
        })
        .collect();
    let addresses: Vec<_> = given
        .iter()
        .map(|fd| nix::sys::socket::getsockname::<SockaddrIn>(*fd).unwrap().to_string())
        .collect();
    assert_eq!(addresses.len(), 2);
    assert_eq!(addresses[0], addresses[1]);
    let length = got.bytes;
    let reply = stoq_control::decode_reply(&bytes[..length]).unwrap();
    assert_eq!(reply.response, Response::Names {});
    for fd in given {
        nix::unistd::close(fd).unwrap();
    }

    // The connection goes on, and an address that cannot be had is a refusal.
    let request = Request::Names { address: "192.0.2.1".parse().unwrap() };
    stream.write_all(&encode(&Call::new(request)).unwrap()).unwrap();
    let length = stream.read(&mut bytes).unwrap();
    let reply = stoq_control::decode_reply(&bytes[..length]).unwrap();
    assert!(matches!(reply.response, Response::Error(_)), "{reply:?}");
}

#[test]
fn a_connection_becomes_a_stream_after_the_answer() {
    let running = start("stream", &all_rights());
    let wanted = |service: &str| Request::Stream { peer: "b".into(), service: service.into() };
    assert_eq!(running.call(wanted("else")).unwrap_err().to_string(), "expected `echo`");
    let mut client = running.client();
    assert_eq!(client.call(wanted("echo")).unwrap(), Response::Stream {});
    let (mut from, mut to) = client.into_duplex().unwrap();
    to.write_all(b"hello").unwrap();
    to.shutdown(std::net::Shutdown::Write).unwrap();
    let mut echo = String::new();
    from.read_to_string(&mut echo).unwrap();
    assert_eq!(echo, "hello");
    // What comes before the answer would be lost to the stream.
    let early = encode(&Call::new(wanted("echo"))).unwrap();
    let answer = running.raw(&[&early[..], b"early"].concat());
    assert!(answer.contains("send after it"), "{answer}");
    let reader = start("stream-right", &format!("read_uids = [{}]", own() + 1));
    if own() != 0 {
        assert!(reader.call(wanted("echo")).is_err());
    }
}
