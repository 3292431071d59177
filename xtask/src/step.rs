//! One step of a job: a command with a name, a log, a time, and advice for when it fails.
//!
//! A step's output goes to `target/xtask/NAME.log`, so that what a job prints fits on a screen;
//! when a step fails, the end of its log is shown. The other modules run everything through here.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// How often a running step says that it still runs: rare enough for a CI log.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Lines of a failed step's log that are shown: two screens; the rest is in the file.
const SHOWN_LINES_MAX: usize = 150;

/// What to do when the disk is full; the figures are those of the README.
const SPACE_ADVICE: &str = "the disk is full (`df -h`): make room for 13 GB, or for 6 GB and set \
                            CARGO_INCREMENTAL=0; CARGO_TARGET_DIR names another folder";

/// What a step is called and what to do when it fails.
pub struct Step {
    /// The name of its log, without the ending.
    pub log: &'static str,
    /// What it does, in a few words.
    pub title: &'static str,
    /// What to do when it fails.
    pub advice: &'static str,
}

impl Step {
    /// Runs `command` to its end and returns where its output is.
    ///
    /// # Errors
    /// When it cannot be started or does not succeed; the end of its log has been printed then.
    pub fn run(&self, command: &mut Command) -> Result<PathBuf> {
        println!("==> {}", self.title);
        let started = Instant::now();
        let log = workspace::scratch(&format!("{}.log", self.log))?;
        let output =
            File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let mut child =
            command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
        let (tell, told) = mpsc::channel();
        let waiter = thread::spawn(move || {
            // The receiver outlives this thread: it waits for exactly this message.
            let _ = tell.send(child.wait());
        });
        let status = loop {
            match told.recv_timeout(HEARTBEAT) {
                Ok(status) => break status?,
                Err(RecvTimeoutError::Timeout) => heartbeat(started, &log),
                Err(RecvTimeoutError::Disconnected) => bail!("lost the step's process"),
            }
        };
        let _ = waiter.join();
        let took = started.elapsed().as_secs_f32();
        if status.success() {
            println!("    done in {took:.1} s");
            return Ok(log);
        }
        println!("{}", last_lines(&log, SHOWN_LINES_MAX));
        let advice = if ran_out_of_space(&log) { SPACE_ADVICE } else { self.advice };
        bail!(
            "{} ({status} after {took:.1} s; all of its output: {})\nwhat to do: {advice}",
            self.title,
            log.display(),
        )
    }
}

/// Says how long a job that is not a command took.
///
/// # Errors
/// Those of `job`.
pub fn timed<T>(title: &str, job: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("==> {title}");
    let started = Instant::now();
    let result = job()?;
    println!("    done in {:.1} s", started.elapsed().as_secs_f32());
    Ok(result)
}

/// The last `count` lines of a log; empty when it cannot be read.
pub fn last_lines(log: &Path, count: usize) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Whether the step says that the disk was full, whatever else it says because of that.
fn ran_out_of_space(log: &Path) -> bool {
    String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).contains("No space left on device")
}

fn heartbeat(started: Instant, log: &Path) {
    println!("    {:>4} s: {}", started.elapsed().as_secs(), last_lines(log, 1).trim());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_fails_the_step_with_advice_and_keeps_its_output() {
        let step = Step { log: "unit-failing", title: "fail", advice: "mend it" };
        let error = step.run(Command::new("sh").args(["-c", "echo why; exit 3"])).unwrap_err();
        assert!(error.to_string().contains("mend it"), "{error}");
        let log = workspace::scratch("unit-failing.log").unwrap();
        assert_eq!(last_lines(&log, 5), "why");
    }

    #[test]
    fn a_step_that_found_the_disk_full_asks_for_room() {
        let step = Step { log: "unit-full", title: "fill", advice: "mend it" };
        // A device that is always full.
        let error = step
            .run(Command::new("sh").args(["-c", "LC_ALL=C head -c 1 /dev/zero > /dev/full"]))
            .unwrap_err();
        assert!(error.to_string().contains("make room"), "{error}");
    }

    #[test]
    fn a_succeeding_command_returns_its_log() {
        let step = Step { log: "unit-passing", title: "pass", advice: "" };
        let log = step.run(Command::new("sh").args(["-c", "seq 9"])).unwrap();
        assert_eq!(last_lines(&log, 2), "8\n9");
    }
}
