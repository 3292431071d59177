//! A TCP flow that checks itself: numbered records, sent until it is stopped. Tests break the path
//! under it and ask whether it goes on; a record that is missing, twice or damaged ends it.

use crate::bed::Namespace;
use crate::wait;
use crate::{Error, Result};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Bytes of a record: its number, many times, so that it fills a few packets.
const RECORD: usize = 4096;

/// How long one end waits for the other before it looks whether it shall stop.
const LOOK: Duration = Duration::from_millis(100);

/// How long the connection may take to be made.
const CONNECT: Duration = Duration::from_secs(30);

/// A running flow.
#[derive(Debug)]
pub struct Flow {
    received: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    ends: Vec<JoinHandle<io::Result<()>>>,
}

impl Flow {
    /// Connects from `from` to `address`, which `to` has, and begins to send.
    ///
    /// # Errors
    /// When it cannot be connected.
    pub fn start(from: &Namespace, to: &Namespace, address: IpAddr) -> Result<Self> {
        let any = SocketAddr::new(address, 0);
        let listener = to
            .enter(|| TcpListener::bind(any))?
            .map_err(Error::io(format!("listen on {address}")))?;
        let target = listener.local_addr().map_err(Error::io("read the port of a listener"))?;
        let sender = from
            .enter(|| TcpStream::connect_timeout(&target, CONNECT))?
            .map_err(Error::io(format!("connect to {target}")))?;
        let (receiver, _) = listener.accept().map_err(Error::io("accept"))?;
        for socket in [&sender, &receiver] {
            socket.set_read_timeout(Some(LOOK)).map_err(Error::io("set a time-out"))?;
            socket.set_write_timeout(Some(LOOK)).map_err(Error::io("set a time-out"))?;
        }
        let (received, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stop_send, stop_receive) =
            (Arc::clone(&received), Arc::clone(&stop), Arc::clone(&stop));
        let ends = vec![
            thread::spawn(move || send(sender, &stop_send)),
            thread::spawn(move || receive(receiver, &stop_receive, &count)),
        ];
        Ok(Self { received, stop, ends })
    }

    /// Records that have arrived.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Waits until `more` records have arrived from now on.
    ///
    /// # Errors
    /// [`Error::Timeout`] when they have not, also because an end has failed.
    pub fn wait_for_more(&self, more: u64, timeout: Duration) -> Result<()> {
        let goal = self.received() + more;
        wait::until("the TCP flow going on", timeout, || {
            let now = self.received();
            let ended = self.ends.iter().any(JoinHandle::is_finished);
            if now >= goal {
                Ok(())
            } else {
                Err(format!("{now} of {goal} records, an end has failed: {ended}"))
            }
        })
    }

    /// Stops it and gives how many records arrived.
    ///
    /// # Errors
    /// [`Error::Io`] when a record was not the expected one, or the connection broke.
    pub fn finish(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        for end in self.ends.drain(..) {
            let ended = end.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")));
            ended.map_err(Error::io("a TCP flow"))?;
        }
        Ok(self.received())
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn record(number: u64) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    for chunk in bytes.chunks_exact_mut(8) {
        chunk.copy_from_slice(&number.to_be_bytes());
    }
    bytes
}

fn send(mut socket: TcpStream, stop: &AtomicBool) -> io::Result<()> {
    for number in 0.. {
        let bytes = record(number);
        let mut sent = 0;
        while sent < RECORD {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            sent += again_if_late(socket.write(&bytes[sent..]))?;
        }
    }
    Ok(())
}

fn receive(mut socket: TcpStream, stop: &AtomicBool, count: &AtomicU64) -> io::Result<()> {
    let mut bytes = [0; RECORD];
    for number in 0.. {
        let mut filled = 0;
        while filled < RECORD {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            filled += again_if_late(socket.read(&mut bytes[filled..]))?;
        }
        if bytes != record(number) {
            return Err(io::Error::other(format!("record {number} came damaged")));
        }
        count.store(number + 1, Ordering::Relaxed);
    }
    Ok(())
}

/// A time-out moved nothing; a close moves nothing either, but is an error here.
fn again_if_late(moved: io::Result<usize>) -> io::Result<usize> {
    match moved {
        Ok(0) => Err(io::Error::new(ErrorKind::UnexpectedEof, "the other end closed")),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
            ) =>
        {
            Ok(0)
        }
        other => other,
    }
}
