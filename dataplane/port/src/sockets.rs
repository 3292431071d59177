//! The sockets of one worker, as a port and its sender share them.
//!
//! Made by a port when it opens; read by its receive path and by whoever sends.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::sys::socket::{setsockopt, sockopt};

use crate::msg::Family;
use crate::socket::local_addr;
use crate::{PortError, PortKind, PortOptions, Socket};

/// Most sockets of one worker: a dozen listen addresses, one to dial from, and some to spare.
pub const SOCKETS_MAX: usize = 16;

/// One socket and what is known of it.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) id: Socket,
    pub(crate) fd: OwnedFd,
    pub(crate) family: Family,
    /// The address that it is bound to; its IP address is usually unspecified.
    pub(crate) local: SocketAddr,
}

/// All sockets of one worker.
#[derive(Clone, Debug)]
pub(crate) struct Sockets {
    all: Arc<[Bound]>,
    /// The kernel joins received packets on all of them.
    pub(crate) gro: bool,
}

impl Sockets {
    /// Takes the sockets over and sets up receive offload as `options` say.
    pub(crate) fn new(
        port: PortKind,
        sockets: Vec<(Socket, OwnedFd)>,
        options: &PortOptions,
    ) -> Result<Self, PortError> {
        if sockets.is_empty() || sockets.len() > SOCKETS_MAX {
            return Err(PortError::SocketCount { got: sockets.len(), most: SOCKETS_MAX });
        }
        let all: Result<Vec<_>, _> =
            sockets.into_iter().map(|(id, fd)| bound(port, id, fd)).collect();
        let all = all?;
        let mut gro = options.gro;
        for bound in &all {
            // A kernel before 5.0 refuses it: then each packet comes alone.
            gro &= setsockopt(&bound.fd, sockopt::UdpGroSegment, &options.gro).is_ok();
        }
        Ok(Self { all: all.into(), gro })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Bound> {
        self.all.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn get(&self, index: usize) -> &Bound {
        &self.all[index]
    }

    /// The place of a socket; there are few, so a scan is the fastest way.
    pub(crate) fn index_of(&self, id: Socket) -> Option<usize> {
        self.all.iter().position(|bound| bound.id == id)
    }

    /// Whether the kernel knows how to send trains on every socket. A device may refuse them later.
    pub(crate) fn know_gso(&self) -> bool {
        self.all.iter().all(|bound| {
            // Zero leaves the socket as it was, but an older kernel refuses the option.
            setsockopt(&bound.fd, sockopt::UdpGsoSegment, &0).is_ok()
        })
    }
}

impl AsFd for Bound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn bound(port: PortKind, id: Socket, fd: OwnedFd) -> Result<Bound, PortError> {
    let open = |source: nix::Error| PortError::Open {
        port,
        what: "socket",
        source: source.into(),
        advice: "pass bound UDP sockets",
    };
    let local = local_addr(&fd).map_err(open)?;
    let family = if local.is_ipv4() { Family::V4 } else { Family::Dual };
    Ok(Bound { id, fd, family, local })
}
