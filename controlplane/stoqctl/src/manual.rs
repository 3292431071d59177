//! `stoqctl completions` and `stoqctl man`: what shells and `man` know of the commands, made from the
//! same definitions as `--help`.

use std::fs;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Arguments;
use crate::daemon::print;
use crate::failure::Failure;

/// `stoqctl completions SHELL`.
pub fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "stoqctl", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// `stoqctl man DIR`.
pub fn pages(directory: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::writing(directory.to_owned(), &error);
    fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(Arguments::command(), directory).map_err(failed)?;
    print(&format!("Manual pages written: man -l {}/stoqctl.1\n", directory.display()))
}
