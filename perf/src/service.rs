//! What a service manager does for a daemon that hands over: it is told of readiness, of another main
//! process and of life (`sd_notify(3)`), keeps descriptors for it, and gives them to the next process
//! (`sd_listen_fds(3)`). As in systemd, what is stored outlives the process that stored it, until another one
//! says that it is the main process: that stores all it has.
//!
//! A [`Manager`] owns the socket and the descriptors. The trials of continuity start their daemons by it.

use crate::bed::Namespace;
use crate::process::Process;
use crate::{Error, Result, wait};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Most descriptors of one message: what the kernel takes (SCM_MAX_FD, unix(7)).
const MESSAGE_FDS_MAX: usize = 253;

/// Most descriptors that are kept (`FileDescriptorStoreMax=`): more queues and sockets than a daemon has.
const STORED_MAX: usize = 1024;

/// Most bytes of a message; systemd's own bound is about the same.
const MESSAGE_MAX: usize = 4096;

/// Where descriptors are put while a process is started: above those that a shell uses by itself.
const ABOVE: i32 = 300;

/// The first descriptor that is handed over (SD_LISTEN_FDS_START).
const FIRST: usize = 3;

/// How long the thread waits for a message before it looks whether it shall stop.
const LOOK: Duration = Duration::from_millis(100);

/// The pause in which a daemon has to say that it lives, in microseconds.
const WATCHDOG_US: &str = "10000000";

/// What it was told.
#[derive(Debug, Default)]
struct Told {
    ready: u64,
    watchdogs: u64,
    main_pid: Option<u32>,
    stored: Vec<(String, OwnedFd)>,
}

/// A running service manager.
#[derive(Debug)]
pub struct Manager {
    path: PathBuf,
    told: Arc<Mutex<Told>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Manager {
    /// Listens at `path`, which must not exist.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot.
    pub fn start(path: &Path) -> Result<Self> {
        let failed = || Error::io(format!("listen on {}", path.display()));
        let socket = UnixDatagram::bind(path).map_err(failed())?;
        // A daemon may have become a user without privilege.
        fs::set_permissions(path, Permissions::from_mode(0o777)).map_err(failed())?;
        socket.set_read_timeout(Some(LOOK)).map_err(failed())?;
        let (told, stop) = (Arc::<Mutex<Told>>::default(), Arc::new(AtomicBool::new(false)));
        let (writes, ends) = (Arc::clone(&told), Arc::clone(&stop));
        let thread = thread::spawn(move || listen(&socket, &writes, &ends));
        Ok(Self { path: path.to_owned(), told, stop, thread: Some(thread) })
    }

    /// Starts a program as [`Process::spawn`] does, with what is stored as its descriptors from 3 on.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be started.
    pub fn spawn<S: AsRef<OsStr>>(
        &self,
        namespace: &Namespace,
        log: &Path,
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Process> {
        let (copies, names) = self.copies()?;
        let moves: String = (FIRST..)
            .zip(&copies)
            .map(|(to, from)| format!(" {to}<&{0} {0}<&-", from.as_raw_fd()))
            .collect();
        // The process that is named has to be the one that asks: the shell becomes it.
        let listens = if names.is_empty() { "" } else { "export LISTEN_PID=$$; " };
        let script = format!("{listens}exec{moves}; exec \"$0\" \"$@\"");
        let mut command = namespace.command("bash");
        command.arg("-c").arg(script).arg(program).args(arguments);
        command.env("NOTIFY_SOCKET", &self.path).env("WATCHDOG_USEC", WATCHDOG_US);
        // To a service of which nothing is stored, nothing is said.
        if !names.is_empty() {
            command.env("LISTEN_FDS", copies.len().to_string()).env("LISTEN_FDNAMES", names);
        }
        Process::spawn_command(command, program, log)
    }

    /// Copies of what is stored that a program started now inherits, and their names.
    fn copies(&self) -> Result<(Vec<OwnedFd>, String)> {
        let told = self.told();
        let copy = |(_, fd): &(String, OwnedFd)| {
            let copy = fcntl_dupfd_cloexec(fd, ABOVE)?;
            fcntl_setfd(&copy, FdFlags::empty())?;
            Ok(copy)
        };
        let copies = told.stored.iter().map(copy).collect::<io::Result<_>>();
        let names: Vec<&str> = told.stored.iter().map(|(name, _)| name.as_str()).collect();
        Ok((copies.map_err(Error::io("copy a stored descriptor"))?, names.join(":")))
    }

    /// How often a process has said that it is ready.
    #[must_use]
    pub fn ready(&self) -> u64 {
        self.told().ready
    }

    /// How often a process has said that it lives.
    #[must_use]
    pub fn watchdogs(&self) -> u64 {
        self.told().watchdogs
    }

    /// The main process that was named last.
    #[must_use]
    pub fn main_pid(&self) -> Option<u32> {
        self.told().main_pid
    }

    /// The names of what is stored, in the order in which it came.
    #[must_use]
    pub fn stored(&self) -> Vec<String> {
        self.told().stored.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Waits until readiness was said more than `before` times.
    ///
    /// # Errors
    /// [`Error::Timeout`] when it was not.
    pub fn wait_for_ready(&self, before: u64, timeout: Duration) -> Result<()> {
        wait::until("READY=1", timeout, || {
            let ready = self.ready();
            if ready > before { Ok(()) } else { Err(format!("{ready} times so far")) }
        })
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(Err(error)) = self.thread.take().and_then(|thread| thread.join().ok()) {
            eprintln!("the service manager stopped listening: {error}");
        }
    }
}

fn listen(socket: &UnixDatagram, told: &Mutex<Told>, stop: &AtomicBool) -> io::Result<()> {
    while !stop.load(Ordering::Relaxed) {
        match receive(socket) {
            Ok((text, fds)) => told.lock().unwrap_or_else(PoisonError::into_inner).hear(&text, fds),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => {}
                _ => return Err(error),
            },
        }
    }
    Ok(())
}

fn receive(socket: &UnixDatagram) -> io::Result<(String, Vec<OwnedFd>)> {
    let mut bytes = [0; MESSAGE_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok((String::from_utf8_lossy(&bytes[..received.bytes]).into_owned(), fds))
}

impl Told {
    /// Takes in a message: lines of `NAME=VALUE`; those of unknown names are left out.
    fn hear(&mut self, text: &str, fds: Vec<OwnedFd>) {
        let value = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once('='));
            lines.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
        };
        let says = |name| value(name).is_some_and(|value| value == "1");
        self.ready += u64::from(says("READY"));
        self.watchdogs += u64::from(says("WATCHDOG"));
        if let Some(pid) = value("MAINPID").and_then(|pid| pid.parse().ok()) {
            // systemd sees which descriptors are the same file, and keeps one of them.
            if self.main_pid.replace(pid) != Some(pid) {
                self.stored.clear();
            }
        }
        let name = value("FDNAME").unwrap_or_else(|| "stored".to_owned());
        if says("FDSTOREREMOVE") {
            self.stored.retain(|(stored, _)| *stored != name);
        } else if says("FDSTORE") {
            let room = STORED_MAX.saturating_sub(self.stored.len());
            self.stored.extend(fds.into_iter().take(room).map(|fd| (name.clone(), fd)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::io::IoSlice;
    use std::os::fd::{AsFd, BorrowedFd};

    const SOON: Duration = Duration::from_secs(30);

    fn tell(to: &UnixDatagram, text: &str, fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        sendmsg(to, &[IoSlice::new(text.as_bytes())], &mut control, SendFlags::empty()).unwrap();
    }

    #[test]
    fn what_is_stored_and_said_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = Manager::start(&path).unwrap();
        let service = UnixDatagram::unbound().unwrap();
        service.connect(&path).unwrap();
        let files = ["a", "b", "c"].map(|name| fs::File::create(folder.path().join(name)).unwrap());
        let fds: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        tell(&service, "FDSTORE=1\nFDNAME=queue", &fds[..2]);
        tell(&service, "FDSTORE=1\nFDNAME=socket", &fds[2..]);
        tell(&service, "FDSTORE=1", &fds[..1]);
        tell(&service, "FDSTOREREMOVE=1\nFDNAME=stored", &[]);
        service.send(b"WATCHDOG=1\nSTATUS=well\nnonsense").unwrap();
        service.send(b"READY=1").unwrap();
        manager.wait_for_ready(0, SOON).unwrap();
        assert_eq!((manager.watchdogs(), manager.main_pid()), (1, None));
        assert_eq!(manager.stored(), ["queue", "queue", "socket"]);
        let (copies, names) = manager.copies().unwrap();
        assert_eq!((copies.len(), names.as_str()), (3, "queue:queue:socket"));
        assert!(copies.iter().all(|copy| copy.as_raw_fd() >= ABOVE));
        service.send(b"MAINPID=77\nREADY=1").unwrap();
        manager.wait_for_ready(1, SOON).unwrap();
        assert_eq!((manager.main_pid(), manager.stored().len()), (Some(77), 0), "another's");
        tell(&service, "FDSTORE=1\nFDNAME=queue", &fds[..1]);
        service.send(b"MAINPID=77\nREADY=1").unwrap();
        manager.wait_for_ready(2, SOON).unwrap();
        assert_eq!(manager.stored(), ["queue"], "it has them still");
    }
}
