//! `cargo xtask gates`: what must hold before a change is taken, besides passing tests.
//!
//! The quick checks come first; all of them run, so that one run names everything to mend. Called by
//! the CI after the tests, whose build they share.

use anyhow::{Result, bail};

use crate::alerts;
use crate::coverage;
use crate::ebpf;
use crate::links;
use crate::setup;
use crate::step::{self, Step};
use crate::style;
use crate::supply;
use crate::workspace;

/// A gate: its name, and the check that it stands for.
type Gate = (&'static str, fn() -> Result<()>);

const GATES: &[Gate] = &[
    ("format", format),
    ("sources", sources),
    ("links", document_links),
    ("supply chain", supply::check),
    ("alert rules", alerts::check),
    ("clippy", clippy),
    ("documentation", documentation),
    ("ebpf", ebpf::check),
    ("coverage", coverage::check),
];

/// Checks every gate.
///
/// # Errors
/// When a package is missing, or a gate is not passed; each has said why then.
pub fn run() -> Result<()> {
    setup::run(setup::Scope::All)?;
    let mut failed = Vec::new();
    for (name, check) in GATES {
        if let Err(error) = check() {
            println!("\nfailed: {error:#}\n");
            failed.push(*name);
        }
    }
    if failed.is_empty() {
        println!("==> every gate is passed");
        return Ok(());
    }
    bail!("gates not passed: {} (the reasons are above)", failed.join(", "))
}

fn format() -> Result<()> {
    Step { log: "format", title: "format", advice: "run `cargo fmt --all`" }
        .run(workspace::cargo().args(["fmt", "--all", "--check", "--", "--color=never"]))?;
    ebpf::format()
}

fn sources() -> Result<()> {
    step::timed("rules on sources: length, nesting, reasons, lint tables", style::check)
}

fn document_links() -> Result<()> {
    step::timed("links between documents", links::check)
}

fn clippy() -> Result<()> {
    let mut command = workspace::cargo();
    command.args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]);
    Step { log: "clippy", title: "clippy, warnings as errors", advice: "mend what clippy says" }
        .run(&mut command)?;
    ebpf::clippy()
}

fn documentation() -> Result<()> {
    let mut command = workspace::cargo();
    command.args(["doc", "--workspace", "--no-deps", "--locked"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    Step { log: "doc", title: "documentation, warnings as errors", advice: "mend the comments" }
        .run(&mut command)?;
    Ok(())
}
