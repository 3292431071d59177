//! A file of random bytes, copied over TCP and compared by SHA-256.

use crate::bed::Namespace;
use crate::process;
use crate::{Error, Result};
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// How long the connection may take to be made, and a read or write to move something.
const STALL: Duration = Duration::from_secs(30);

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// SHA-256 of what was sent, in hexadecimal.
    pub sent: String,
    /// SHA-256 of what arrived.
    pub arrived: String,
    /// From the first byte to the last.
    pub took: Duration,
}

/// Copies `bytes` random bytes from `from` to `address`, which `to` has, by files in `folder`.
///
/// # Errors
/// When it cannot connect, or nothing moves for 30 s.
pub fn copy(
    (from, to): (&Namespace, &Namespace),
    address: IpAddr,
    bytes: u64,
    folder: &Path,
) -> Result<Copied> {
    let (source, sink) = (folder.join("sent.bin"), folder.join("arrived.bin"));
    make_random(&source, bytes).map_err(Error::io("make a random file"))?;
    let any = SocketAddr::new(address, 0);
    let listener =
        to.enter(|| TcpListener::bind(any))?.map_err(Error::io(format!("listen on {address}")))?;
    let target = listener.local_addr().map_err(Error::io("read the port of a listener"))?;
    let begin = Instant::now();
    let sender = from
        .enter(|| TcpStream::connect_timeout(&target, STALL))?
        .map_err(Error::io(format!("connect to {target}")))?;
    thread::scope(|scope| {
        let receiving = scope.spawn(|| receive(&listener, &sink));
        send(sender, &source).map_err(Error::io("send a file"))?;
        let received =
            receiving.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")));
        received.map_err(Error::io("receive a file"))
    })?;
    let took = begin.elapsed();
    Ok(Copied { sent: sha256(&source)?, arrived: sha256(&sink)?, took })
}

fn make_random(path: &Path, bytes: u64) -> io::Result<()> {
    io::copy(&mut File::open("/dev/urandom")?.take(bytes), &mut File::create(path)?).map(drop)
}

fn send(mut socket: TcpStream, path: &Path) -> io::Result<()> {
    socket.set_write_timeout(Some(STALL))?;
    io::copy(&mut File::open(path)?, &mut socket).map(drop)
}

fn receive(listener: &TcpListener, path: &Path) -> io::Result<()> {
    let (mut socket, _) = listener.accept()?;
    socket.set_read_timeout(Some(STALL))?;
    io::copy(&mut socket, &mut File::create(path)?).map(drop)
}

/// The SHA-256 of a file in hexadecimal.
///
/// # Errors
/// [`Error::Command`] when it cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let printed = process::run(Command::new("sha256sum").arg(path))?;
    Ok(printed.split_whitespace().next().unwrap_or_default().to_owned())
}
