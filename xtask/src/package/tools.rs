//! The tools that pack. In the versions that the packages are made with: they decide about each byte.

use crate::tools::Tool;

/// What is printed while one is installed.
const TITLE: &str = "install a packer below the target folder";

/// Where that is logged.
const LOG: &str = "install-packer";

/// Packs the .deb. Without what takes debug symbols apart: ours have none.
pub const DEB: Tool = Tool {
    name: "cargo-deb",
    version: "=3.8.0",
    options: &["--no-default-features", "--features", "lzma"],
    log: LOG,
    title: TITLE,
};
/// Packs the .rpm.
pub const RPM: Tool =
    Tool { name: "cargo-generate-rpm", version: "=0.21.1", options: &[], log: LOG, title: TITLE };
/// Puts the list of crates into each binary.
pub const AUDITABLE: Tool =
    Tool { name: "cargo-auditable", version: "=0.7.7", options: &[], log: LOG, title: TITLE };
/// Writes the bills of materials.
pub const BILLS: Tool =
    Tool { name: "cargo-cyclonedx", version: "=0.5.9", options: &[], log: LOG, title: TITLE };
