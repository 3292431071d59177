//! Where the workspace's own programs and results are. Used by the benchmarks and the tests.

use crate::{Error, Result};
use std::env;
use std::path::{Path, PathBuf};

/// What names another build of `stoqd` than the one in use.
const OTHER: &str = "STOQD_OTHER_BIN";

/// The workspace's own folder.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The workspace's `target` folder: results go to `target/bench`, peers to `target/peers`.
#[must_use]
pub fn target() -> PathBuf {
    root().join("target")
}

/// Where the result of a benchmark goes.
#[must_use]
pub fn result(name: &str) -> PathBuf {
    target().join("bench").join(name)
}

/// The daemon and its command line.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// `stoqd`.
    pub stoqd: PathBuf,
    /// `stoqctl`.
    pub stoqctl: PathBuf,
}

impl Binaries {
    /// Those that `STOQD_BIN` and `STOQCTL_BIN` name, or else the release builds.
    ///
    /// # Errors
    /// [`Error::Missing`] when one of them is not there.
    pub fn find() -> Result<Self> {
        Ok(Self { stoqd: find("stoqd", "STOQD_BIN")?, stoqctl: find("stoqctl", "STOQCTL_BIN")? })
    }

    /// Whether the environment names them, so that their absence is an error and not a reason to
    /// leave something out.
    #[must_use]
    pub fn are_named() -> bool {
        env::var_os("STOQD_BIN").is_some() || env::var_os("STOQCTL_BIN").is_some()
    }
}

/// Another build of `stoqd`, which `STOQD_OTHER_BIN` names.
///
/// # Errors
/// [`Error::Missing`] when it is not there.
pub fn other_stoqd() -> Result<PathBuf> {
    let named = env::var_os(OTHER).map(PathBuf::from);
    named.clone().filter(|path| path.is_file()).ok_or_else(|| Error::Missing {
        program: named.map_or_else(|| OTHER.to_owned(), |path| path.display().to_string()),
        advice: format!("name another build of stoqd by {OTHER}, as `cargo xtask` does"),
    })
}

/// Whether the environment names one, so that its absence is an error.
#[must_use]
pub fn names_other_stoqd() -> bool {
    env::var_os(OTHER).is_some()
}

/// What a host of a mesh runs.
#[derive(Clone, Debug)]
pub struct MeshBinaries {
    /// `stoqd`.
    pub stoqd: PathBuf,
    /// `stoqctl`.
    pub stoqctl: PathBuf,
    /// `hypermeshd`.
    pub hypermeshd: PathBuf,
}

impl MeshBinaries {
    /// Those that `STOQD_BIN`, `STOQCTL_BIN` and `HYPERMESHD_BIN` name, or else the release builds.
    ///
    /// # Errors
    /// [`Error::Missing`] when one of them is not there.
    pub fn find() -> Result<Self> {
        let Binaries { stoqd, stoqctl } = Binaries::find()?;
        Ok(Self { stoqd, stoqctl, hypermeshd: find("hypermeshd", "HYPERMESHD_BIN")? })
    }

    /// Whether the environment names them, so that their absence is an error.
    #[must_use]
    pub fn are_named() -> bool {
        Binaries::are_named() || env::var_os("HYPERMESHD_BIN").is_some()
    }
}

fn find(program: &str, variable: &str) -> Result<PathBuf> {
    let built = env::var_os("CARGO_TARGET_DIR").map_or_else(target, PathBuf::from);
    let path =
        env::var_os(variable).map_or_else(|| built.join("release").join(program), PathBuf::from);
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::Missing {
        program: path.display().to_string(),
        advice: format!("run `cargo build --release -p {program}`, or name it by {variable}"),
    })
}
