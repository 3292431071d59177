//! The tunnel's end at the site: IP packets between the kernel's TUN device and the links.
//!
//! What it owns: the device and its queues, the super-packets that the kernel hands over whole
//! (segmented on the way out, coalesced on the way in), the forwarding table, and the answers that
//! a router owes (ICMP "too big", the MSS of TCP). Workers of `stoqd` call it; it knows nothing of
//! the protocol that carries the packets.
//!
//! ```text
//! site ─▶ device::Queue ─▶ packet::parse ─▶ forward::Table ─▶ slice, or segment ─▶ link
//! site ◀─ device::Queue ◀─ assemble, coalesce ◀─ forward::Table (reverse path) ◀─ link
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

pub mod assemble;
pub mod coalesce;
pub mod device;
pub mod forward;
mod header;
pub mod icmp;
pub mod mss;
pub mod packet;
pub mod segment;
pub mod slice;
pub mod vnet;

#[cfg(test)]
mod sample;
