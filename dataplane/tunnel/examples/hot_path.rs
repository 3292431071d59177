//! What the tunnel costs for each packet, in memory: `cargo run --release -p stoq-tunnel --example
//! hot_path`. Figures of one run are comparable with each other, and with nothing else.

use std::hint::black_box;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use stoq_buffer::PacketBuf;
use stoq_checksum::Sum;
use stoq_telemetry::Drops;
use stoq_tunnel::coalesce::Coalescer;
use stoq_tunnel::device::{Offloads, Sink};
use stoq_tunnel::forward::{Forwarder, Prefix, Table};
use stoq_tunnel::packet::{FlowHasher, View, parse};
use stoq_tunnel::segment::Plan;
use stoq_tunnel::vnet::{Gso, Partial, Super, VnetHeader};

/// Pieces of one super-packet: one GSO train.
const TRAIN: usize = 44;
/// Inner packet size in bytes.
const SIZE: usize = 1_400;
/// Samples of each figure; the lowest is printed, for other work on the machine only adds.
const SAMPLES: usize = 400;

/// Takes everything and keeps nothing.
struct Nowhere;

impl Sink for Nowhere {
    fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        black_box(parts);
        Ok(())
    }
}

/// Prints the lowest time of one of the `per_run` units that `run` does.
fn measure(name: &str, per_run: usize, mut run: impl FnMut()) {
    const RUNS: usize = 30;
    let lowest = (0..SAMPLES)
        .map(|_| {
            let start = Instant::now();
            (0..RUNS).for_each(|_| run());
            start.elapsed().as_nanos() as f64 / (RUNS * per_run) as f64
        })
        .fold(f64::INFINITY, f64::min);
    println!("{name:<44}{lowest:>8.1} ns");
}

/// A TCP super-packet over IPv4 or IPv6, as the device hands it over.
fn super_packet(ipv6: bool) -> (VnetHeader, Vec<u8>) {
    let network = if ipv6 { 40 } else { 20 };
    let headers = network + 32;
    let payload = SIZE - headers;
    let len = headers + TRAIN * payload;
    let mut packet: Vec<u8> = (0..len).map(|i| (i * 31) as u8).collect();
    packet[..headers].fill(0);
    if ipv6 {
        packet[0] = 0x60;
        packet[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
        packet[6..8].copy_from_slice(&[6, 64]);
        packet[23] = 1;
        packet[39] = 2;
    } else {
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        packet[6..10].copy_from_slice(&[0x40, 0, 64, 6]);
        packet[12..20].copy_from_slice(&[10, 1, 0, 1, 10, 2, 0, 1]);
    }
    packet[network..network + 4].copy_from_slice(&[0x9c, 0x40, 0x14, 0x51]);
    packet[network + 12..network + 14].copy_from_slice(&[0x80, 0x10]);
    let kind = if ipv6 { Gso::Tcp6 } else { Gso::Tcp4 };
    let gso = Super { kind, size: payload as u16, headers: headers as u16, ecn: false };
    let partial = Partial { start: network as u16, offset: 16 };
    (VnetHeader { gso: Some(gso), partial: Some(partial) }, packet)
}

fn segmentation(name: &str, ipv6: bool) -> Option<Vec<PacketBuf>> {
    let (header, packet) = super_packet(ipv6);
    let view = parse(&packet).ok()?;
    let mut out = Vec::with_capacity(TRAIN);
    measure(name, TRAIN, || {
        out.clear();
        if let Ok(plan) = Plan::new(black_box(header), &packet, &view) {
            plan.emit(|piece| out.push(piece));
        }
    });
    Some(out)
}

/// Each packet is copied just before, as it is when a link delivers it: the copy is part of the
/// figure.
fn coalescing(name: &str, pieces: &[PacketBuf], offloads: Offloads) {
    let mut coalescer = Coalescer::new(offloads);
    let drops = Drops::default();
    measure(name, pieces.len(), || {
        for piece in pieces {
            let packet = PacketBuf::from_slice(piece.as_slice());
            let Ok(view) = parse(packet.as_slice()) else { continue };
            coalescer.push(packet, &view, &mut Nowhere, &drops);
        }
        coalescer.flush(&mut Nowhere, &drops);
    });
}

fn lookups(count: u32) {
    let v4 = (0..count).filter_map(|i| {
        let address =
            Ipv4Addr::from(0x0a00_0000 | (i.wrapping_mul(2_654_435_761) >> 8 & 0xff_ff00));
        Prefix::new(address.into(), 24).ok().map(|prefix| (prefix, prefix.length().into()))
    });
    let v6 = (0..count).filter_map(|i| {
        let address = Ipv6Addr::from(0xfd48_u128 << 112 | u128::from(i) << 64);
        Prefix::new(address.into(), 64).ok().map(|prefix| (prefix, i))
    });
    let Ok(table) = Table::<u32>::build(v4.chain(v6)) else { return };
    let table = Arc::new(table);
    let inside = |i: u32| -> [IpAddr; 2] {
        let spread = i.wrapping_mul(2_654_435_761);
        let v6 = 0xfd48_u128 << 112 | u128::from(spread % count) << 64 | 9;
        [Ipv4Addr::from(0x0a00_0000 | spread >> 8).into(), Ipv6Addr::from(v6).into()]
    };
    for (family, name) in ["IPv4", "IPv6"].iter().enumerate() {
        let addresses: Vec<IpAddr> = (0..1_024).map(|i| inside(i)[family]).collect();
        measure(&format!("look up {name} in {} networks", table.len()), 1_024, || {
            let found = addresses.iter().filter(|address| table.lookup(**address).is_some());
            black_box(found.count());
        });
        let mut forwarder = Forwarder::new(Arc::clone(&table));
        measure(&format!("look up one {name} address again"), 1, || {
            black_box(forwarder.lookup(black_box(addresses[0])));
        });
    }
}

fn main() {
    let data = vec![0x5a; SIZE];
    measure("copy 1400 bytes into a pooled buffer", 1, || {
        black_box(PacketBuf::from_slice(black_box(&data)));
    });
    measure("sum 1400 bytes", 1, || {
        black_box(Sum::default().bytes(black_box(&data)));
    });
    measure("copy a train into as many pooled buffers", TRAIN, || {
        let copies: [PacketBuf; TRAIN] =
            std::array::from_fn(|_| PacketBuf::from_slice(black_box(&data)));
        black_box(copies);
    });
    let hasher = FlowHasher::new(&[7; 16]);
    let mut views: Vec<View> = Vec::new();
    for (ipv6, name) in [(false, "IPv4"), (true, "IPv6")] {
        let Some(pieces) = segmentation(&format!("segment TCP over {name}"), ipv6) else {
            continue;
        };
        let first = pieces[0].as_slice();
        measure(&format!("parse {name}"), 1, || {
            let _ = black_box(parse(black_box(first)));
        });
        views.extend(parse(first).ok());
        coalescing(&format!("copy, parse, coalesce TCP over {name}"), &pieces, Offloads::ALL);
        coalescing(&format!("copy, parse, pass on TCP over {name}"), &pieces, Offloads::NONE);
    }
    for view in &views {
        measure("hash of a flow", 1, || {
            black_box(hasher.hash(black_box(view)));
        });
    }
    [100, 10_000].into_iter().for_each(lookups);
}
