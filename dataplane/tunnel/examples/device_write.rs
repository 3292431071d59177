//! What a write to the TUN device costs for each packet, in three ways: every packet by itself,
//! a super-packet gathered from where its pieces lie, and a super-packet copied together first.
//! Needs root: `cargo run --release -p stoq-tunnel --example device_write`. It makes a network
//! namespace of its own; the packets are for nobody, so the kernel takes them, looks the route up
//! and drops them.

use std::error::Error;
use std::io::IoSlice;
use std::process::Command;
use std::time::Instant;

use nix::sched::{CloneFlags, unshare};
use stoq_tunnel::device::{Offloads, Queue, Sink, create};
use stoq_tunnel::vnet::{HEADER, Partial, Super, VnetHeader};

/// Pieces of one super-packet: one GSO train.
const TRAIN: usize = 44;
/// Payload of each in bytes.
const SIZE: usize = 1_360;
const HEADERS: usize = 40;
const SAMPLES: usize = 31;
const RUNS: usize = 100;

fn ip(arguments: &str) -> Result<(), Box<dyn Error>> {
    let done = Command::new("ip").args(arguments.split_whitespace()).status()?;
    if done.success() { Ok(()) } else { Err(format!("ip {arguments} failed").into()) }
}

/// IPv4 and TCP headers for `payload` bytes, with a partial checksum that is never looked at.
fn headers(payload: usize) -> [u8; HEADERS] {
    let mut bytes = [0; HEADERS];
    bytes[0] = 0x45;
    bytes[2..4].copy_from_slice(&((HEADERS + payload) as u16).to_be_bytes());
    bytes[6..10].copy_from_slice(&[0x40, 0, 64, 6]);
    bytes[12..20].copy_from_slice(&[10, 92, 0, 2, 10, 93, 0, 1]);
    bytes[20..24].copy_from_slice(&[0x9c, 0x40, 0x14, 0x51]);
    bytes[32..34].copy_from_slice(&[0x50, 0x10]);
    let sum = stoq_checksum::Sum::default().bytes(&bytes[..20]).finish();
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn measure(name: &str, mut run: impl FnMut() -> std::io::Result<()>) -> std::io::Result<()> {
    let mut samples = Vec::new();
    for _ in 0..SAMPLES {
        let start = Instant::now();
        for _ in 0..RUNS {
            run()?;
        }
        samples.push(start.elapsed().as_nanos() as f64 / (RUNS * TRAIN) as f64);
    }
    samples.sort_by(f64::total_cmp);
    println!("{name:<44}{:>8.1} ns", samples[SAMPLES / 2]);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let made = create("tun0", 1, Offloads::ALL)?;
    let granted = made.granted;
    let fd = made.queues.into_iter().next().ok_or("no queue")?;
    let mut queue = Queue::from_fd(fd, granted);
    ip("link set tun0 mtu 1400 up")?;
    ip("addr add 10.92.0.1/24 dev tun0")?;

    // As they come from links: each in a buffer of its own, with its headers in front.
    let packets: Vec<Vec<u8>> =
        (0..TRAIN).map(|i| [headers(SIZE).as_slice(), &[i as u8; SIZE]].concat()).collect();
    let kind = stoq_tunnel::vnet::Gso::Tcp4;
    let gso = Super { kind, size: SIZE as u16, headers: HEADERS as u16, ecn: false };
    let vnet = VnetHeader { gso: Some(gso), partial: Some(Partial { start: 20, offset: 16 }) };
    let front = [vnet.encode().as_slice(), &headers(TRAIN * SIZE)].concat();

    measure("each packet by itself", || {
        packets.iter().try_for_each(|packet| queue.write_packet(packet))
    })?;
    measure("a super-packet gathered", || {
        let mut parts = [IoSlice::new(&[]); TRAIN + 1];
        parts[0] = IoSlice::new(&front);
        for (part, packet) in parts[1..].iter_mut().zip(&packets) {
            *part = IoSlice::new(&packet[HEADERS..]);
        }
        queue.write(&parts)
    })?;
    let mut whole = Vec::with_capacity(HEADER + usize::from(u16::MAX));
    measure("a super-packet copied together", || {
        whole.clear();
        whole.extend_from_slice(&front);
        packets.iter().for_each(|packet| whole.extend_from_slice(&packet[HEADERS..]));
        queue.write(&[IoSlice::new(&whole)])
    })?;
    Ok(())
}
