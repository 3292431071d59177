//! A second build of stoqd, optimised otherwise than the first: what nodes are upgraded to, and back from, by
//! the tests and the benchmark of continuity, which find it by `STOQD_OTHER_BIN`.
//!
//! Only the crate of the daemon itself is compiled again, which takes a part of a minute. Called by `test` and
//! `programs`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::step::Step;
use crate::workspace;

/// The variable by which the tests and the benchmark find it.
pub const VARIABLE: &str = "STOQD_OTHER_BIN";

/// How it is to differ.
#[derive(Clone, Copy)]
pub struct Profile {
    /// Where cargo puts what it builds of this profile.
    folder: &'static str,
    /// What is set otherwise than the profile has it.
    setting: &'static str,
}

/// The one that tests run.
pub const DEVELOPMENT: Profile =
    Profile { folder: "debug", setting: "profile.dev.package.stoqd.opt-level=0" };

/// The one that ships.
pub const RELEASE: Profile =
    Profile { folder: "release", setting: "profile.release.package.stoqd.opt-level=2" };

/// Makes it with these arguments of cargo, and says where it is. It stood where the first one belongs, which
/// has to be built after it.
///
/// # Errors
/// When something does not compile, or the program cannot be copied.
pub fn build(profile: Profile, arguments: &[&str]) -> Result<PathBuf> {
    Step {
        log: "build-other",
        title: "build another stoqd, which is upgraded to",
        advice: "mend what the compiler says",
    }
    .run(
        workspace::cargo()
            .args(["build", "--bin", "stoqd", "--locked", "--config", profile.setting])
            .args(arguments),
    )?;
    let built = workspace::target().join(profile.folder).join("stoqd");
    let kept = workspace::scratch(&format!("stoqd-other-{}", profile.folder))?;
    // A program that still runs somewhere cannot be written to, but a name can be given anew.
    let new = kept.with_extension("new");
    fs::copy(&built, &new).with_context(|| format!("cannot copy to {}", new.display()))?;
    fs::rename(&new, &kept).with_context(|| format!("cannot replace {}", kept.display()))?;
    Ok(kept)
}
