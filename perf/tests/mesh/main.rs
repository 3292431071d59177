//! The mesh as its operators have it: bare hosts become one by three commands, reach each other by
//! name, and go on whatever happens to the control plane.
//!
//! They need root and the binaries (`STOQD_BIN`, `STOQCTL_BIN`, `HYPERMESHD_BIN`, or `target/release`),
//! and say why when they are skipped. Binaries that are named but missing are a failure.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

mod clock;
mod continuity;
mod host;
mod reach;
mod recovery;
mod revocation;

use std::time::Duration;
use stoq_perf::bed::Bed;
use stoq_perf::mesh::{self, MeshHost};
use stoq_perf::workspace::MeshBinaries;

/// How long to wait for what should happen at once: a limit for a machine that does much else, no measure.
pub const SOON: Duration = Duration::from_secs(60);

/// What every test stands on.
pub struct Fixture {
    /// The wire; hosts are plugged into it.
    pub bed: Bed,
    /// What runs on them.
    pub binaries: MeshBinaries,
}

impl Fixture {
    /// A mesh of so many hosts, made by the three commands, with every link up.
    pub fn mesh(&self, count: u8) -> Vec<MeshHost> {
        mesh::create(&self.bed, &self.binaries, count).unwrap()
    }
}

/// Makes the bed for a test, unless this host cannot.
pub fn fixture(test: &str) -> Option<Fixture> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("{test}: SKIPPED, network namespaces need root");
        return None;
    }
    let binaries = match MeshBinaries::find() {
        Err(missing) if !MeshBinaries::are_named() => {
            eprintln!("{test}: SKIPPED, {missing}");
            return None;
        }
        found => found.unwrap(),
    };
    Some(Fixture { bed: Bed::new().unwrap(), binaries })
}
