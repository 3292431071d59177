//! `cargo xtask gates`: what must hold before a change is taken, besides passing tests.
//!
//! The quick checks come first. Called by the CI after the tests, whose build they share.

use anyhow::Result;

use crate::coverage;
use crate::links;
use crate::setup;
use crate::step::{self, Step};
use crate::style;
use crate::workspace;

/// Checks format, sources, links, lints, documentation and coverage, in this order.
///
/// # Errors
/// The first of them that fails.
pub fn run() -> Result<()> {
    setup::run(setup::Scope::All)?;
    format()?;
    step::timed("rules on sources: length, nesting, reasons, lint tables", style::check)?;
    step::timed("links between documents", links::check)?;
    clippy()?;
    documentation()?;
    coverage::check()?;
    println!("==> every gate is passed");
    Ok(())
}

fn format() -> Result<()> {
    Step { log: "format", title: "format", advice: "run `cargo fmt --all`" }
        .run(workspace::cargo().args(["fmt", "--all", "--check"]))?;
    Ok(())
}

fn clippy() -> Result<()> {
    let mut command = workspace::cargo();
    command.args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]);
    Step { log: "clippy", title: "clippy, warnings as errors", advice: "mend what clippy says" }
        .run(&mut command)?;
    Ok(())
}

fn documentation() -> Result<()> {
    let mut command = workspace::cargo();
    command.args(["doc", "--workspace", "--no-deps", "--locked"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    Step { log: "doc", title: "documentation, warnings as errors", advice: "mend the comments" }
        .run(&mut command)?;
    Ok(())
}
