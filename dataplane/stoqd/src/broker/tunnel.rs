//! The broker's requests about the tunnel device: made, or taken over from the process before.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use stoq_tunnel::device::{self, Created, DeviceError};

use super::message::Reply;
use super::policy::TunnelPolicy;
use super::server::{Answer, Server, lacking, text};
use crate::inherit::Kind;
use crate::manager;
use crate::netlink::{self, LinkSettings};

/// How long the service manager may take to give up a device that it kept.
const GIVEN_UP: Duration = Duration::from_secs(5);

/// How often is looked whether it has.
const LOOK: Duration = Duration::from_millis(20);

impl Server {
    pub(super) fn create_tunnel(&mut self, queues: u16) -> Answer {
        let tunnel = self.policy.tunnel()?.clone();
        let left = std::mem::take(&mut self.left);
        let is_left = !left.is_empty();
        let adopted = is_left.then(|| adopt(&tunnel, left, queues.into()));
        let (created, anew) = match adopted {
            Some(Ok(adopted)) => (adopted, false),
            // The device is in use there.
            Some(Err(error)) if self.has_elder => return Err(text(error)),
            Some(Err(_)) => (instead(&tunnel, queues.into()).map_err(lacking)?, true),
            None => (create(&tunnel, queues.into()).map_err(lacking)?, true),
        };
        if anew && !self.routes.is_empty() {
            // They went with the device that they led to.
            self.routes.clear();
            self.remove_stale();
        }
        let netlink = self.netlink()?;
        let index = netlink.index_of(&tunnel.device).map_err(text)?;
        // See the constant: what comes from a site must not be cut in the kernel.
        let gso_max_size = (!netlink::forwards()).then_some(device::GSO_MAX_SIZE);
        let settings = LinkSettings { gso_max_size, ..LinkSettings::default() };
        netlink.set_link(index, settings).map_err(text)?;
        for address in &tunnel.addresses {
            netlink.add_address(index, *address).map_err(text)?;
        }
        self.device = Some(index);
        Ok((Reply::Tunnel { granted: created.granted.to_bits(), anew }, created.queues))
    }
}

fn create(tunnel: &TunnelPolicy, queues: usize) -> Result<Created, DeviceError> {
    device::create(&tunnel.device, queues, tunnel.offloads)
}

fn adopt(tunnel: &TunnelPolicy, left: Vec<OwnedFd>, queues: usize) -> Result<Created, DeviceError> {
    if left.len() != queues {
        return Err(DeviceError::Number { is: left.len(), expected: queues });
    }
    device::adopt(&tunnel.device, left, tunnel.offloads)
}

/// Makes the device in place of one that the service manager kept and that does not fit any more.
fn instead(tunnel: &TunnelPolicy, queues: usize) -> Result<Created, DeviceError> {
    manager::forget(Kind::Tunnel);
    let begun = Instant::now();
    loop {
        match create(tunnel, queues) {
            // It is there until the service manager has closed it.
            Err(DeviceError::Create { .. }) if begun.elapsed() < GIVEN_UP => {
                std::thread::sleep(LOOK);
            }
            other => return other,
        }
    }
}
