//! A compiler for the kernel's virtual machine with its linker: how it is called.
//!
//! The routes make one ready; the flags are the same for both, and with them the object.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::step::Step;
use crate::workspace;

/// The linker's version. The object depends on it as it does on the compiler.
const LINKER_VERSION: &str = "0.13.0";

const TARGET: &str = "bpfel-unknown-none";

/// What is needed to compile.
pub struct Toolchain {
    /// The compiler.
    pub rustc: PathBuf,
    /// What cargo is told beside the usual.
    pub cargo_arguments: Vec<String>,
    /// Where its libraries are.
    pub libraries: PathBuf,
    /// LLVM's library that the linker was built with.
    pub llvm: PathBuf,
    /// The program that strips the object.
    pub objcopy: PathBuf,
    /// Its folder below the target folder.
    pub folder: PathBuf,
}

/// A folder of ours below the target folder.
///
/// # Errors
/// When it cannot be made.
pub fn folder(name: &str) -> Result<PathBuf> {
    let folder = workspace::target().join("ebpf").join(name);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

impl Toolchain {
    /// Checks that the compiler runs, and builds the linker unless it is there.
    ///
    /// # Errors
    /// When one of them does not work; the error says why.
    pub fn ready(self) -> Result<Self> {
        let llvm_major = self.llvm_major()?;
        if self.linker_version().as_deref() != Some(LINKER_VERSION) {
            self.install_linker(&llvm_major)?;
        }
        ensure!(
            self.linker_version().as_deref() == Some(LINKER_VERSION),
            "bpf-linker was built, but does not run"
        );
        Ok(self)
    }

    /// Compiler, LLVM and linker, one a line.
    ///
    /// # Errors
    /// When the compiler does not run.
    pub fn versions(&self) -> Result<String> {
        let about = self.about()?;
        let lines = about.lines();
        let kept = lines.filter(|line| line.starts_with("rustc ") || line.starts_with("LLVM"));
        let kept: Vec<&str> = kept.collect();
        Ok(format!("{}\nbpf-linker {LINKER_VERSION}\n", kept.join("\n")))
    }

    /// The command that compiles the program of this manifest.
    pub fn build(&self, manifest: &Path) -> Command {
        let mut command = self.with_libraries(workspace::cargo());
        command.arg("build").arg("--manifest-path").arg(manifest);
        command.args(["--release", "--locked", "--target", TARGET]).args(&self.cargo_arguments);
        command
            .env("RUSTC", &self.rustc)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", self.linker())
            .env("CARGO_TARGET_DIR", self.folder.join("build"))
            .env("CARGO_ENCODED_RUSTFLAGS", flags().join("\u{1f}"))
            .env_remove("RUSTFLAGS");
        command
    }

    /// Leaves the code, the maps and BTF; returns where the object is.
    ///
    /// # Errors
    /// When the program that does it fails.
    pub fn strip(&self) -> Result<PathBuf> {
        let made = self.folder.join("build").join(TARGET).join("release/stoq");
        let stripped = self.folder.join("stoq.bpf.o");
        let mut command = self.with_libraries(Command::new(&self.objcopy));
        command.arg("--strip-debug").arg(made).arg(&stripped);
        let output =
            command.output().with_context(|| format!("cannot start {}", self.objcopy.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} said: {said}", self.objcopy.display());
        Ok(stripped)
    }

    fn linker(&self) -> PathBuf {
        self.folder.join("linker/bin/bpf-linker")
    }

    /// What the linker says of itself: `bpf-linker 0.13.0`.
    fn linker_version(&self) -> Option<String> {
        let output = self.with_libraries(Command::new(self.linker())).arg("--version").output();
        let text = String::from_utf8(output.ok()?.stdout).ok()?;
        text.trim().strip_prefix("bpf-linker ").map(ToOwned::to_owned)
    }

    fn install_linker(&self, llvm_major: &str) -> Result<()> {
        let prefix = self.folder.join("llvm");
        let library = prefix.join("lib/libLLVM.so");
        fs::create_dir_all(prefix.join("lib"))?;
        let _ = fs::remove_file(&library);
        std::os::unix::fs::symlink(&self.llvm, &library)
            .with_context(|| format!("cannot make {}", library.display()))?;
        let mut command = self.with_libraries(workspace::cargo());
        command.args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--force"]);
        command.args(["--no-default-features", "--features", &format!("llvm-{llvm_major}")]);
        command.arg("--root").arg(self.folder.join("linker"));
        command.env("LLVM_PREFIX", &prefix);
        command.env("CARGO_TARGET_DIR", self.folder.join("linker-build"));
        Step {
            log: "bpf-linker",
            title: "build bpf-linker (a minute or two, once)",
            advice: "look whether crates can be fetched",
        }
        .run(&mut command)?;
        Ok(())
    }

    fn llvm_major(&self) -> Result<String> {
        let about = self.about()?;
        let version = about.lines().find_map(|line| line.strip_prefix("LLVM version: "));
        match version.and_then(|version| version.split('.').next()) {
            Some(major) => Ok(major.to_owned()),
            None => bail!("{} does not tell its LLVM", self.rustc.display()),
        }
    }

    fn about(&self) -> Result<String> {
        let output = self.with_libraries(Command::new(&self.rustc)).arg("-vV").output();
        let output = output.with_context(|| format!("cannot start {}", self.rustc.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} does not run: {said}", self.rustc.display());
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The command, finding this toolchain's libraries and not those of the one that runs us.
    fn with_libraries(&self, mut command: Command) -> Command {
        command.env("LD_LIBRARY_PATH", &self.libraries);
        command
    }
}

/// What the compiler is told. The object must not depend on where the sources are, so every path that
/// could get into it is given another name.
fn flags() -> Vec<String> {
    let mut flags: Vec<String> = [
        // BTF is made of the debug information, all of it.
        "-Cdebuginfo=2",
        "-Clink-arg=--btf",
        // 32-bit instructions, of Linux 5.10: XDP with several buffers needs 5.18 anyway.
        "-Ctarget-cpu=v3",
        // Headers are not aligned in frames. x86-64 and arm64 read them anyway, at once.
        "-Clink-arg=--cpu-features=+allows-misaligned-mem-access",
    ]
    .map(ToOwned::to_owned)
    .to_vec();
    flags.push(format!("--remap-path-prefix={}/=", workspace::root().display()));
    for registry in registries() {
        flags.push(format!("--remap-path-prefix={}/=registry/", registry.display()));
    }
    flags
}

/// The folders that cargo unpacks crates to.
fn registries() -> Vec<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let sources = home.unwrap_or_default().join("registry/src");
    let mut folders: Vec<PathBuf> =
        fs::read_dir(sources).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    folders.sort();
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_of_this_host_gets_into_the_object() {
        let object = fs::read(workspace::root().join("ebpf/stoq.bpf.o")).unwrap();
        let mut here = registries();
        here.push(workspace::root().to_path_buf());
        for path in here {
            let path = path.display().to_string();
            let found = object.windows(path.len()).any(|bytes| bytes == path.as_bytes());
            assert!(!found, "{path}");
            assert!(flags().iter().any(|flag| flag.contains(&path)), "{path}");
        }
    }
}
