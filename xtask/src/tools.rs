//! Programs from crates.io that jobs run: those that the host has, or our own below the target folder.
//!
//! Coverage, the supply chain's gate and packing ask here. Each is built in the version that its user names, from the
//! lock file that its author published.

use std::path::PathBuf;

use anyhow::Result;

use crate::setup::find_program;
use crate::step::Step;
use crate::workspace;

/// A program, and how it is built when the host has none.
pub struct Tool {
    /// The name of the crate and of its program.
    pub name: &'static str,
    /// The versions that may be installed, as cargo writes them.
    pub version: &'static str,
    /// What else `cargo install` is told.
    pub options: &'static [&'static str],
    /// The name of the log of its installation, without the ending.
    pub log: &'static str,
    /// What is printed while it is installed.
    pub title: &'static str,
}

impl Tool {
    /// Where the program is; it is installed if it has to be.
    ///
    /// # Errors
    /// When it can neither be found nor built.
    pub fn find(&self) -> Result<PathBuf> {
        if let Some(found) = find_program(self.name) {
            return Ok(found);
        }
        let tools = workspace::target().join("tools");
        let program = tools.join("bin").join(self.name);
        if program.is_file() {
            return Ok(program);
        }
        let mut install = workspace::cargo();
        install.args(["install", "--locked", self.name, "--version", self.version]);
        // A debug build is there in half the time; not optimised at all, packers take minutes to hash what
        // they pack.
        install.arg("--debug").env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
        install.args(self.options).arg("--root").arg(&tools);
        Step {
            log: self.log,
            title: self.title,
            advice: "it comes from crates.io; is there a network?",
        }
        .run(&mut install)?;
        Ok(program)
    }
}
