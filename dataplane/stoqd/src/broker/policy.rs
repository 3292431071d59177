//! What the broker may do: taken from the configuration file, which only root writes. Pure; the
//! server asks it before each step.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use stoq_tunnel::device::Offloads;
use stoq_xdp::Rules;

use super::message::{ConfiguredFile, UdpSocket};
use crate::config::{Config, ConfigError, Identity, InterfaceAddress, Prefix, Xdp};

/// Least MTU of the device in bytes: IPv6 stops below it (RFC 8200 §5).
const MIN_MTU: u16 = 1280;

/// The bounds of all requests.
#[derive(Clone, Debug)]
pub struct Policy {
    path: PathBuf,
    pub(super) tunnel: Option<TunnelPolicy>,
    listen: Vec<SocketAddr>,
    interface: Option<String>,
    pub(super) mark: u32,
    now: Reloadable,
    /// What was in force before the last reload, until stoqd has refused that or the next one comes.
    before: Option<Reloadable>,
}

/// What a reload changes.
#[derive(Clone, Debug)]
struct Reloadable {
    xdp: Xdp,
    identity: Identity,
    /// Routes may lead to these prefixes and to what lies in them.
    prefixes: Vec<Prefix>,
}

impl Reloadable {
    fn of(config: &Config) -> Self {
        let (xdp, identity) = (config.xdp.clone(), config.identity.clone());
        Self { xdp, identity, prefixes: prefixes(config) }
    }
}

/// The device.
#[derive(Clone, Debug)]
pub(super) struct TunnelPolicy {
    pub(super) device: String,
    pub(super) addresses: Vec<InterfaceAddress>,
    pub(super) offloads: Offloads,
}

impl Policy {
    /// The policy of a configuration that was read from `path`.
    #[must_use]
    pub fn new(path: &Path, config: &Config) -> Self {
        let tunnel = config.tunnel.as_ref().map(|tunnel| TunnelPolicy {
            device: tunnel.device.clone(),
            addresses: tunnel.addresses.clone(),
            offloads: Offloads {
                checksum: tunnel.offload.checksum,
                tso: tunnel.offload.tso,
                uso: tunnel.offload.uso,
            },
        });
        Self {
            path: path.to_owned(),
            tunnel,
            listen: config.transport.listen.clone(),
            interface: config.transport.interface.clone(),
            mark: config.transport.mark,
            now: Reloadable::of(config),
            before: None,
        }
    }

    /// Reads the file again and takes over what a reload may change: the prefixes, the identity's files
    /// and the rules of the XDP program. Device, addresses, mark and listen addresses stay until a restart.
    ///
    /// # Errors
    /// When the file is refused; then nothing has changed.
    pub(super) fn reload(&mut self) -> Result<(), ConfigError> {
        let config = Config::load(&self.path)?;
        self.before = Some(std::mem::replace(&mut self.now, Reloadable::of(&config)));
        Ok(())
    }

    /// Takes back the last reload: stoqd found a reason to refuse what the file names.
    pub(super) fn revert(&mut self) {
        if let Some(before) = self.before.take() {
            self.now = before;
        }
    }

    /// The configuration file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The tunnel, if it may be touched.
    pub(super) fn tunnel(&self) -> Result<&TunnelPolicy, String> {
        let missing =
            || "expected a [tunnel] in the configuration, got none; add it and restart".to_owned();
        self.tunnel.as_ref().ok_or_else(missing)
    }

    /// Whether the device may have this MTU.
    pub(super) fn mtu(&self, mtu: u16) -> Result<u32, String> {
        self.tunnel()?;
        if mtu < MIN_MTU {
            return Err(format!("expected an MTU from {MIN_MTU} to 65535 bytes, got {mtu}"));
        }
        Ok(u32::from(mtu))
    }

    /// Whether there may be a route to this prefix.
    pub(super) fn route(&self, text: &str) -> Result<Prefix, String> {
        self.tunnel()?;
        let prefix: Prefix = text.parse().map_err(|error| format!("{error}"))?;
        if self.now.prefixes.iter().any(|allowed| allowed.covers(prefix)) {
            return Ok(prefix);
        }
        Err(format!(
            "expected a route within a peer's allowed_ips or [control] prefixes, got {prefix}; \
             add it to the configuration and reload"
        ))
    }

    /// Where a socket is to be bound, and whether workers share it.
    pub(super) fn socket(&self, which: UdpSocket) -> Result<(SocketAddr, bool), String> {
        match which {
            UdpSocket::Dial => Ok((SocketAddr::from(([0_u16; 8], 0)), false)),
            UdpSocket::Listen(place) => {
                let count = self.listen.len();
                let none = || format!("expected one of {count} listen addresses, got {place}");
                self.listen.get(usize::from(place)).map(|at| (*at, true)).ok_or_else(none)
            }
        }
    }

    /// Whether names may be served at this address.
    pub(super) fn names(&self, address: IpAddr) -> Result<IpAddr, String> {
        let mut own = self.tunnel.iter().flat_map(|tunnel| &tunnel.addresses);
        if address.is_loopback() || own.any(|own| own.address == address) {
            return Ok(address);
        }
        Err(format!(
            "expected an address of [tunnel] or a loopback address to serve names at, got {address}; \
             set [tunnel] addresses to those of this member, and restart"
        ))
    }

    /// Who is refused before anything is looked at, and the other rules of the XDP program.
    pub(super) fn abuse(&self) -> (Vec<(IpAddr, u8)>, Rules) {
        (self.now.xdp.denied().collect(), self.now.xdp.rules())
    }

    /// The interface that an XDP program may be attached to.
    pub(super) fn interface(&self) -> Result<&str, String> {
        let none = "expected `interface` in [transport], got none; set it to the WAN interface";
        self.interface.as_deref().ok_or_else(|| none.to_owned())
    }

    /// The path of a file.
    pub(super) fn file(&self, which: ConfiguredFile) -> &Path {
        match which {
            ConfiguredFile::Certificate => &self.now.identity.certificate,
            ConfiguredFile::Key => &self.now.identity.key,
            ConfiguredFile::Authority => &self.now.identity.authority,
        }
    }
}

fn prefixes(config: &Config) -> Vec<Prefix> {
    let of_peers = config.peers.iter().flat_map(|peer| peer.allowed_ips.iter().copied());
    of_peers.chain(config.control.prefixes.iter().copied()).collect()
}
