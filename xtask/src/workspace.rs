//! Where things are: the root of the repository, the target folder, the sources.
//!
//! Every other module asks here; nothing else knows a path by heart.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Most files of one kind that are looked at: far above what this repository will hold, so that reaching
/// it means that the walk went astray.
const FILES_MAX: usize = 10_000;

/// The root of the repository.
pub fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// Where cargo builds.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// A file or folder of our own below the target folder; the folder that holds it exists then.
///
/// # Errors
/// When the folder cannot be made.
pub fn scratch(name: &str) -> Result<PathBuf> {
    let dir = target().join("xtask");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir.join(name))
}

/// The cargo that runs us, at the root.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Whether a program answers to `argument` with success.
pub fn answers(program: &str, argument: &str) -> bool {
    Command::new(program).arg(argument).output().is_ok_and(|output| output.status.success())
}

/// `path` as seen from the root.
pub fn relative(path: &Path) -> &Path {
    path.strip_prefix(root()).unwrap_or(path)
}

/// All files of the repository with this ending, build output left out, in the order of their names.
///
/// # Errors
/// When a folder cannot be read, or there are more than [`FILES_MAX`].
pub fn files(ending: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() && !is_left_out(&path) {
                folders.push(path);
            } else if kind.is_file() && path.extension() == Some(OsStr::new(ending)) {
                found.push(path);
            }
        }
        ensure!(found.len() <= FILES_MAX, "more than {FILES_MAX} `.{ending}` files below the root");
    }
    found.sort();
    Ok(found)
}

fn is_left_out(folder: &Path) -> bool {
    let name = folder.file_name().and_then(OsStr::to_str).unwrap_or_default();
    name.starts_with('.') || name == "target" || folder == target()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_hold_this_file_and_no_build_output() {
        let sources = files("rs").unwrap();
        assert!(sources.contains(&root().join("xtask/src/workspace.rs")));
        assert!(sources.iter().all(|path| !path.starts_with(target())));
    }
}
