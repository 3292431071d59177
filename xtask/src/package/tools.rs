//! The tools that pack: installed below the target folder when they are not there. Called by the other
//! modules of packing.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::step::Step;
use crate::workspace;

/// A program that comes from crates.io.
pub struct Tool {
    name: &'static str,
    version: &'static str,
    /// Further arguments of its installation.
    options: &'static [&'static str],
}

/// Packs the .deb. Without what takes debug symbols apart: ours have none.
pub const DEB: Tool = Tool {
    name: "cargo-deb",
    version: "3.8.0",
    options: &["--no-default-features", "--features", "lzma"],
};
/// Packs the .rpm.
pub const RPM: Tool = Tool { name: "cargo-generate-rpm", version: "0.21.1", options: &[] };
/// Puts the list of crates into each binary.
pub const AUDITABLE: Tool = Tool { name: "cargo-auditable", version: "0.7.7", options: &[] };
/// Writes the bills of materials.
pub const BILLS: Tool = Tool { name: "cargo-cyclonedx", version: "0.5.9", options: &[] };

/// Where the tool is; it is installed if need be.
///
/// # Errors
/// When it cannot be installed.
pub fn get(tool: &Tool) -> Result<PathBuf> {
    let tools = workspace::target().join("tools");
    let program = tools.join("bin").join(tool.name);
    if program.is_file() {
        return Ok(program);
    }
    let build = tools.join("build");
    let mut install = workspace::cargo();
    install.args(["install", "--locked", tool.name, "--version", tool.version]);
    install.args(tool.options);
    // A debug build is there in half the time; unoptimised, they would take minutes to hash what they pack.
    install.arg("--debug").env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
    // A folder of its own: features and profile differ from ours.
    install.arg("--root").arg(&tools).env("CARGO_TARGET_DIR", &build);
    println!("    {} {} is not there", tool.name, tool.version);
    Step {
        log: "install-packer",
        title: "install it below the target folder",
        advice: "it comes from crates.io; is there a network?",
    }
    .run(&mut install)?;
    if build.exists() {
        fs::remove_dir_all(build)?;
    }
    Ok(program)
}
