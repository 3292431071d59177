//! What a port remembers of where its packets go: headers ready to be written, or the kernel's way.
//!
//! Owned by one port. Emptied whenever the shared hops change.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::frame::Template;
use super::hops::{Destination, Hop, Hops, NextHops};
use crate::{Socket, TxMeta};

/// Ways that a port remembers: every connection's, and some for strangers who are sent a Retry.
/// When they are too many all are forgotten, and those in use come back with their next packet.
const ROUTES_MAX: usize = 4096;

/// Packets to an unknown destination that go through the kernel before its hop is asked for: a
/// flood from made-up addresses gets one answer each and must not keep the resolver busy.
const PATIENCE: u8 = 4;

/// How packets of one kind leave.
#[derive(Debug)]
pub(super) enum Way {
    /// Through the lane, with these headers.
    Lane(Box<Template>, Arc<Hop>),
    /// Through the kernel: no hop known yet, and so many packets were sent that way.
    Unknown(u8),
    /// Through the kernel: so the resolver said, or it was just asked.
    Kernel,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Routes {
    shared: Arc<NextHops>,
    hops: Arc<Hops>,
    version: u64,
    ways: Vec<(TxMeta, Way)>,
    places: HashMap<TxMeta, usize>,
    /// The place of the last packet's way: packets to one peer come in bursts.
    last: usize,
}

impl Routes {
    pub(super) fn new(shared: Arc<NextHops>) -> Self {
        let (version, hops) = (shared.version(), shared.hops());
        let (ways, places) = (Vec::new(), HashMap::new());
        Self { shared, hops, version, ways, places, last: 0 }
    }

    /// Takes over what the resolver has published since.
    pub(super) fn refresh(&mut self) {
        let version = self.shared.version();
        if version != self.version {
            self.version = version;
            self.hops = self.shared.hops();
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.ways.clear();
        self.places.clear();
        self.last = 0;
    }

    /// The way of a packet that leaves from the port of the socket it names, which is `port`.
    pub(super) fn way(&mut self, meta: &TxMeta, port: u16) -> &Way {
        if self.ways.get(self.last).is_none_or(|(known, _)| known != meta) {
            self.last = self.place(meta, port);
        }
        let Self { shared, ways, last, .. } = self;
        let way = &mut ways[*last].1;
        if let Way::Unknown(sent) = way {
            *sent += 1;
            if *sent > PATIENCE && shared.ask(destination(meta)) {
                *way = Way::Kernel;
            }
        }
        way
    }

    fn place(&mut self, meta: &TxMeta, port: u16) -> usize {
        if let Some(place) = self.places.get(meta) {
            return *place;
        }
        if self.ways.len() >= ROUTES_MAX {
            self.forget();
        }
        self.ways.push((*meta, find(&self.hops, meta, port)));
        self.places.insert(*meta, self.ways.len() - 1);
        self.ways.len() - 1
    }
}

fn destination(meta: &TxMeta) -> Destination {
    Destination { to: meta.to.ip(), from: meta.from }
}

fn find(hops: &Hops, meta: &TxMeta, port: u16) -> Way {
    match hops.get(&destination(meta)) {
        None => Way::Unknown(0),
        Some(None) => Way::Kernel,
        Some(Some(hop)) => {
            let from = SocketAddr::new(meta.from.unwrap_or(hop.source), port);
            let template = Template::new(&hop.link, from, meta.to, hop.mtu);
            Way::Lane(Box::new(template), Arc::clone(hop))
        }
    }
}

/// The local addresses of a worker's sockets, to tell which one a packet is for.
#[derive(Debug)]
pub(super) struct Locals(pub(super) Vec<(Socket, SocketAddr)>);

impl Locals {
    /// The socket that would have received a packet to this address. What is for none of ours is for
    /// another worker's own port, for the XDP program passes only STOQ's: its connection ID says whose.
    pub(super) fn socket(&self, to: SocketAddr) -> Socket {
        let hears = |local: &SocketAddr| {
            let all = match local.ip() {
                IpAddr::V6(ip) => ip.is_unspecified(),
                IpAddr::V4(ip) => ip.is_unspecified() && to.is_ipv4(),
            };
            local.port() == to.port() && (all || local.ip() == to.ip())
        };
        let found = self.0.iter().find(|(_, local)| hears(local));
        found.map_or(Socket::Dial, |(socket, _)| *socket)
    }

    /// The port that a socket sends from.
    pub(super) fn port(&self, socket: Socket) -> Option<u16> {
        self.0.iter().find(|(id, _)| *id == socket).map(|(_, local)| local.port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdp::Link;

    fn meta(to: &str) -> TxMeta {
        TxMeta { to: to.parse().unwrap(), from: None, socket: Socket::Dial }
    }

    fn hop() -> Arc<Hop> {
        let link = Link { source: [1; 6], destination: [2; 6], vlan: None };
        Arc::new(Hop::new(link, "10.0.0.1".parse().unwrap(), 1500, false))
    }

    #[test]
    fn an_unknown_destination_is_asked_for_once_and_after_some_packets() {
        let shared = Arc::new(NextHops::new().unwrap());
        let mut routes = Routes::new(Arc::clone(&shared));
        for _ in 0..PATIENCE {
            assert!(matches!(routes.way(&meta("10.0.0.2:1"), 9), Way::Unknown(_)));
        }
        assert_eq!(shared.wanted(), None);
        for _ in 0..3 {
            assert!(matches!(routes.way(&meta("10.0.0.2:1"), 9), Way::Kernel));
        }
        assert_eq!(shared.wanted(), Some(destination(&meta("10.0.0.2:1"))));
        assert_eq!(shared.wanted(), None);
    }

    #[test]
    fn what_is_published_is_taken_over() {
        let shared = Arc::new(NextHops::new().unwrap());
        let mut routes = Routes::new(Arc::clone(&shared));
        let to = meta("10.0.0.2:1");
        shared.publish(Hops::from([(destination(&to), Some(hop()))]));
        routes.refresh();
        assert!(matches!(routes.way(&to, 9), Way::Lane(..)));
        shared.publish(Hops::from([(destination(&to), None)]));
        routes.refresh();
        assert!(matches!(routes.way(&to, 9), Way::Kernel));
    }

    #[test]
    fn a_flood_of_destinations_is_forgotten_and_asks_for_nothing() {
        let shared = Arc::new(NextHops::new().unwrap());
        let mut routes = Routes::new(Arc::clone(&shared));
        for n in 0..3 * ROUTES_MAX as u32 {
            let to = SocketAddr::new(IpAddr::V4(n.into()), 1);
            routes.way(&TxMeta { to, from: None, socket: Socket::Dial }, 9);
        }
        assert!(routes.ways.len() <= ROUTES_MAX);
        assert_eq!(shared.wanted(), None);
    }

    #[test]
    fn a_packet_is_for_the_socket_with_its_port_and_address() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let locals = Locals(vec![
            (Socket::Listen(0), at("10.0.0.1:9292")),
            (Socket::Listen(1), at("0.0.0.0:9293")),
            (Socket::Dial, at("[::]:40000")),
        ]);
        assert_eq!(locals.socket(at("10.0.0.1:9292")), Socket::Listen(0));
        assert_eq!(locals.socket(at("10.0.0.2:9293")), Socket::Listen(1));
        assert_eq!(locals.socket(at("[fd00::1]:9293")), Socket::Dial);
        assert_eq!(locals.socket(at("10.0.0.2:40000")), Socket::Dial);
        assert_eq!(locals.socket(at("[fd00::1]:40000")), Socket::Dial);
        assert_eq!(locals.socket(at("[fd00::1]:50000")), Socket::Dial);
    }
}
