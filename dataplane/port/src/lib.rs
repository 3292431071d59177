//! Packet I/O: bursts of UDP packets in and out, behind one trait.
//!
//! A port belongs to one worker. It owns the worker's sockets and its transmit buffers, and it is
//! where the worker sleeps. `mio` works anywhere; `uring` needs io_uring; `xdp` goes past the kernel's
//! stack, on top of one of the other two.
//!
//! ```text
//!            socket::open, steer::attach          (daemon or broker, once)
//!                         │
//! open(kind, sockets) ──▶ Port ── receive ─▶ split ─▶ the worker's handler
//!                          │ slot, commit, flush
//!                          ▼
//!                        outlet ─ buffers of trains ─▶ transmit, inline or on a sender thread
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

mod error;
mod mio_port;
mod mode;
mod msg;
mod options;
mod outlet;
mod port;
pub mod probe;
mod sender;
pub mod socket;
mod sockets;
mod split;
pub mod steer;
mod sys;
mod train;
mod transmit;
mod uring;
pub mod xdp;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use stoq_telemetry::Drops;

pub use error::PortError;
pub use mode::{BypassMode, Mode};
pub use options::{PortKind, PortOptions, Sender};
pub use port::{Port, Ready, RxMeta, Socket, TxMeta, WATCH_MAX, WatchToken};
pub use sockets::SOCKETS_MAX;
pub use uring::UringReason;

/// Opens a socket port of this kind on a worker's bound sockets. To be called on the worker's own thread,
/// where the port stays. Refused packets are counted in `drops`, by that thread alone.
///
/// # Errors
/// When the kernel refuses what the port needs: the error says what, and what to do.
pub fn open(
    kind: PortKind,
    sockets: Vec<(Socket, OwnedFd)>,
    options: &PortOptions,
    drops: Arc<Drops>,
) -> Result<Box<dyn Port>, PortError> {
    match kind {
        PortKind::Mio => Ok(Box::new(mio_port::MioPort::open(sockets, options, drops)?)),
        PortKind::Uring => Ok(Box::new(uring::UringPort::open(sockets, options, drops)?)),
        PortKind::Xdp => Err(PortError::NotAlone),
    }
}

/// Opens an `xdp` port on top of the socket port `beneath`, on the same sockets. It has no lanes yet
/// and is the port beneath until [`Port::plug`]. Otherwise as [`open`].
///
/// # Errors
/// Those of [`open`].
pub fn open_xdp(
    beneath: PortKind,
    sockets: Vec<(Socket, OwnedFd)>,
    options: &PortOptions,
    hops: Arc<xdp::NextHops>,
    drops: Arc<Drops>,
) -> Result<Box<dyn Port>, PortError> {
    let failed = |what| {
        let advice = "raise the limit of open files";
        move |source| PortError::Open { port: PortKind::Xdp, what, source, advice }
    };
    let local = |(id, fd): &(Socket, OwnedFd)| Ok((*id, socket::local_addr(fd)?));
    let locals: std::io::Result<Vec<_>> = sockets.iter().map(local).collect();
    let locals = locals.map_err(failed("sockets"))?;
    let beneath = open(beneath, sockets, options, Arc::clone(&drops))?;
    let thread = (options.sender == Sender::Thread).then_some(options.sender_core);
    let port = xdp::XdpPort::over(beneath, locals, hops, thread, drops);
    let port = port.map_err(failed("poll"))?;
    Ok(Box::new(port))
}
