//! What is wrong with a configuration file, and where. Made by the other modules of `config`,
//! printed by the daemon and by `stoqd --check`.

use std::fmt;
use std::path::{Path, PathBuf};

/// Most problems that are listed (20): a screen full.
const MAX_SHOWN: usize = 20;

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, from 1; 0 if it is about the file as a whole.
    pub line: usize,
    /// The key, such as `peer[1].allowed_ips[0]`; empty if it is about no key.
    pub key: String,
    /// What was expected, what came, and what to do.
    pub message: String,
}

/// All that is wrong with one file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// At least one problem.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    /// A problem of the file as a whole.
    pub(super) fn whole(path: &Path, message: String) -> Self {
        let problem = Problem { line: 0, key: String::new(), message };
        Self { path: path.to_owned(), problems: vec![problem] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        for (shown, problem) in self.problems.iter().take(MAX_SHOWN).enumerate() {
            let end = if shown == 0 { "" } else { "\n" };
            let Problem { line, key, message } = problem;
            let line = if *line == 0 { String::new() } else { format!("{line}:") };
            let key = if key.is_empty() { String::new() } else { format!(" {key}:") };
            write!(f, "{end}{path}:{line}{key} {message}")?;
        }
        let hidden = self.problems.len().saturating_sub(MAX_SHOWN);
        if hidden > 0 {
            write!(f, "\n{path}: and {hidden} more")?;
        }
        Ok(())
    }
}
