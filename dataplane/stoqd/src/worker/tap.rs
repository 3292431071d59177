//! Copies of packets for `stoqctl capture`: AF_XDP and the tunnel's inside are invisible to tcpdump.

use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use crossbeam::channel::Sender;
use stoq::Transmit;
use stoq_port::RxMeta;

/// Where packets are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Inner packets, between device and links.
    Tunnel,
    /// UDP payloads, between links and port.
    Wire,
}

/// One copied packet.
#[derive(Debug)]
pub struct Copied {
    /// When it passed.
    pub at: SystemTime,
    /// Its addresses, for a UDP payload: source, destination.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// Its contents.
    pub contents: Vec<u8>,
}

/// Copies packets to a bounded channel until its reader is gone. A packet that finds it full is left
/// out: a capture must not hold packets up.
#[derive(Debug)]
pub struct Tap {
    /// Where to copy.
    pub point: Point,
    /// Who reads.
    pub to: Sender<Copied>,
}

impl Tap {
    fn copy(&self, contents: &[u8], addresses: Option<(SocketAddr, SocketAddr)>) {
        let contents = contents.to_vec();
        let _full = self.to.try_send(Copied { at: SystemTime::now(), addresses, contents });
    }

    pub(super) fn inner(&self, packet: &[u8]) {
        if self.point == Point::Tunnel {
            self.copy(packet, None);
        }
    }

    pub(super) fn received(&self, datagram: &[u8], meta: &RxMeta) {
        if self.point == Point::Wire {
            self.copy(datagram, Some((meta.from, meta.to)));
        }
    }

    pub(super) fn sent(&self, datagram: &[u8], transmit: &Transmit) {
        if self.point == Point::Wire {
            let any: IpAddr = if transmit.to.is_ipv4() {
                std::net::Ipv4Addr::UNSPECIFIED.into()
            } else {
                std::net::Ipv6Addr::UNSPECIFIED.into()
            };
            let from = SocketAddr::new(transmit.from.unwrap_or(any), 0);
            self.copy(datagram, Some((from, transmit.to)));
        }
    }
}
