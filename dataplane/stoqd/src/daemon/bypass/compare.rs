//! Tries every port on the real interface: what it costs to send a packet there.
//!
//! The packets go to a neighbour that has our own address on the link, so they leave the interface and
//! come no further than the first switch. Receiving cannot be tried without somebody who sends.

use std::net::{SocketAddr, SocketAddrV6};
use std::sync::Arc;

use stoq_port::probe::sending_costs;
use stoq_port::socket::{SocketSpec, open};
use stoq_port::xdp::{Destination, Hop, Hops, Link, NextHops};
use stoq_port::{Port, PortError, PortKind, PortOptions, Sender, Socket};
use stoq_telemetry::Drops;

use super::Attachment;
use crate::broker::{Broker, MIRROR};
use crate::netlink::Netlink;

/// The port that the packets are for: discard (RFC 863).
const DISCARD: u16 = 9;

/// What a packet costs, for each port that could send, in nanoseconds of processor time. Gives the
/// attachment back, as it was.
///
/// # Errors
/// Why it cannot be tried; nothing is attached then.
pub(in crate::daemon) fn compare(
    broker: &Broker,
    options: &PortOptions,
    attachment: Attachment,
) -> Result<(Attachment, Vec<(PortKind, f64)>), String> {
    let compared = broker.add_mirror().map_err(|error| error.to_string()).and_then(|()| {
        let compared = try_ports(options, attachment);
        broker.remove_mirror().map_err(|error| error.to_string())?;
        compared
    });
    compared.map_err(|reason| {
        // A broker that is gone has taken the program with it.
        let _gone = broker.detach_xdp();
        format!("cannot be tried on the interface: {reason}")
    })
}

fn try_ports(
    options: &PortOptions,
    mut attachment: Attachment,
) -> Result<(Attachment, Vec<(PortKind, f64)>), String> {
    let options = PortOptions { sender: Sender::Inline, ..options.clone() };
    let to = SocketAddrV6::new(MIRROR, DISCARD, 0, attachment.interface);
    let mut kinds = Vec::new();
    let mut ports = Vec::new();
    for kind in [PortKind::Uring, PortKind::Mio] {
        if let Ok(port) = socket_port(kind, &options) {
            kinds.push(kind);
            ports.push(port);
        }
    }
    let lanes = attachment.lanes.first_mut().map(std::mem::take).unwrap_or_default();
    let xdp = xdp_port(&options, attachment.interface).and_then(|mut port| {
        port.plug(lanes).map_err(|error| error.to_string())?;
        Ok(port)
    })?;
    kinds.push(PortKind::Xdp);
    ports.push(xdp);
    let costs = sending_costs(&mut ports, SocketAddr::V6(to));
    let lanes = ports.last_mut().map(|port| port.plug(Vec::new()));
    let lanes = lanes.and_then(Result::ok).unwrap_or_default();
    if let Some(first) = attachment.lanes.first_mut() {
        *first = lanes;
    }
    let costs = kinds.into_iter().zip(costs).filter_map(|(kind, cost)| match cost {
        Ok(ns) => Some((kind, ns)),
        Err(reason) => {
            tracing::info!(port = %kind, "{reason}");
            None
        }
    });
    Ok((attachment, costs.collect()))
}

fn sockets() -> Result<Vec<(Socket, std::os::fd::OwnedFd)>, PortError> {
    let opened = open(&SocketSpec::new(([0_u16; 8], 0).into()))?;
    Ok(vec![(Socket::Dial, opened.fd)])
}

fn socket_port(kind: PortKind, options: &PortOptions) -> Result<Box<dyn Port>, PortError> {
    stoq_port::open(kind, sockets()?, options, Arc::new(Drops::default()))
}

/// An xdp port that knows the way to the mirror.
fn xdp_port(options: &PortOptions, interface: u32) -> Result<Box<dyn Port>, String> {
    let link = Netlink::open().and_then(|mut netlink| netlink.interface(interface));
    let link = link.map_err(|error| error.to_string())?;
    let mac = link.mac.ok_or("it is no Ethernet")?;
    let hops = NextHops::new().map_err(|error| error.to_string())?;
    let mtu = u16::try_from(link.mtu).unwrap_or(u16::MAX);
    let link = Link { source: mac, destination: mac, vlan: None };
    // The address does not matter: the frame comes no further than the first switch.
    let hop = Hop::new(link, MIRROR.into(), mtu, false);
    let destination = Destination { to: MIRROR.into(), from: None };
    hops.publish(Hops::from([(destination, Some(Arc::new(hop)))]));
    let sockets = sockets().map_err(|error| error.to_string())?;
    let drops = Arc::new(Drops::default());
    stoq_port::open_xdp(PortKind::Mio, sockets, options, Arc::new(hops), drops)
        .map_err(|error| error.to_string())
}
