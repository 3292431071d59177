//! Sockets and tunnel device, asked of the broker while privilege lasts, and the sizes that follow
//! from the WAN interface.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use stoq::settings::{OUTER_HEADERS_V6, inner_mtu};
use stoq_port::Socket;
use stoq_tuning::{CorePlan, Host, Topology, Wish};
use stoq_tunnel::device::Offloads;

use super::handover::Elder;
use crate::broker::{Broker, UdpSocket};
use crate::config::{Auto, Config};
use crate::inherit::{Estate, Kind};
use crate::netlink::Netlink;

/// MTU of the WAN where the interface does not tell: Ethernet's.
const MTU_DEFAULT: u16 = 1500;

/// Largest MTU of the WAN that is used.
const MTU_MAX: u16 = 9000;

/// What one worker gets.
pub(super) struct Share {
    pub sockets: Vec<(Socket, OwnedFd)>,
    pub queue: Option<(OwnedFd, Offloads)>,
}

/// What all workers get.
pub(super) struct Network {
    pub shares: Vec<Share>,
    pub udp_payload_max: u16,
    pub tunnel_mtu: u16,
    /// What the kernel granted for the tunnel device, where there is one.
    pub granted: Option<Offloads>,
    pub addresses: Vec<IpAddr>,
    /// Which core each worker is pinned to.
    pub cores: CorePlan,
}

impl Network {
    /// Opens everything; beside an elder's sockets once packets are steered.
    pub fn prepare(broker: &Broker, config: &Config, elder: Option<&Elder>) -> Result<Self> {
        let cores = core_plan(config);
        if let Some(elder) = elder {
            elder.announce(cores.workers)?;
        }
        let udp_payload_max = wan_mtu(config).saturating_sub(OUTER_HEADERS_V6);
        let mut shares = Vec::new();
        for index in 0..cores.workers {
            shares.push(Share { sockets: sockets(broker, config, index)?, queue: None });
        }
        let mut network = Self {
            shares,
            udp_payload_max,
            tunnel_mtu: inner_mtu(udp_payload_max),
            granted: None,
            addresses: Vec::new(),
            cores,
        };
        network.open_tunnel(broker, config, elder.is_none())?;
        Ok(network)
    }

    /// Copies of the device's queues, for the next process.
    pub fn estate(&self) -> Result<Estate> {
        let mut estate = Estate::default();
        for (queue, _) in self.shares.iter().filter_map(|share| share.queue.as_ref()) {
            estate.add(Kind::Tunnel, queue)?;
        }
        Ok(estate)
    }

    /// The MTU that the tunnel device has when this process carries the traffic, if there is one.
    pub fn device_mtu(&self) -> Option<u16> {
        self.granted.map(|_| self.tunnel_mtu)
    }

    /// A copy of the first listening socket of each address.
    pub fn group(&self) -> Result<Vec<OwnedFd>> {
        let sockets = self.shares.first().map(|share| &share.sockets[..]).unwrap_or_default();
        let listening = sockets.iter().filter(|(socket, _)| matches!(socket, Socket::Listen(_)));
        listening.map(|(_, fd)| Ok(fd.try_clone()?)).collect()
    }

    /// `alone` says whether no other process uses the device, whose size it may not change.
    fn open_tunnel(&mut self, broker: &Broker, config: &Config, alone: bool) -> Result<()> {
        let Some(tunnel) = &config.tunnel else { return Ok(()) };
        let queues = u16::try_from(self.shares.len()).context("more workers than queues")?;
        let device = broker.create_tunnel(queues)?;
        if let Auto::Fixed(mtu) = tunnel.mtu {
            self.tunnel_mtu = mtu;
        }
        if alone {
            broker.set_mtu(self.tunnel_mtu)?;
        }
        let granted = device.granted;
        self.granted = Some(granted);
        for (share, queue) in self.shares.iter_mut().zip(device.queues) {
            share.queue = Some((queue, granted));
        }
        self.addresses = tunnel.addresses.iter().map(|address| address.address).collect();
        tracing::info!(device = tunnel.device, mtu = self.tunnel_mtu, ?granted, "tunnel ready");
        Ok(())
    }
}

/// How many workers there are, and which cores they get.
fn core_plan(config: &Config) -> CorePlan {
    let transport = &config.transport;
    let topology = Topology::of(&Host::this(), transport.interface.as_deref());
    let workers = match transport.workers {
        Auto::Fixed(count) => Some(count),
        Auto::Auto => None,
    };
    let plan = CorePlan::new(&topology, Wish { workers, cores: transport.cores.as_deref() });
    let CorePlan { workers, pinned, control, why, .. } = &plan;
    tracing::info!(workers, ?pinned, ?control, "cores: {}", why.join("; "));
    plan
}

/// Opens the sockets of one worker: all workers' in the same order, which steering relies on.
fn sockets(broker: &Broker, config: &Config, worker: u16) -> Result<Vec<(Socket, OwnedFd)>> {
    let mut sockets = Vec::new();
    for (place, address) in (0..).zip(&config.transport.listen) {
        let opened = broker.open_socket(UdpSocket::Listen(place))?;
        if worker == 0 {
            tracing::info!(%address, local = %opened.local, "listening");
            opened.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        }
        sockets.push((Socket::Listen(place), opened.fd));
    }
    sockets.push((Socket::Dial, broker.open_socket(UdpSocket::Dial)?.fd));
    Ok(sockets)
}

/// MTU of the WAN: that of the interface, or of the way to the first endpoint.
fn wan_mtu(config: &Config) -> u16 {
    let mtu = probe_mtu(config).unwrap_or_else(|| u32::from(MTU_DEFAULT));
    u16::try_from(mtu).unwrap_or(MTU_MAX).clamp(1280, MTU_MAX)
}

fn probe_mtu(config: &Config) -> Option<u32> {
    let mut netlink = Netlink::open().ok()?;
    if let Some(interface) = &config.transport.interface {
        let index = netlink.index_of(interface).ok()?;
        return netlink.mtu_of(index).ok();
    }
    let endpoint = config.peers.iter().flat_map(|peer| &peer.endpoints).next()?;
    let path = netlink.path_to(endpoint.ip(), config.transport.mark).ok()?;
    path.mtu.or_else(|| netlink.mtu_of(path.interface).ok())
}
