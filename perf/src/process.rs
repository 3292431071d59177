//! Programs that run in the test bed: started in a namespace, with their output in a log file and
//! their CPU time read from `/proc`. A [`Process`] owns its program and kills it when dropped.

mod adopted;

use self::adopted::Adopted;
use crate::bed::Namespace;
use crate::wait;
use crate::{Error, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};
use serde::Serialize;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::iter::Sum;
use std::mem;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

/// Most bytes of a log that an error quotes: the last screen, not the whole run.
const LOG_TAIL: usize = 2000;

/// Kernel clock ticks in a second where `sysconf` does not say.
const DEFAULT_TICKS: i64 = 100;

/// CPU time in seconds, with a resolution of one clock tick (10 ms).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CpuTime {
    /// In user mode.
    pub user_s: f64,
    /// In the kernel.
    pub system_s: f64,
}

impl CpuTime {
    /// The time since an `earlier` reading of the same program.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            user_s: (self.user_s - earlier.user_s).max(0.0),
            system_s: (self.system_s - earlier.system_s).max(0.0),
        }
    }

    /// User and kernel time together.
    #[must_use]
    pub fn total_s(self) -> f64 {
        self.user_s + self.system_s
    }
}

impl Sum for CpuTime {
    fn sum<I: Iterator<Item = Self>>(readings: I) -> Self {
        readings.fold(Self::default(), |sum, next| Self {
            user_s: sum.user_s + next.user_s,
            system_s: sum.system_s + next.system_s,
        })
    }
}

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    running: Running,
    log: PathBuf,
}

/// Who started it.
#[derive(Debug)]
enum Running {
    Child(Child),
    Adopted(Adopted),
}

impl Process {
    /// Starts `program` with `arguments` in `namespace`; its output goes to the file `log`.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be started.
    pub fn spawn<S: AsRef<OsStr>>(
        namespace: &Namespace,
        log: &Path,
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Self> {
        let mut command = namespace.command(program);
        command.args(arguments);
        Self::spawn_command(command, program, log)
    }

    /// Starts a command that was made by [`Namespace::command`] for `program`.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be started.
    pub fn spawn_command(mut command: Command, program: &Path, log: &Path) -> Result<Self> {
        let name =
            program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
        let out = File::create(log).map_err(Error::io(format!("create {}", log.display())))?;
        let err = out.try_clone().map_err(Error::io("duplicate a log file"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(Error::io(format!("start {name}")))?;
        Ok(Self { name, running: Running::Child(child), log: log.to_owned() })
    }

    /// Goes on with the program's successor, which it started itself, and which prints to the same log. Gives
    /// the program as it was, which ends by itself.
    ///
    /// # Errors
    /// [`Error::Io`] when no such program runs.
    pub fn succeed(&mut self, pid: u32) -> Result<Self> {
        let running = Running::Adopted(Adopted::new(pid)?);
        let elder = mem::replace(&mut self.running, running);
        Ok(Self { name: self.name.clone(), running: elder, log: self.log.clone() })
    }

    /// The program's name, without its folder.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The program's process ID.
    #[must_use]
    pub fn pid(&self) -> u32 {
        match &self.running {
            Running::Child(child) => child.id(),
            Running::Adopted(adopted) => adopted.pid(),
        }
    }

    /// All that it has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Waits until it has printed `text`.
    ///
    /// # Errors
    /// [`Error::Timeout`], or [`Error::Command`] when it ends first.
    pub fn wait_for_log(&mut self, text: &str, timeout: Duration) -> Result<()> {
        let what = format!("{} printing `{text}`", self.name);
        self.wait_alive(&what, timeout, |process| {
            let log = process.log();
            if log.contains(text) { Ok(()) } else { Err(tail(&log)) }
        })
    }

    /// Waits until it listens on TCP `port`, on any address.
    ///
    /// # Errors
    /// [`Error::Timeout`], or [`Error::Command`] when it ends first.
    pub fn wait_for_listen(&mut self, port: u16, timeout: Duration) -> Result<()> {
        let what = format!("{} listening on TCP port {port}", self.name);
        self.wait_alive(&what, timeout, |process| {
            if listens(process.pid(), port) { Ok(()) } else { Err(tail(&process.log())) }
        })
    }

    /// Waits until `look` is satisfied while the program runs.
    ///
    /// # Errors
    /// [`Error::Timeout`], or [`Error::Command`] when it ends first.
    pub fn wait_alive<T>(
        &mut self,
        what: &str,
        timeout: Duration,
        mut look: impl FnMut(&Self) -> std::result::Result<T, String>,
    ) -> Result<T> {
        let mut ended = None;
        let found = wait::until(what, timeout, || match (look(self), self.try_exit()) {
            (Ok(value), _) => Ok(Some(value)),
            (Err(_), Some(status)) => {
                ended = Some(status);
                Ok(None)
            }
            (Err(seen), None) => Err(seen),
        })?;
        found.ok_or_else(|| self.failed(&ended.map(|s| s.to_string()).unwrap_or_default()))
    }

    /// Its exit status, if it has ended.
    pub fn try_exit(&mut self) -> Option<ExitStatus> {
        match &mut self.running {
            Running::Child(child) => child.try_wait().ok().flatten(),
            Running::Adopted(adopted) => adopted.try_exit(),
        }
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// [`Error::Timeout`] when it still runs.
    pub fn wait_exit(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        let log = self.log.clone();
        wait::until(&what, timeout, || {
            self.try_exit().ok_or_else(|| tail(&fs::read_to_string(&log).unwrap_or_default()))
        })
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// [`Error::Io`] when it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap_or(i32::MAX));
        kill(pid, signal).map_err(Error::errno(format!("{signal} to {}", self.name)))
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Errors
    /// [`Error::Timeout`] when it does not obey; it is then killed as this value is dropped.
    pub fn terminate(mut self, timeout: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait_exit(timeout)
    }

    /// The CPU time used so far by it and by its children.
    #[must_use]
    pub fn cpu_time(&self) -> CpuTime {
        tree(self.pid()).into_iter().filter_map(cpu_time_of).sum()
    }

    /// The processes that its children have started: what a daemon's broker starts.
    #[must_use]
    pub fn grandchildren(&self) -> Vec<u32> {
        children(self.pid()).into_iter().flat_map(children).collect()
    }

    /// The time that a core has spent on it and its children so far: finer than [`Process::cpu_time`],
    /// but not split. What interrupts did meanwhile is in it where the kernel does not tell them apart.
    #[must_use]
    pub fn busy(&self) -> Duration {
        Duration::from_nanos(tree(self.pid()).into_iter().map(busy_ns_of).sum())
    }

    /// The resident memory in bytes of it and its children.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        tree(self.pid()).into_iter().filter_map(resident_bytes_of).sum()
    }

    /// Its memory and that of its children, pages that several processes share divided by their users, in
    /// bytes.
    ///
    /// # Errors
    /// [`Error::Io`] when the kernel does not tell, [`Error::Output`] when it tells something else.
    pub fn proportional_bytes(&self) -> Result<u64> {
        tree(self.pid()).into_iter().map(proportional_bytes_of).sum()
    }

    /// How many descriptors it has open (its children's are not counted).
    #[must_use]
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).map(Iterator::count).unwrap_or(0)
    }

    /// The error that quotes the end of its log.
    #[must_use]
    pub fn failed(&self, status: &str) -> Error {
        Error::Command {
            command: self.name.clone(),
            status: status.to_owned(),
            output: tail(&self.log()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The adopted one does this itself.
        if let Running::Child(child) = &mut self.running {
            // Both fail only when it has ended already, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a command to its end and gives its standard output.
///
/// # Errors
/// [`Error::Io`] when it cannot be started, [`Error::Command`] when it ends with an error.
pub fn run(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(printed);
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(Error::Command {
        command: line_of(command),
        status: output.status.to_string(),
        output: tail(&format!("{complaint}{printed}")),
    })
}

/// Runs a command to its end, whatever that is.
///
/// # Errors
/// [`Error::Io`] when it cannot be started.
pub fn output(command: &mut Command) -> Result<Output> {
    let line = line_of(command);
    command.stdin(Stdio::null()).output().map_err(Error::io(format!("run `{line}`")))
}

fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn tail(log: &str) -> String {
    let mut start = log.len().saturating_sub(LOG_TAIL);
    while !log.is_char_boundary(start) {
        start += 1;
    }
    log[start..].trim().to_owned()
}

/// The process and its direct children (a daemon and its broker are no deeper).
fn tree(pid: u32) -> Vec<u32> {
    std::iter::once(pid).chain(children(pid)).collect()
}

/// What a process' first thread has started.
fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

fn cpu_time_of(pid: u32) -> Option<CpuTime> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(DEFAULT_TICKS);
    parse_stat(&stat, ticks)
}

/// The first number of each thread's `schedstat` is its time on a core in nanoseconds.
fn busy_ns_of(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let time = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    threads.filter_map(time).sum()
}

/// `utime` and `stime` are the 14th and 15th field (proc(5)); the second, the program's name in
/// brackets, may hold spaces, so counting starts behind it.
fn parse_stat(stat: &str, ticks: i64) -> Option<CpuTime> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11).map(str::parse::<u32>);
    let user = fields.next()?.ok()?;
    let system = fields.next()?.ok()?;
    let ticks = f64::from(i32::try_from(ticks).ok()?);
    Some(CpuTime { user_s: f64::from(user) / ticks, system_s: f64::from(system) / ticks })
}

fn resident_bytes_of(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

fn proportional_bytes_of(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).map_err(Error::io(format!("read {path}")))?;
    let pss = text.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB"));
    let kibibytes = pss.and_then(|pss| pss.trim().parse::<u64>().ok());
    kibibytes.map(|kibibytes| kibibytes * 1024).ok_or_else(|| Error::Output {
        what: path,
        expected: "a line `Pss: N kB`".to_owned(),
        got: text,
    })
}

fn listens(pid: u32, port: u16) -> bool {
    ["tcp", "tcp6"].iter().any(|table| {
        let sockets = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        sockets.lines().any(|line| is_listener(line, port))
    })
}

/// A line of `/proc/net/tcp` is `sl local:port remote:port state ...`, in hexadecimal; 0A listens.
fn is_listener(line: &str, port: u16) -> bool {
    let fields: Vec<&str> = line.split_whitespace().take(4).collect();
    matches!(fields[..], [_, local, _, "0A"] if local.ends_with(&format!(":{port:04X}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_of_a_name_with_spaces_and_brackets() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 1 0 5 6 7";
        let time = parse_stat(stat, 100).unwrap();
        assert_eq!(time, CpuTime { user_s: 2.5, system_s: 0.5 });
    }

    #[test]
    fn own_cpu_time_and_memory_are_read() {
        assert!(cpu_time_of(std::process::id()).is_some());
        let resident = resident_bytes_of(std::process::id()).unwrap();
        assert!(resident > 100_000);
        let proportional = proportional_bytes_of(std::process::id()).unwrap();
        assert!((100_000..2 * resident).contains(&proportional));
        assert!(busy_ns_of(std::process::id()) > 0);
    }

    #[test]
    fn listeners_are_told_from_connections() {
        let listening = "   0: 00000000:1451 00000000:0000 0A 00000000:00000000 00:00000000";
        let connected = "   1: 0100007F:1451 0100007F:9999 01 00000000:00000000 00:00000000";
        assert!(is_listener(listening, 5201));
        assert!(!is_listener(listening, 5202));
        assert!(!is_listener(connected, 5201));
    }

    #[test]
    fn a_failed_command_quotes_what_it_said() {
        let error = run(Command::new("sh").args(["-c", "echo broken >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().contains("broken"));
        assert!(error.to_string().contains('3'));
    }
}
