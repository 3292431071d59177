//! `stoqd` on the edges of a bed, configured, started and watched as an operator does it: by its
//! file, its signals and `stoqctl`. Nothing here knows the daemon's inside.
//!
//! A [`Deployment`] owns the keys; each [`Node`] owns its daemon. The benchmarks, the demo and the
//! end-to-end tests start nodes.

mod config;

pub use config::{NodeConfig, core_of};

use crate::bed::{Bed, Namespace, Side};
use crate::process::{self, Process};
use crate::service::Manager;
use crate::workspace::Binaries;
use crate::{Error, Result};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The name of the mesh that beds belong to.
pub const MESH: &str = "bed";

/// The tunnel device of a node.
pub const DEVICE: &str = "stoq0";

/// Where a node's metrics are served, in its namespace.
pub const METRICS: &str = "127.0.0.1:9293";

/// How long a link may take to come up after the start of both ends: a dial that found nobody backs
/// off before the next one.
pub const LINK_UP: Duration = Duration::from_secs(60);

/// How long a daemon may take to drain and end.
pub const DRAIN: Duration = Duration::from_secs(30);

/// Starts so far: each has a log of its own, so that a restart does not hide why the first one ended.
static STARTS: AtomicU32 = AtomicU32::new(0);

/// Deployments so far: each has keys and state of its own.
static DEPLOYMENTS: AtomicU32 = AtomicU32::new(0);

/// The keys of both nodes, under one root.
#[derive(Clone, Debug)]
pub struct Mesh {
    folder: PathBuf,
    binaries: Binaries,
}

impl Mesh {
    /// The mesh whose keys are, or will be, in `folder`.
    #[must_use]
    pub fn new(folder: &Path, binaries: &Binaries) -> Self {
        Self { folder: folder.to_owned(), binaries: binaries.clone() }
    }

    /// Makes a root called `name` in `folder` and a certificate for each edge.
    ///
    /// # Errors
    /// [`Error::Command`] with what `stoqctl` said.
    pub fn create(folder: &Path, name: &str, binaries: &Binaries) -> Result<Self> {
        let mesh = Self::new(folder, binaries);
        let root = mesh.root();
        process::run(mesh.pki("init").arg(&root).args(["--mesh", name]))?;
        for side in [Side::A, Side::B] {
            mesh.issue(side.node(), &mesh.identity(side))?;
        }
        Ok(mesh)
    }

    /// The folder of the root's key.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// The folder of an edge's key.
    #[must_use]
    pub fn identity(&self, side: Side) -> PathBuf {
        self.folder.join(side.node())
    }

    /// Issues a certificate for a node into a folder.
    ///
    /// # Errors
    /// [`Error::Command`] with what `stoqctl` said.
    pub fn issue(&self, node: &str, out: &Path) -> Result<()> {
        process::run(self.pki("issue").arg(self.root()).arg(node).arg("--out").arg(out)).map(drop)
    }

    fn pki(&self, command: &str) -> Command {
        let mut stoqctl = Command::new(&self.binaries.stoqctl);
        stoqctl.args(["pki", command]);
        stoqctl
    }
}

/// What it takes to start nodes in a bed.
#[derive(Clone, Debug)]
pub struct Deployment<'bed> {
    /// The bed that the nodes run in.
    pub bed: &'bed Bed,
    /// Their keys.
    pub mesh: Mesh,
    folder: PathBuf,
    binaries: Binaries,
}

impl<'bed> Deployment<'bed> {
    /// Makes the keys, below the bed's folder.
    ///
    /// # Errors
    /// When the programs are missing, or `stoqctl` refuses.
    pub fn new(bed: &'bed Bed) -> Result<Self> {
        let binaries = Binaries::find()?;
        let serial = DEPLOYMENTS.fetch_add(1, Ordering::Relaxed);
        let folder = bed.folder().join(format!("deployment-{serial}"));
        let mesh = Mesh::create(&folder.join("pki"), MESH, &binaries)?;
        Ok(Self { bed, mesh, folder, binaries })
    }

    /// The same deployment, which starts a copy of the daemon's program that is its own to replace.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be copied.
    pub fn with_own_program(&self) -> Result<Self> {
        let mut own = self.clone();
        own.binaries.stoqd = self.folder.join("bin").join("stoqd");
        let folder = self.folder.join("bin");
        fs::create_dir_all(&folder).map_err(Error::io(format!("create {}", folder.display())))?;
        let copied = fs::copy(&self.binaries.stoqd, &own.binaries.stoqd);
        copied.map_err(Error::io(format!("copy to {}", own.binaries.stoqd.display())))?;
        Ok(own)
    }

    /// Puts another program where the daemon's is, which must be its own copy: by renaming over it, as package
    /// managers do. Processes that run go on with the one that they were started from.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be copied, [`Error::Missing`] where others use the program as well.
    pub fn replace_program(&self, with: &Path) -> Result<()> {
        let program = &self.binaries.stoqd;
        if !program.starts_with(&self.folder) {
            return Err(Error::Missing {
                program: "a copy of stoqd of its own".to_owned(),
                advice: "make the deployment by `with_own_program`".to_owned(),
            });
        }
        let failed = || Error::io(format!("replace {}", program.display()));
        let new = program.with_extension("new");
        fs::copy(with, &new).map_err(failed())?;
        fs::rename(&new, program).map_err(failed())
    }

    /// The programs in use.
    #[must_use]
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// Writes an edge's file, without starting anything, and says where it is.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be written.
    pub fn write(&self, side: Side, config: &NodeConfig) -> Result<PathBuf> {
        let home = self.home(side);
        fs::create_dir_all(&home).map_err(Error::io(format!("create {}", home.display())))?;
        let path = home.join("stoqd.toml");
        let text = config.render(side, &self.mesh, &home);
        fs::write(&path, text).map_err(Error::io(format!("write {}", path.display())))?;
        Ok(path)
    }

    /// Asks the daemon whether it takes an edge's file, without starting it.
    ///
    /// # Errors
    /// [`Error::Command`] with what it said when it does not.
    pub fn check(&self, side: Side, config: &NodeConfig) -> Result<()> {
        let file = self.write(side, config)?;
        let mut command = Command::new(&self.binaries.stoqd);
        process::run(command.args(["--check", "--config"]).arg(file)).map(drop)
    }

    /// Writes an edge's file and starts its daemon. What that persists stays in the bed: a node that
    /// is started again is the same one.
    ///
    /// # Errors
    /// When the file cannot be written or the daemon not started.
    pub fn start(&self, side: Side, config: &NodeConfig) -> Result<Node> {
        self.start_by(side, config, |namespace, log, program, words| {
            Process::spawn(namespace, log, program, words)
        })
    }

    /// As [`Deployment::start`], under a service manager.
    ///
    /// # Errors
    /// When the file cannot be written or the daemon not started.
    pub fn start_under(&self, manager: &Manager, side: Side, config: &NodeConfig) -> Result<Node> {
        self.start_by(side, config, |namespace, log, program, words| {
            manager.spawn(namespace, log, program, words)
        })
    }

    fn start_by(
        &self,
        side: Side,
        config: &NodeConfig,
        spawn: impl FnOnce(&Namespace, &Path, &Path, [&Path; 2]) -> Result<Process>,
    ) -> Result<Node> {
        let file = self.write(side, config)?;
        let serial = STARTS.fetch_add(1, Ordering::Relaxed);
        let log = self.bed.folder().join(format!("stoqd-{}-{serial}.log", side.node()));
        let namespace = self.bed.edge(side).namespace.clone();
        let words = [Path::new("--config"), file.as_path()];
        let process = spawn(&namespace, &log, &self.binaries.stoqd, words)?;
        let socket = self.home(side).join("stoqd.sock");
        Ok(Node { side, process, namespace, socket, stoqctl: self.binaries.stoqctl.clone() })
    }

    /// Starts both edges with the same configuration and waits until the link is up on both.
    ///
    /// # Errors
    /// When one does not start, or the link is not up within [`LINK_UP`].
    pub fn start_both(&self, config: &NodeConfig) -> Result<(Node, Node)> {
        let mut b = self.start(Side::B, config)?;
        let mut a = self.start(Side::A, config)?;
        a.wait_for_link("up", LINK_UP)?;
        b.wait_for_link("up", LINK_UP)?;
        Ok((a, b))
    }

    fn home(&self, side: Side) -> PathBuf {
        self.folder.join(format!("home-{}", side.node()))
    }
}

/// A running `stoqd`.
#[derive(Debug)]
pub struct Node {
    /// Which edge it runs on.
    pub side: Side,
    /// The daemon.
    pub process: Process,
    namespace: Namespace,
    socket: PathBuf,
    stoqctl: PathBuf,
}

impl Node {
    /// Runs `stoqctl` on it and gives what it printed.
    ///
    /// # Errors
    /// [`Error::Command`] with what it said when it fails.
    pub fn ctl(&self, words: &[&str]) -> Result<String> {
        let mut command = self.namespace.command(&self.stoqctl);
        process::run(command.arg("--socket").arg(&self.socket).args(words))
    }

    /// Its state, as scripts read it.
    ///
    /// # Errors
    /// [`Error::Command`] when it does not answer, [`Error::Output`] when that is no JSON.
    pub fn status(&self) -> Result<Value> {
        let printed = self.ctl(&["status", "--json"])?;
        serde_json::from_str(&printed).map_err(|error| Error::Output {
            what: "stoqctl status --json".to_owned(),
            expected: "one JSON object".to_owned(),
            got: format!("{error} in {printed}"),
        })
    }

    /// The program that it runs, whatever is at that path now.
    ///
    /// # Errors
    /// [`Error::Io`] when it has ended.
    pub fn program(&self) -> Result<Vec<u8>> {
        let path = format!("/proc/{}/exe", self.process.pid());
        fs::read(&path).map_err(Error::io(format!("read {path}")))
    }

    /// Has it hand over to a new process of the program at its path, which is this node from then on. Gives the
    /// old process, which ends by itself.
    ///
    /// # Errors
    /// [`Error::Command`] with why the old process goes on.
    pub fn upgrade(&mut self) -> Result<Process> {
        let printed = self.ctl(&["upgrade", "--json"])?;
        let pid = serde_json::from_str::<Value>(&printed).ok().and_then(|it| it["pid"].as_u64());
        let pid = pid.and_then(|pid| u32::try_from(pid).ok()).ok_or_else(|| Error::Output {
            what: "stoqctl upgrade --json".to_owned(),
            expected: "the process that carries the traffic".to_owned(),
            got: printed.clone(),
        })?;
        self.process.succeed(pid)
    }

    /// Waits until its link to the other edge is in this state; gives the link.
    ///
    /// # Errors
    /// [`Error::Timeout`] with the last state, [`Error::Command`] when the daemon ends.
    pub fn wait_for_link(&mut self, state: &str, timeout: Duration) -> Result<Value> {
        let what = format!("the link of {} being {state}", self.side.node());
        let (ctl, namespace, socket) =
            (self.stoqctl.clone(), self.namespace.clone(), self.socket.clone());
        self.process.wait_alive(&what, timeout, |_| {
            let mut command = namespace.command(&ctl);
            command.arg("--socket").arg(&socket).args(["status", "--json"]);
            let printed = process::run(&mut command).map_err(|error| error.to_string())?;
            let status: Value =
                serde_json::from_str(&printed).map_err(|error| error.to_string())?;
            let link = status["links"][0].clone();
            if link["state"] == state { Ok(link) } else { Err(printed) }
        })
    }

    /// How many packets it dropped for a reason.
    ///
    /// # Errors
    /// As for [`Node::status`].
    pub fn drops(&self, reason: &str) -> Result<u64> {
        Ok(self.status()?["drops"][reason].as_u64().unwrap_or(0))
    }

    /// Its metrics in Prometheus text, over HTTP as a scraper gets them.
    ///
    /// # Errors
    /// [`Error::Command`] when it does not answer.
    pub fn metrics(&self) -> Result<String> {
        self.namespace.run("curl", ["-sS", "--fail", &format!("http://{METRICS}/metrics")])
    }

    /// Ends it by SIGTERM, as a service manager does.
    ///
    /// # Errors
    /// [`Error::Timeout`] when it still runs after [`DRAIN`].
    pub fn stop(self) -> Result<ExitStatus> {
        self.process.terminate(DRAIN)
    }

    /// Ends it without warning, by SIGKILL.
    ///
    /// # Errors
    /// [`Error::Io`] when it had ended.
    pub fn kill(mut self) -> Result<()> {
        self.process.signal(Signal::SIGKILL)?;
        self.process.wait_exit(DRAIN).map(drop)
    }
}
