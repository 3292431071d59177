//! The architectures that packages are made for: what each tool calls them, and how to build for one that is
//! not this host's. The job and its parts ask here.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// One architecture.
#[derive(Debug, PartialEq, Eq)]
pub struct Architecture {
    /// What rustc calls it.
    pub triple: &'static str,
    /// What Debian calls it.
    pub deb: &'static str,
    /// What RPM calls it; the same word as [`std::env::consts::ARCH`], and as qemu's.
    pub rpm: &'static str,
    /// What the names of the GNU tools for it begin with.
    gnu: &'static str,
}

/// All that packages are made for.
const ALL: [Architecture; 2] = [
    Architecture {
        triple: "x86_64-unknown-linux-gnu",
        deb: "amd64",
        rpm: "x86_64",
        gnu: "x86_64-linux-gnu",
    },
    Architecture {
        triple: "aarch64-unknown-linux-gnu",
        deb: "arm64",
        rpm: "aarch64",
        gnu: "aarch64-linux-gnu",
    },
];

impl Architecture {
    /// This host's.
    ///
    /// # Errors
    /// When no packages are made for it.
    pub fn host() -> Result<&'static Self> {
        let host = std::env::consts::ARCH;
        ALL.iter().find(|known| known.rpm == host).with_context(|| {
            format!("expected a host with one of {}, got {host}", names(|known| known.rpm))
        })
    }

    /// The one that rustc calls `triple`; this host's without a name.
    ///
    /// # Errors
    /// When no packages are made for it.
    pub fn named(triple: Option<&str>) -> Result<&'static Self> {
        let Some(triple) = triple else { return Self::host() };
        ALL.iter().find(|known| known.triple == triple).with_context(|| {
            format!("expected --target to be one of {}, got {triple}", names(|known| known.triple))
        })
    }

    /// Whether its programs do not run on this host as they are.
    pub fn is_foreign(&self) -> bool {
        self.rpm != std::env::consts::ARCH
    }

    /// A GNU tool (`strip`, `objdump`) for its files.
    pub fn tool(&self, name: &str) -> String {
        if self.is_foreign() { format!("{}-{name}", self.gnu) } else { name.to_owned() }
    }

    /// Runs a program that was built for it: by qemu where this host cannot.
    pub fn program(&self, path: &Path) -> Command {
        if !self.is_foreign() {
            return Command::new(path);
        }
        let mut command = Command::new(format!("qemu-{}-static", self.rpm));
        command.args(["-L", &self.sysroot()]).arg(path);
        command
    }

    /// Tells cargo to build for it, and with what.
    pub fn build(&self, command: &mut Command) {
        if !self.is_foreign() {
            return;
        }
        command.args(["--target", self.triple]);
        let linker = self.triple.to_uppercase().replace('-', "_");
        command.env(format!("CARGO_TARGET_{linker}_LINKER"), self.tool("gcc"));
        let suffix = self.triple.replace('-', "_");
        // BoringSSL's build would take the host's compilers otherwise.
        for (variable, tool) in [("CC", "gcc"), ("CXX", "g++")] {
            command.env(format!("{variable}_{suffix}"), self.tool(tool));
        }
        // bindgen reads its headers with the host's libclang.
        let headers = format!("BINDGEN_EXTRA_CLANG_ARGS_{suffix}");
        command.env(headers, format!("--sysroot={}", self.sysroot()));
    }

    /// Where Debian's compilers for other architectures have their libraries.
    fn sysroot(&self) -> String {
        format!("/usr/{}", self.gnu)
    }
}

fn names(name: fn(&Architecture) -> &'static str) -> String {
    ALL.iter().map(name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_hosts_programs_run_as_they_are_and_others_by_qemu() {
        let host = Architecture::named(None).unwrap();
        assert_eq!(host.tool("strip"), "strip");
        assert_eq!(host.program(Path::new("/bin/true")).get_program(), "/bin/true");
        let foreign = ALL.iter().find(|known| known.is_foreign()).unwrap();
        assert_eq!(foreign.tool("strip"), format!("{}-strip", foreign.gnu));
        let program = foreign.program(Path::new("/bin/true"));
        assert_eq!(program.get_program(), &*format!("qemu-{}-static", foreign.rpm));
    }

    #[test]
    fn an_unknown_target_is_refused_with_those_that_are_known() {
        let error = Architecture::named(Some("riscv64gc-unknown-linux-gnu")).unwrap_err();
        assert!(error.to_string().contains("aarch64-unknown-linux-gnu"), "{error}");
    }
}
