//! A wall clock that a test can move, for the programs that it starts.
//!
//! A small library (`clock/shim.c`), compiled when it is first wanted, is preloaded into them. It adds an
//! offset to the wall clock, read from a file, and leaves every other clock and all waiting alone: so
//! certificates grow old within a second, and nothing else does. The programs are those that ship.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::{Error, Result};

const SHIM: &str = include_str!("clock/shim.c");

/// Name of the variable by which the shim finds the offset.
const VARIABLE: &str = "STOQ_TEST_CLOCK";

/// The clock, and what has to be told to a program so that it runs by it.
#[derive(Debug)]
pub struct TestClock {
    library: PathBuf,
    offset: PathBuf,
    seconds: AtomicI64,
}

impl TestClock {
    /// A clock that still shows the host's time; its files are made in `directory`.
    ///
    /// # Errors
    /// When there is no C compiler, or a file cannot be written.
    pub fn new(directory: &Path) -> Result<Self> {
        let (source, library) = (directory.join("clock.c"), directory.join("clock.so"));
        let offset = directory.join("clock.offset");
        fs::write(&source, SHIM).map_err(Error::io(format!("write {}", source.display())))?;
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]);
        let output = compiler.arg(&library).arg(&source).output().map_err(|e| missing(&e))?;
        if !output.status.success() {
            return Err(Error::Command {
                command: format!("{compiler:?}"),
                status: output.status.to_string(),
                output: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
        let clock = Self { library, offset, seconds: AtomicI64::new(0) };
        clock.write(0)?;
        Ok(clock)
    }

    /// The variables that a program needs to run by this clock.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, &Path); 2] {
        [("LD_PRELOAD", &self.library), (VARIABLE, &self.offset)]
    }

    /// Moves the clock of all programs forward at once.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn advance(&self, by: Duration) -> Result<()> {
        let by = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
        let now = self.seconds.fetch_add(by, Ordering::Relaxed).saturating_add(by);
        self.write(now)
    }

    /// In place: the programs have the file mapped.
    fn write(&self, seconds: i64) -> Result<()> {
        let failed = || Error::io(format!("write {}", self.offset.display()));
        let mut options = fs::OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).open(&self.offset);
        let file = file.map_err(failed())?;
        std::os::unix::fs::FileExt::write_all_at(&file, &seconds.to_ne_bytes(), 0).map_err(failed())
    }
}

fn missing(error: &io::Error) -> Error {
    let advice = format!("install a C compiler, or look why it does not start: {error}");
    Error::Missing { program: "cc".to_owned(), advice }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn date(clock: &TestClock) -> u64 {
        let output =
            Command::new("date").arg("+%s").envs(clock.environment()).output().expect("date");
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("seconds")
    }

    #[test]
    fn a_program_runs_by_the_moved_clock() {
        let directory = std::env::temp_dir().join(format!("stoq-clock-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let clock = TestClock::new(&directory).unwrap();
        let host = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert!(date(&clock).abs_diff(host) < 60);
        clock.advance(Duration::from_secs(86_400)).unwrap();
        clock.advance(Duration::from_secs(86_400)).unwrap();
        assert!(date(&clock).abs_diff(host + 2 * 86_400) < 60);
        fs::remove_dir_all(&directory).unwrap();
    }
}
