//! The one trait of packet I/O and the types of its calls.
//!
//! It owns nothing: `mio`, `uring` and `xdp` implement it, `stoqd`'s workers call it and know no more.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::Mode;
use crate::xdp::Lane;

/// Which of a worker's sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Socket {
    /// One of the `listen` addresses, by its place in the configuration.
    Listen(u8),
    /// The worker's own source port, from which it dials; dual stack.
    Dial,
}

/// Where a received datagram came from and arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxMeta {
    /// The sender; an IPv4 sender is an IPv4 address, never a mapped one.
    pub from: SocketAddr,
    /// The local address that it was sent to, with the socket's port.
    pub to: SocketAddr,
    /// The socket that it arrived on.
    pub socket: Socket,
    /// The two ECN bits of the outer header (RFC 3168 §5).
    pub ecn: u8,
}

/// Where a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TxMeta {
    /// The receiver; an IPv4 receiver is an IPv4 address, never a mapped one.
    pub to: SocketAddr,
    /// The local address to send from; `None` leaves it to the kernel's routes.
    pub from: Option<IpAddr>,
    /// The socket to send from.
    pub socket: Socket,
}

/// The number by which a worker knows a descriptor that it watches.
pub type WatchToken = u8;

/// Most descriptors that a worker watches: one bit of [`Ready`] each.
pub const WATCH_MAX: usize = 64;

/// What woke a worker: the tokens of the watched descriptors that are readable, as a bit set.
/// (The port's own packets need no bit: the worker always asks for them.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready(pub u64);

/// Moves bursts of UDP packets for one worker.
///
/// Transmission: [`Port::slot`] lends room for one datagram, the caller writes it there, and
/// [`Port::commit`] says how long it became and where it goes. The port joins consecutive datagrams
/// of one size to one destination into a GSO train by itself. [`Port::flush`] hands over what is
/// left. No copy is made in between.
pub trait Port {
    /// Calls `handler` for each datagram that is waiting, GRO trains already split, until none is
    /// left or the burst's budget is spent. Returns how many there were. Never blocks.
    ///
    /// # Errors
    /// Only when the port can not go on; a bad packet is counted and left out.
    fn receive(&mut self, handler: &mut dyn FnMut(&mut [u8], &RxMeta)) -> io::Result<usize>;

    /// Room for the next datagram (at least 1500 bytes unless the port is for smaller frames), or
    /// `None` when every transmit buffer is on its way: then the worker stops taking packets, and
    /// [`Port::wait`] returns when there is room again.
    fn slot(&mut self) -> Option<&mut [u8]>;

    /// The datagram in the last slot has `len` bytes and goes to `meta`.
    fn commit(&mut self, len: usize, meta: &TxMeta);

    /// Hands all that was committed to the kernel (or to the sender thread). Never blocks.
    ///
    /// # Errors
    /// Only when the port can not go on; a refused packet is counted.
    fn flush(&mut self) -> io::Result<()>;

    /// Makes [`Port::wait`] return when `fd` is readable, level-triggered. `token` is below 64.
    /// The port keeps a duplicate of the descriptor for as long as it lives.
    ///
    /// # Errors
    /// When the kernel refuses to watch it.
    fn watch(&mut self, fd: BorrowedFd<'_>, token: WatchToken) -> io::Result<()>;

    /// Watches the descriptor with this token no more. It may be told as readable once again.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn unwatch(&mut self, token: WatchToken) -> io::Result<()>;

    /// Sleeps until a packet arrives, transmit room returns after [`Port::slot`] had none, a
    /// watched descriptor is readable, or `timeout` has passed; `Some(ZERO)` only looks.
    ///
    /// # Errors
    /// When the kernel refuses to wait.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Ready>;

    /// What the port really uses of the kernel's help now.
    fn mode(&self) -> Mode;

    /// `xdp` only: lets the port use these lanes from now on in place of those that it had; without
    /// any it is the port beneath. Gives those back. Not to be called between [`Port::slot`] and
    /// [`Port::commit`].
    ///
    /// # Errors
    /// When the kernel refuses to watch a lane, or the port has no use for one.
    fn plug(&mut self, lanes: Vec<Lane>) -> io::Result<Vec<Lane>> {
        if lanes.is_empty() {
            return Ok(lanes);
        }
        Err(io::Error::new(io::ErrorKind::Unsupported, "only the xdp port has lanes"))
    }
}

/// Refuses tokens that have no bit in [`Ready`].
pub(crate) fn check_token(token: WatchToken) -> io::Result<()> {
    if usize::from(token) < WATCH_MAX {
        return Ok(());
    }
    let text = format!("expected a watch token below {WATCH_MAX}, got {token}");
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}
