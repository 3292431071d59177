//! Other tunnels, which are measured beside ours in the same run on the same wire: gotatun
//! (WireGuard) and quincy (QUIC) of crates.io, wireguard-go, nebula and OpenVPN of Debian. They are
//! installed by name and configured as their documentation says; nothing of them is in this repository.

mod nebula;
mod openvpn;
mod quincy;
mod wireguard;

pub use wireguard::PORT as GOTATUN_PORT;

use crate::bed::{Bed, Family, Side};
use crate::process::{self, Process};
use crate::workspace;
use crate::{Error, Result};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// How long a peer may take to start.
const START: Duration = Duration::from_secs(30);

/// A crate of a peer, at the version that figures are quoted for.
struct Crate {
    name: &'static str,
    version: &'static str,
    program: &'static str,
}

/// Where a peer comes from.
enum Source {
    /// crates.io, into `target/peers`.
    Crates(&'static [Crate]),
    /// The distribution: a package whose program has the package's name.
    Debian(&'static str),
}

const GOTATUN: [Crate; 1] = [Crate { name: "gotatun-cli", version: "0.10.2", program: "gotatun" }];

/// A tunnel that is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// WireGuard in user space, in Rust.
    Gotatun,
    /// A VPN over QUIC, in its default mode (TLS, AES-GCM).
    Quincy,
    /// The same in its other mode (Noise, ChaCha20-Poly1305).
    QuincyNoise,
    /// WireGuard in user space, in Go.
    WireguardGo,
    /// A mesh VPN over Noise (AES-GCM).
    Nebula,
    /// OpenVPN over UDP (TLS, AES-GCM), in user space.
    OpenVpn,
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
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gotatun => "gotatun",
            Self::Quincy => "quincy",
            Self::QuincyNoise => "quincy-noise",
            Self::WireguardGo => "wireguard-go",
            Self::Nebula => "nebula",
            Self::OpenVpn => "openvpn",
        }
    }

    /// The version that is measured; empty when it is not installed.
    #[must_use]
    pub fn version(self) -> String {
        match self.source() {
            Source::Crates(crates) => crates[0].version.to_owned(),
            Source::Debian(package) => {
                let mut query = Command::new("dpkg-query");
                query.args(["-W", "-f", "${Version}", package]);
                process::run(&mut query).unwrap_or_default()
            }
        }
    }

    fn source(self) -> Source {
        match self {
            Self::Gotatun => Source::Crates(&GOTATUN),
            Self::Quincy | Self::QuincyNoise => Source::Crates(&quincy::CRATES),
            Self::WireguardGo => Source::Debian("wireguard-go"),
            Self::Nebula => Source::Debian("nebula"),
            Self::OpenVpn => Source::Debian("openvpn"),
        }
    }

    /// Installs its programs, unless they are there: below `target/peers`, or by the system's package
    /// manager.
    ///
    /// # Errors
    /// [`Error::Command`] with what cargo or apt-get said.
    pub fn install(self) -> Result<()> {
        match self.source() {
            Source::Crates(crates) => crates.iter().try_for_each(install_crate),
            Source::Debian(package) => install_package(package),
        }
    }

    /// Starts it between the edges of a bed and waits until it carries packets.
    ///
    /// # Errors
    /// When a program does not start or no packet passes.
    pub fn start(self, bed: &Bed) -> Result<Running> {
        let running = match self {
            Self::Gotatun => {
                let words = &["--foreground", "--disable-drop-privileges"];
                wireguard::start(bed, &wireguard::Program { path: binary("gotatun"), words })?
            }
            Self::Quincy => quincy::start(bed, quincy::Mode::Tls)?,
            Self::QuincyNoise => quincy::start(bed, quincy::Mode::Noise)?,
            Self::WireguardGo => {
                let path = "wireguard-go".into();
                wireguard::start(bed, &wireguard::Program { path, words: &["--foreground"] })?
            }
            Self::Nebula => nebula::start(bed)?,
            Self::OpenVpn => openvpn::start(bed)?,
        };
        crate::measure::ping::wait_for_answer(&bed.a.namespace, running.target, START)?;
        Ok(running)
    }
}

fn install_crate(Crate { name, version, program }: &Crate) -> Result<()> {
    if binary(program).is_file() {
        return Ok(());
    }
    eprintln!("installing {name} {version} from crates.io into target/peers (minutes)");
    let mut cargo = Command::new("cargo");
    cargo.args(["install", "--quiet", "--locked", "--version", version, name]);
    process::run(cargo.arg("--root").arg(root())).map(drop)
}

fn install_package(package: &str) -> Result<()> {
    let is_there = process::run(Command::new("sh").args(["-c", "command -v \"$0\"", package]));
    if is_there.is_ok() {
        return Ok(());
    }
    eprintln!("installing {package} by apt-get");
    let mut apt = Command::new("apt-get");
    apt.args(["install", "--yes", "--no-install-recommends", package]);
    process::run(apt.env("DEBIAN_FRONTEND", "noninteractive")).map(drop)
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
