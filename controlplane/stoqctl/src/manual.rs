//! `stoqctl completions` and `stoqctl man`: what shells and `man` know of the commands, made from the
//! same definitions as `--help`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::Shell;
use serde::Serialize;

use crate::cli::Arguments;
use crate::failure::Failure;
use crate::output::answer;

/// A shell's completions.
#[derive(Serialize)]
struct Script {
    /// The shell.
    shell: String,
    /// What it is to read.
    script: String,
}

/// The manual's pages.
#[derive(Serialize)]
struct Pages {
    /// Where they are.
    directory: PathBuf,
}

/// `stoqctl completions SHELL`.
pub fn completions(shell: Shell, json: bool) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "stoqctl", &mut script);
    let script =
        Script { shell: shell.to_string(), script: String::from_utf8_lossy(&script).into() };
    answer(json, &script, |script| script.script.clone())
}

/// `stoqctl man DIR`.
pub fn pages(directory: &Path, json: bool) -> Result<(), Failure> {
    let failed = |error| Failure::writing(directory.to_owned(), &error);
    fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(Arguments::command(), directory).map_err(failed)?;
    answer(json, &Pages { directory: directory.to_owned() }, |_| {
        format!("Manual pages written: man -l {}/stoqctl.1\n", directory.display())
    })
}
