//! Two hosts in network namespaces of their own, with a cable between their tunnel addresses: `host`,
//! where the names are served, and `peer`. Made and removed by every test for itself.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use nix::sched::{CloneFlags, setns};
use stoq_names::{Audience, Config, LOOPBACK, Listener, Member, Mesh, Names, Zone, ZoneKey};
use tokio::sync::mpsc as channel;

pub const HOST_V6: &str = "fd42:1:2::1";
pub const HOST_V4: &str = "10.9.0.1";
pub const PEER_V6: &str = "fd42:1:2::2";
/// Where the host's resolver is.
pub const UPSTREAM: &str = "192.0.2.53";

/// Whether this can run here; says why not.
pub fn can_run() -> bool {
    let root = nix::unistd::geteuid().is_root();
    let missing: Vec<&str> = ["ip", "dig", "delv", "getent"]
        .into_iter()
        .filter(|program| Command::new(program).arg("-V").output().is_err())
        .collect();
    if !root || !missing.is_empty() {
        println!(
            "skipped: needs root (is: {root}) and the programs ip, dig, delv, getent; missing: {missing:?}"
        );
    }
    root && missing.is_empty()
}

pub struct Bed {
    pub host: Namespace,
    pub peer: Namespace,
}

impl Bed {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let tag = format!("{}-{number}", std::process::id());
        let host = Namespace::new(format!("names-h-{tag}"));
        let peer = Namespace::new(format!("names-p-{tag}"));
        ip(&format!(
            "link add stoq0 netns {} type veth peer name stoq0 netns {}",
            host.name, peer.name
        ));
        for (namespace, v6, v4) in [(&host, HOST_V6, HOST_V4), (&peer, PEER_V6, "10.9.0.2")] {
            let on = |words: &str| ip(&format!("-n {} {words}", namespace.name));
            on(&format!("addr add {v6}/48 dev stoq0 nodad"));
            on(&format!("addr add {v4}/16 dev stoq0"));
            on("link set stoq0 up");
        }
        ip(&format!("-n {} addr add {UPSTREAM}/32 dev lo", host.name));
        Self { host, peer }
    }
}

fn ip(words: &str) {
    let output = Command::new("ip").args(words.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}

pub struct Namespace {
    name: String,
}

impl Namespace {
    fn new(name: String) -> Self {
        ip(&format!("netns add {name}"));
        ip(&format!("-n {name} link set lo up"));
        let namespace = Self { name };
        fs::create_dir_all(namespace.etc()).unwrap();
        // Whatever else this machine asks for names is not part of the test.
        fs::write(namespace.etc().join("nsswitch.conf"), "hosts: dns\n").unwrap();
        namespace.set_resolvers(&format!("nameserver {UPSTREAM}\n"));
        namespace
    }

    /// `ip netns exec` mounts what is here over `/etc`.
    pub fn etc(&self) -> PathBuf {
        Path::new("/etc/netns").join(&self.name)
    }

    pub fn set_resolvers(&self, text: &str) {
        fs::write(self.etc().join("resolv.conf"), text).unwrap();
    }

    /// A command that will run these words in this namespace.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).args(words);
        command
    }

    pub fn run(&self, line: &str) -> Output {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.command(&words).output().unwrap()
    }

    /// Standard output of a program, which must succeed.
    pub fn text(&self, line: &str) -> String {
        let output = self.run(line);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {} {text} {error}", output.status);
        text
    }

    /// Calls `work` on a thread in this namespace.
    pub fn enter<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let file = File::open(Path::new("/run/netns").join(&self.name)).unwrap();
        thread::spawn(move || {
            setns(file, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What is left over after a failed test is only noise: there is nobody to tell.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
        let _ = fs::remove_dir_all(self.etc());
    }
}

pub fn mesh() -> Mesh {
    let prefixes = vec!["fd42:1:2::/48".parse().unwrap(), "10.9.0.0/16".parse().unwrap()];
    Mesh { name: "lab".into(), server: "edge-a".into(), prefixes }
}

pub fn members(names: &[(&str, u16)]) -> Vec<Member> {
    let member = |(name, number): &(&str, u16)| Member {
        name: (*name).into(),
        addresses: vec![
            format!("fd42:1:2::{number:x}").parse().unwrap(),
            format!("10.9.0.{number}").parse().unwrap(),
        ],
    };
    names.iter().map(member).collect()
}

pub fn zone(key: &ZoneKey, names: &[(&str, u16)], serial: u32) -> Zone {
    Zone::build(&mesh(), &members(names), serial, key, SystemTime::now()).unwrap()
}

type Work = Box<dyn FnOnce(&Names) + Send>;

/// The names, served on a runtime with one thread in the host's namespace.
pub struct Served {
    work: Option<channel::UnboundedSender<Work>>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    pub fn start(host: &Namespace, zone: Zone, upstreams: Vec<PathBuf>) -> Self {
        let (work, mut todo) = channel::unbounded_channel::<Work>();
        let (ready, started) = mpsc::channel();
        let thread = host.enter(move || {
            run(async move {
                let listeners =
                    [(LOOPBACK.into(), Audience::Host), (addr(HOST_V6), Audience::Peers)];
                let listeners = listeners.map(|(at, whose)| Listener::bind(at, whose).unwrap());
                let config = Config { listeners: listeners.into(), upstreams };
                let names = Names::start(config, zone).unwrap();
                ready.send(()).unwrap();
                while let Some(work) = todo.recv().await {
                    work(&names);
                }
            });
        });
        started.recv().expect("the server did not start");
        Self { work: Some(work), thread: Some(thread) }
    }

    pub fn with<T: Send + 'static>(&self, work: impl FnOnce(&Names) -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        let work: Work = Box::new(move |names| done.send(work(names)).unwrap());
        self.work.as_ref().unwrap().send(work).ok().unwrap();
        result.recv().unwrap()
    }

    pub fn count(&self, outcome: stoq_names::Outcome) -> u64 {
        self.with(move |names| names.counters().get(outcome))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.work.take();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || matches!(ended, Some(Ok(()))));
    }
}

pub fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

pub fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The host's own resolver, which is not the mesh's: what it is asked, it notes.
pub struct Upstream {
    pub asked: Arc<Mutex<Vec<String>>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    pub fn start(host: &Namespace) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let handler = super::upstream::Handler::new(asked.clone());
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (ready, started) = mpsc::channel();
        let thread = host.enter(move || {
            run(async move {
                let at = SocketAddr::new(addr(UPSTREAM), 53);
                let mut server = hickory_server::Server::new(handler);
                server.register_socket(tokio::net::UdpSocket::bind(at).await.unwrap());
                ready.send(()).unwrap();
                let _ = stopped.await;
            });
        });
        started.recv().expect("the upstream did not start");
        Self { asked, stop: Some(stop), thread: Some(thread) }
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
