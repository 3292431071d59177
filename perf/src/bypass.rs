//! A lane past the kernel without a daemon: for the ends of a measurement, which open a port as a worker
//! does but have no broker. They run as root, so they attach and open by themselves.
//!
//! [`Bypass`] owns the XDP program, which goes with it. Used by the benchmarks.

use crate::{Error, Result};
use nix::net::if_::if_nametoindex;
use std::fs;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;
use stoq_port::PortError;
use stoq_port::xdp::{Lane, LaneSpec};
use stoq_xdp::{Attached, Program, Rules, Settings};

/// The queue that a lane is on: a veth has one.
const QUEUE: u32 = 0;

/// The XDP program on an interface, without rules: all packets to the given ports go to the lane.
pub struct Bypass {
    program: Program,
    interface: String,
}

impl Bypass {
    /// Attaches the program; packets to these UDP ports and addresses go past the kernel.
    ///
    /// # Errors
    /// [`Error::Io`] with what the kernel refused.
    pub fn attach(interface: &str, ports: &[u16], addresses: &[IpAddr]) -> Result<Self> {
        let settings = Settings {
            ports: ports.to_vec(),
            addresses: addresses.to_vec(),
            rules: Rules::OFF,
            ..Settings::default()
        };
        let program = Program::attach(interface, &settings).map_err(refused("attach"))?;
        Ok(Self { program, interface: interface.to_owned() })
    }

    /// Opens a lane on the interface's queue and steers that queue's packets to it.
    ///
    /// # Errors
    /// [`Error::Io`] with what the kernel refused.
    pub fn open_lane(&mut self) -> Result<Lane> {
        let native = self.program.attached() == Attached::Native;
        let lane = open_lane(&self.interface, native)?;
        self.program.set_socket(QUEUE, lane.as_fd()).map_err(refused("steer"))?;
        Ok(lane)
    }
}

/// Opens a lane on an interface. Without a program there it only sends.
///
/// # Errors
/// [`Error::Io`] with what the kernel refused.
pub fn open_lane(interface: &str, native: bool) -> Result<Lane> {
    let index = if_nametoindex(interface).map_err(Error::errno(format!("find {interface}")))?;
    let mtu = read(interface, "mtu")?.parse().map_err(refused("read the MTU"))?;
    let spec = LaneSpec { interface: index, queue: QUEUE, mtu, native };
    let open = |memory: &stoq_port::xdp::Memory| {
        memory.open_socket().map_err(|source| PortError::Open {
            port: stoq_port::PortKind::Xdp,
            what: "socket",
            source,
            advice: "run it as root",
        })
    };
    Lane::open(spec, open).map_err(refused("open a lane"))
}

/// The hardware address of an interface of this namespace.
///
/// # Errors
/// [`Error::Io`] when there is none.
pub fn hardware_address(interface: &str) -> Result<[u8; 6]> {
    let text = read(interface, "address")?;
    parse_address(&text).ok_or_else(|| Error::Output {
        what: format!("the hardware address of {interface}"),
        expected: "six hexadecimal bytes".to_owned(),
        got: text,
    })
}

/// Six bytes in hexadecimal with colons between them.
#[must_use]
pub fn parse_address(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> =
        text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    bytes?.try_into().ok()
}

/// Whether the interface's packets are received by threads of their own (`/sys`, threaded NAPI).
///
/// # Errors
/// [`Error::Io`] when the kernel refuses it.
pub fn set_threaded(interface: &str, is_threaded: bool) -> Result<()> {
    let path = Path::new("/sys/class/net").join(interface).join("threaded");
    let word = if is_threaded { "1" } else { "0" };
    fs::write(&path, word).map_err(Error::io(format!("write {word} to {}", path.display())))
}

fn read(interface: &str, file: &str) -> Result<String> {
    let path = Path::new("/sys/class/net").join(interface).join(file);
    let text = fs::read_to_string(&path);
    let text = text.map_err(Error::io(format!("read {}", path.display())))?;
    Ok(text.trim().to_owned())
}

fn refused<E>(what: &str) -> impl FnOnce(E) -> Error
where
    E: std::error::Error + Send + Sync + 'static,
{
    let what = what.to_owned();
    move |error| Error::Io { what, source: std::io::Error::other(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses() {
        assert_eq!(parse_address("02:00:00:00:00:0a\n"), Some([2, 0, 0, 0, 0, 10]));
        assert_eq!(parse_address("02:00:00:00:00"), None);
        assert_eq!(parse_address("02:00:00:00:00:xx"), None);
    }
}
