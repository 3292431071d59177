//! The demo without root: two daemons on the loopback, and a file over a STOQ stream between them.
//!
//! ```text
//!  file ── Unix socket ── stoqd edge-a ══ [::1], UDP ══ stoqd edge-b ── Unix socket ── file
//! ```
//!
//! All of it is in one folder; a guardian removes that and ends the daemons when this process ends,
//! however it ends.

use std::fs;
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use stoq_control::{Client, Request, Response};
use stoq_perf::bed::Side;
use stoq_perf::node::{DRAIN, LINK_UP, MESH, Mesh, core_of};
use stoq_perf::process::{CpuTime, Process};
use stoq_perf::workspace::Binaries;

use crate::Options;
use crate::copy::{self, Copy};
use crate::live::{Observed, watch};

/// The service on edge-b that takes the file.
const SERVICE: &str = "file";

/// How long a daemon may take to answer at its control socket.
const ANSWER: Duration = Duration::from_secs(10);

/// What root adds, said before and after.
const WITH_ROOT: &str = "as root this demo adds two hosts in network namespaces, a tunnel with \
                         addresses of its own between them, ping, and TCP and UDP by iperf3";

/// Runs the demo.
///
/// # Errors
/// The step that failed; what was set up is removed all the same.
pub fn run(options: &Options) -> Result<()> {
    println!(
        "==> no root: two daemons on the loopback and a stream between them;\n    {WITH_ROOT}"
    );
    let scratch = Scratch::new()?;
    let binaries = Binaries::find()?;
    println!("==> keys and certificates by `stoqctl pki`, then two stoqd with port mio");
    let mesh = Mesh::create(&scratch.folder, MESH, &binaries)?;
    let address = free_address()?;
    let start = |side| Daemon::start(side, address, &scratch.folder, &mesh, &binaries);
    let (mut b, mut a) = (start(Side::B)?, start(Side::A)?);
    let link = [a.wait_for_link()?, b.wait_for_link()?];
    let demo = Demo { scratch: &scratch, nodes: [&a, &b], size_mib: options.size_mib };
    let summary = [demo.describe(&link[0])?, demo.copy_file()?, demo.cpu_time()];
    println!("\n==> what was seen\n{}\n    {WITH_ROOT}\n", summary.join("\n"));
    println!("==> removing the daemons and the files");
    for daemon in [a, b] {
        daemon.process.terminate(DRAIN)?;
    }
    Ok(())
}

/// An address of the loopback at which nobody listens.
fn free_address() -> Result<SocketAddr> {
    let local = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let socket = UdpSocket::bind(local).or_else(|_| UdpSocket::bind("127.0.0.1:0"));
    Ok(socket.context("bind a UDP socket on the loopback")?.local_addr()?)
}

struct Demo<'a> {
    scratch: &'a Scratch,
    nodes: [&'a Daemon; 2],
    size_mib: u64,
}

impl Demo<'_> {
    /// Says over what the nodes speak.
    fn describe(&self, link: &Value) -> Result<String> {
        let status = self.nodes[0].status()?;
        let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        Ok(format!(
            "    link  to {}, {}, port {} ({})",
            word(&link["endpoint"]),
            word(&link["key_exchange"]),
            word(&status["port"]["selected"]),
            word(&status["port"]["mode"]),
        ))
    }

    /// Copies a file over a stream and compares both ends.
    fn copy_file(&self) -> Result<String> {
        let size_mib = self.size_mib;
        println!("==> a file of {size_mib} MiB from edge-a to edge-b, over a stream");
        let [source, target] = ["sent", "received"].map(|name| self.scratch.folder.join(name));
        copy::make_file(&source, size_mib << 20)?;
        let copy = self.open_stream()?;
        let begin = Instant::now();
        let progress = || format!("{:>5} of {size_mib} MiB", copy.received() >> 20);
        let observed = self.nodes.map(|node| node as &dyn Observed);
        watch(observed, progress, || copy.run(&source, &target))?;
        let seconds = begin.elapsed().as_secs_f64();
        copy::compare(&source, &target, size_mib, seconds)
    }

    /// Opens a stream as `stoqctl stream edge-b file` does.
    fn open_stream(&self) -> Result<Copy<std::os::unix::net::UnixStream>> {
        let listener = UnixListener::bind(service_socket(&self.scratch.folder))?;
        let mut client = Client::connect(&self.nodes[0].socket, ANSWER)?;
        let wanted = Request::Stream { peer: Side::B.node().into(), service: SERVICE.into() };
        match client.call(wanted)? {
            Response::Stream {} => {}
            other => bail!("expected a stream, got {other:?}"),
        }
        let (_, sender) = client.into_duplex()?;
        Copy::over(sender, listener.accept()?.0)
    }

    /// What the daemons used in all.
    fn cpu_time(&self) -> String {
        let [a, b] = self.nodes.map(|node| node.cpu_time().total_s());
        format!("    CPU   stoqd used {a:.1} s on edge-a and {b:.1} s on edge-b")
    }
}

/// A running `stoqd` without a tunnel.
struct Daemon {
    process: Process,
    socket: PathBuf,
}

impl Daemon {
    fn start(
        side: Side,
        address: SocketAddr,
        folder: &Path,
        mesh: &Mesh,
        binaries: &Binaries,
    ) -> Result<Self> {
        let node = side.node();
        let file = folder.join(format!("{node}.toml"));
        fs::write(&file, render(side, address, folder, mesh))?;
        let mut command = Command::new(&binaries.stoqd);
        command.arg("--config").arg(&file);
        let log = folder.join(format!("{node}.log"));
        let process = Process::spawn_command(command, &binaries.stoqd, &log)?;
        note_pid(folder, node, process.pid())?;
        Ok(Self { process, socket: control_socket(folder, side) })
    }

    fn wait_for_link(&mut self) -> Result<Value> {
        let socket = self.socket.clone();
        let link = self.process.wait_alive("the link being up", LINK_UP, |_| {
            let status = status(&socket).map_err(|error| format!("{error:#}"))?;
            let link = status["links"][0].clone();
            if link["state"] == "up" { Ok(link) } else { Err(status.to_string()) }
        });
        Ok(link?)
    }
}

impl Observed for Daemon {
    fn status(&self) -> Result<Value> {
        status(&self.socket)
    }

    fn cpu_time(&self) -> CpuTime {
        self.process.cpu_time()
    }
}

fn status(socket: &Path) -> Result<Value> {
    match Client::connect(socket, ANSWER)?.call(Request::Status {})? {
        Response::Status(status) => Ok(serde_json::to_value(status)?),
        other => bail!("expected a status, got {other:?}"),
    }
}

fn control_socket(folder: &Path, side: Side) -> PathBuf {
    folder.join(format!("{}.sock", side.node()))
}

fn service_socket(folder: &Path) -> PathBuf {
    folder.join("file.sock")
}

/// The configuration: edge-b listens and offers the service, edge-a dials.
fn render(side: Side, address: SocketAddr, folder: &Path, mesh: &Mesh) -> String {
    let identity = mesh.identity(side);
    let at = |folder: &Path, name: &str| format!("{:?}", folder.join(name));
    let (node, peer) = (side.node(), side.other().node());
    let listen = if side == Side::B { format!("{:?}", address.to_string()) } else { String::new() };
    let dial = if side == Side::A { format!("{:?}", address.to_string()) } else { String::new() };
    // Both daemons share this machine: by itself each would take the last core.
    let cores = core_of(side).map_or_else(String::new, |core| format!("cores = [{core}]\n"));
    let mut text = format!(
        "[node]\nname = {node:?}\n\
         [identity]\ncertificate = {}\nkey = {}\nauthority = {}\n\
         [transport]\nport = \"mio\"\nlisten = [{listen}]\nstate = {}\n{cores}\
         [control]\nsocket = {:?}\noperate_uids = [{}]\n\
         [[peer]]\nname = {peer:?}\nendpoints = [{dial}]\n",
        at(&identity, "node.crt"),
        at(&identity, "node.key"),
        at(&identity, "ca.crt"),
        at(folder, &format!("{node}.state")),
        control_socket(folder, side),
        nix::unistd::geteuid(),
    );
    if side == Side::B {
        let socket = service_socket(folder);
        text +=
            &format!("[[service]]\nname = {SERVICE:?}\nsocket = {socket:?}\npeers = [{peer:?}]\n");
    }
    text
}

/// `$1` is the folder. A daemon is only ended if it is still the one that was started there.
const GUARDIAN: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
for pid in $(cat "$1"/*.pid 2>/dev/null); do
    grep -qaF "$1" "/proc/$pid/cmdline" 2>/dev/null && kill -9 "$pid"
done
rm -rf "$1"
"#;

/// Leaves the process ID of a daemon to the guardian.
fn note_pid(folder: &Path, name: &str, pid: u32) -> std::io::Result<()> {
    fs::write(folder.join(format!("{name}.pid")), format!("{pid}\n"))
}

/// A folder for everything, and the process that removes it.
struct Scratch {
    folder: PathBuf,
    guardian: Child,
}

impl Scratch {
    fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("stoq-demo-{}", std::process::id()));
        let made = fs::DirBuilder::new().mode(0o700).create(&folder);
        made.with_context(|| format!("make {} (TMPDIR names the folder)", folder.display()))?;
        let guardian = Command::new("sh")
            .args(["-c", GUARDIAN, "stoq-demo-guardian"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // The keyboard's interrupt reaches the whole foreground group.
            .process_group(0)
            .spawn()
            .context("start the guardian")?;
        Ok(Self { folder, guardian })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The guardian waits for the end of its input.
        drop(self.guardian.stdin.take());
        let _reaped = self.guardian.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_and_daemons_go_with_their_owner() {
        let scratch = Scratch::new().unwrap();
        let folder = scratch.folder.clone();
        let log = folder.join("log");
        fs::write(&log, b"").unwrap();
        let follow = |name| {
            let daemon = Command::new("tail").arg("-f").arg(&log).spawn().unwrap();
            note_pid(&folder, name, daemon.id()).unwrap();
            daemon
        };
        let daemons = [follow("a"), follow("b")];
        drop(scratch);
        for mut daemon in daemons {
            // Had it not been ended, this would wait for ever.
            assert!(!daemon.wait().unwrap().success());
        }
        assert!(!folder.exists());
    }

    #[test]
    fn one_node_listens_and_offers_and_the_other_dials() {
        let binaries = Binaries { stoqd: "stoqd".into(), stoqctl: "stoqctl".into() };
        let folder = std::env::temp_dir().join(format!("stoq-demo-render-{}", std::process::id()));
        let mesh = Mesh::new(&folder, &binaries);
        let address = "[::1]:4711".parse().unwrap();
        let [a, b] = [Side::A, Side::B].map(|side| render(side, address, &folder, &mesh));
        assert!(a.contains("listen = []") && a.contains("endpoints = [\"[::1]:4711\"]"), "{a}");
        assert!(b.contains("listen = [\"[::1]:4711\"]") && b.contains("peers = [\"edge-a\"]"));
        assert!(!a.contains("[[service]]") && !a.contains("[tunnel]"));
    }
}
