//! Copies of packets for `stoqctl capture`: AF_XDP and the tunnel's inside are invisible to tcpdump.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
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
    /// Where packets of a remote address arrive: the kernel chooses where those to it leave from.
    locals: HashMap<SocketAddr, SocketAddr>,
}

/// Remote addresses that are remembered at most; a capture of more shows some without the local one.
const REMOTES_MAX: usize = 1024;

impl Tap {
    /// A tap at `point` that copies to `to`.
    #[must_use]
    pub fn new(point: Point, to: Sender<Copied>) -> Self {
        Self { point, to, locals: HashMap::new() }
    }

    fn copy(&self, contents: &[u8], addresses: Option<(SocketAddr, SocketAddr)>) {
        let contents = contents.to_vec();
        let _full = self.to.try_send(Copied { at: SystemTime::now(), addresses, contents });
    }

    pub(super) fn inner(&self, packet: &[u8]) {
        if self.point == Point::Tunnel {
            self.copy(packet, None);
        }
    }

    pub(super) fn received(&mut self, datagram: &[u8], meta: &RxMeta) {
        if self.point == Point::Wire {
            if self.locals.len() < REMOTES_MAX || self.locals.contains_key(&meta.from) {
                self.locals.insert(meta.from, meta.to);
            }
            self.copy(datagram, Some((meta.from, meta.to)));
        }
    }

    pub(super) fn sent(&self, datagram: &[u8], transmit: &Transmit) {
        if self.point == Point::Wire {
            self.copy(datagram, Some((self.source(transmit), transmit.to)));
        }
    }

    /// Where a packet leaves from, as far as it is known: unspecified until an answer has come.
    fn source(&self, transmit: &Transmit) -> SocketAddr {
        let any: IpAddr = match transmit.to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let known = self.locals.get(&transmit.to).copied();
        let known = known.unwrap_or(SocketAddr::new(any, 0));
        SocketAddr::new(transmit.from.unwrap_or(known.ip()), known.port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stoq::Via;
    use stoq_port::Socket;

    #[test]
    fn a_sent_packet_shows_the_address_that_answers_come_to() {
        let (to, copies) = crossbeam::channel::unbounded();
        let mut tap = Tap::new(Point::Wire, to);
        let [local, remote] =
            ["192.0.2.1:40000", "192.0.2.2:9292"].map(|text| text.parse::<SocketAddr>().unwrap());
        let transmit = Transmit { len: 1, to: remote, from: None, via: Via::Dial };
        tap.sent(&[1], &transmit);
        tap.received(&[2], &RxMeta { from: remote, to: local, socket: Socket::Dial, ecn: 0 });
        tap.sent(&[3], &transmit);
        let seen: Vec<_> = copies.try_iter().map(|copied| copied.addresses.unwrap()).collect();
        let unknown = "0.0.0.0:0".parse().unwrap();
        assert_eq!(seen, [(unknown, remote), (remote, local), (local, remote)]);
    }
}
