//! Attaches the XDP program by the broker and opens a lane on each queue of the interface.

use std::os::fd::AsFd;
use std::path::Path;

use stoq_port::xdp::{Lane, LaneSpec};
use stoq_port::{BypassMode, PortError};

use crate::broker::{Broker, BrokerError, ConnectionIds};
use crate::netlink::{Netlink, NetlinkError};

/// Most queues that get a lane; the XDP program has places for as many. What arrives on another goes
/// through the kernel.
const QUEUES_MAX: u32 = 64;

/// Largest MTU that a lane is made for: jumbo frames.
const MTU_MAX: u32 = 9216;

/// Why packets cannot go past the kernel.
#[derive(Debug, thiserror::Error)]
pub(in crate::daemon) enum AttachError {
    /// The broker or the kernel refused the program or its sockets.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A lane could not be opened.
    #[error(transparent)]
    Lane(#[from] PortError),
    /// The interface cannot be looked at.
    #[error(transparent)]
    Interface(#[from] NetlinkError),
}

/// An attached program with its lanes.
pub(in crate::daemon) struct Attachment {
    /// Index of the interface.
    pub interface: u32,
    /// MTU that the lanes are made for, in bytes.
    pub mtu: u32,
    /// How it works, as in the status.
    pub mode: String,
    /// The lanes of each worker; queue q is worker q's, modulo their number.
    pub lanes: Vec<Vec<Lane>>,
}

/// Attaches the program to the configured interface, with a lane for each queue. What was attached
/// before is detached; its lanes must be on their way out.
///
/// # Errors
/// When a part is refused; then nothing stays attached.
pub(in crate::daemon) fn attach(
    broker: &Broker,
    ids: &ConnectionIds,
    workers: usize,
) -> Result<Attachment, AttachError> {
    let attached = broker.attach_xdp(ids.clone())?;
    open_lanes(broker, attached.interface, attached.native, workers).inspect_err(|_| {
        // A broker that is gone has taken the program with it.
        let _gone = broker.detach_xdp();
    })
}

fn open_lanes(
    broker: &Broker,
    interface: u32,
    native: bool,
    workers: usize,
) -> Result<Attachment, AttachError> {
    let link = Netlink::open()?.interface(interface)?;
    let mtu = u16::try_from(link.mtu.min(MTU_MAX)).unwrap_or(u16::MAX);
    let mut lanes: Vec<Vec<Lane>> = Vec::new();
    lanes.resize_with(workers.max(1), Vec::new);
    for queue in 0..queues(&link.name).clamp(1, QUEUES_MAX) {
        let spec = LaneSpec { interface, queue, mtu, native };
        let lane = Lane::open::<AttachError>(spec, |memory| Ok(broker.open_xdp_socket(memory)?))?;
        let handle = lane.as_fd().try_clone_to_owned().map_err(BrokerError::Gone)?;
        broker.steer_xdp(queue, handle)?;
        let worker = queue as usize % lanes.len();
        lanes[worker].push(lane);
    }
    let zero_copy = lanes.iter().flatten().all(Lane::zero_copy);
    let mode = BypassMode { native, zero_copy }.to_string();
    Ok(Attachment { interface, mtu: link.mtu, mode, lanes })
}

/// Receive queues of an interface (Documentation/ABI/testing/sysfs-class-net-queues).
fn queues(name: &str) -> u32 {
    let folder = Path::new("/sys/class/net").join(name).join("queues");
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let receive = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("rx-"));
    u32::try_from(receive.count()).unwrap_or(QUEUES_MAX)
}
