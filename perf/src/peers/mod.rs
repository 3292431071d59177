//! Other tunnels, which are measured beside ours in the same run on the same wire: gotatun
//! (WireGuard) and quincy (QUIC). They are installed by name from crates.io and configured as their
//! documentation says; nothing of them is in this repository.

mod gotatun;
mod quincy;

pub use gotatun::PORT as GOTATUN_PORT;

use crate::bed::{Bed, Family, Side};
use crate::process::Process;
use crate::workspace;
use crate::{Error, Result};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// How long a peer may take to start.
const START: Duration = Duration::from_secs(10);

/// A crate of a peer, at the version that figures are quoted for.
struct Crate {
    name: &'static str,
    version: &'static str,
    program: &'static str,
}

/// A tunnel that is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// WireGuard in user space.
    Gotatun,
    /// A VPN over QUIC, in its default mode (TLS, AES-GCM).
    Quincy,
    /// The same in its other mode (Noise, ChaCha20-Poly1305).
    QuincyNoise,
}

/// A tunnel that carries packets from edge A to edge B, ready to be measured; it ends when dropped.
#[derive(Debug)]
pub struct Running {
    /// The address of edge B inside it.
    pub target: IpAddr,
    /// Its programs, one on each edge.
    pub processes: Vec<(Side, Process)>,
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Gotatun, Self::Quincy, Self::QuincyNoise];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gotatun => "gotatun",
            Self::Quincy => "quincy",
            Self::QuincyNoise => "quincy-noise",
        }
    }

    /// The version that is measured.
    #[must_use]
    pub fn version(self) -> &'static str {
        self.crates()[0].version
    }

    fn crates(self) -> &'static [Crate] {
        match self {
            Self::Gotatun => &gotatun::CRATES,
            Self::Quincy | Self::QuincyNoise => &quincy::CRATES,
        }
    }

    /// Installs its programs below `target/peers`, unless they are there.
    ///
    /// # Errors
    /// [`Error::Command`] with what cargo said.
    pub fn install(self) -> Result<()> {
        for Crate { name, version, program } in self.crates() {
            if binary(program).is_file() {
                continue;
            }
            eprintln!("installing {name} {version} from crates.io into target/peers (minutes)");
            let mut cargo = Command::new("cargo");
            cargo.args(["install", "--quiet", "--locked", "--version", version, name]);
            crate::process::run(cargo.arg("--root").arg(root()))?;
        }
        Ok(())
    }

    /// Starts it between the edges of a bed and waits until it carries packets.
    ///
    /// # Errors
    /// When a program does not start or no packet passes.
    pub fn start(self, bed: &Bed) -> Result<Running> {
        let running = match self {
            Self::Gotatun => gotatun::start(bed)?,
            Self::Quincy => quincy::start(bed, quincy::Mode::Tls)?,
            Self::QuincyNoise => quincy::start(bed, quincy::Mode::Noise)?,
        };
        crate::measure::ping::wait_for_answer(&bed.a.namespace, running.target, START)?;
        Ok(running)
    }
}

fn root() -> PathBuf {
    workspace::target().join("peers")
}

fn binary(program: &str) -> PathBuf {
    root().join("bin").join(program)
}

/// The address of edge B inside every peer's tunnel.
fn target() -> IpAddr {
    Side::B.tunnel(Family::V4)
}

fn write(bed: &Bed, name: &str, text: &str) -> Result<PathBuf> {
    let path = bed.folder().join(name);
    std::fs::write(&path, text).map_err(Error::io(format!("write {}", path.display())))?;
    Ok(path)
}
