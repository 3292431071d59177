//! Copies a file from one host to the other over a socket, as any program would: nothing in here
//! knows of a tunnel or a stream. The demo calls it and compares what `sha256sum` says of both files.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use stoq_perf::bed::Namespace;
use stoq_perf::process;

use crate::live::gbps;

/// Read and written at once: large enough that system calls do not count, small enough for a cache.
const BLOCK_BYTES: usize = 256 * 1024;

/// How long either end waits for the other one before it gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Fills a new file with random bytes, which no layer can compress.
///
/// # Errors
/// When there is no room, or the folder cannot be written.
pub fn make_file(path: &Path, bytes: u64) -> Result<()> {
    let what = || format!("write {bytes} bytes to {} (TMPDIR names the folder)", path.display());
    let random = BufReader::with_capacity(BLOCK_BYTES, File::open("/dev/urandom")?);
    let mut file = File::create(path).with_context(what)?;
    io::copy(&mut random.take(bytes), &mut file).with_context(what)?;
    Ok(())
}

/// The SHA-256 of a file, as `sha256sum` prints it.
///
/// # Errors
/// When the program is missing or the file cannot be read.
fn sha256(path: &Path) -> Result<String> {
    let printed = process::run(Command::new("sha256sum").arg(path))?;
    let digest = printed.split_whitespace().next();
    digest.map(str::to_owned).with_context(|| format!("sha256sum printed `{printed}`"))
}

/// A socket whose sending direction can be ended alone.
pub trait Socket: Send + Sync {
    /// Says that nothing more comes.
    ///
    /// # Errors
    /// When the other end is gone.
    fn end(&self) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn end(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Socket for UnixStream {
    fn end(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// A connection through which a file goes.
pub struct Copy<S> {
    sender: S,
    receiver: S,
    received: AtomicU64,
}

impl Copy<UnixStream> {
    /// Between two sockets that something joins.
    ///
    /// # Errors
    /// When they take no timeouts.
    pub fn over(sender: UnixStream, receiver: UnixStream) -> Result<Self> {
        sender.set_write_timeout(Some(PATIENCE))?;
        receiver.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { sender, receiver, received: AtomicU64::new(0) })
    }
}

impl Copy<TcpStream> {
    /// Connects from one host to the other one's `address`.
    ///
    /// # Errors
    /// When either host refuses, or nothing answers in time.
    pub fn connect(from: &Namespace, to: &Namespace, address: IpAddr) -> Result<Self> {
        let any_port = SocketAddr::new(address, 0);
        let listener = to.enter(|| TcpListener::bind(any_port))?.context("listen in the tunnel")?;
        let address = listener.local_addr()?;
        let sender = from
            .enter(|| TcpStream::connect_timeout(&address, PATIENCE))?
            .with_context(|| format!("connect to {address} through the tunnel"))?;
        let (receiver, _) = listener.accept()?;
        Self::between(sender, receiver)
    }

    fn between(sender: TcpStream, receiver: TcpStream) -> Result<Self> {
        sender.set_write_timeout(Some(PATIENCE))?;
        receiver.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { sender, receiver, received: AtomicU64::new(0) })
    }
}

impl<S: Socket> Copy<S>
where
    for<'a> &'a S: Read + Write,
{
    /// Bytes that have arrived so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Sends the file `source` and writes what arrives to `target`; returns when all has arrived.
    ///
    /// # Errors
    /// When a file or the connection fails, or stalls for longer than [`PATIENCE`].
    pub fn run(&self, source: &Path, target: &Path) -> Result<()> {
        let mut source = File::open(source)?;
        let mut target = File::create(target)?;
        let expected = source.metadata()?.len();
        thread::scope(|scope| {
            let sending = scope.spawn(|| self.send(&mut source));
            self.receive(&mut target).context("receive the file")?;
            let sent = sending.join().map_err(|_| anyhow!("the sending thread panicked"))?;
            sent.context("send the file")
        })?;
        if self.received() != expected {
            bail!("{} bytes of {expected} arrived", self.received());
        }
        Ok(())
    }

    fn send(&self, source: &mut File) -> io::Result<()> {
        io::copy(source, &mut &self.sender)?;
        self.sender.end()
    }

    fn receive(&self, target: &mut File) -> io::Result<()> {
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            match (&self.receiver).read(&mut block)? {
                0 => return Ok(()),
                count => {
                    target.write_all(&block[..count])?;
                    self.received.fetch_add(count as u64, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Compares the two files of a copy by their SHA-256, prints both, and returns the line of the summary.
pub fn compare(source: &Path, target: &Path, size_mib: u64, seconds: f64) -> Result<String> {
    let (sent, received) = (sha256(source)?, sha256(target)?);
    println!("    edge-a  SHA-256 {sent}\n    edge-b  SHA-256 {received}");
    if sent != received {
        bail!("the file that arrived is not the one that was sent");
    }
    let rate = gbps(size_mib << 20, seconds);
    Ok(format!("    file  {size_mib} MiB in {seconds:.1} s, {rate:.2} Gbit/s, SHA-256 equal"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    #[test]
    fn a_file_arrives_as_it_was_sent() {
        let folder = std::env::temp_dir().join(format!("stoq-demo-copy-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let [source, target] = ["sent", "received"].map(|name| folder.join(name));
        make_file(&source, 3 * BLOCK_BYTES as u64 + 1).unwrap();
        let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let copy = Copy::between(sender, listener.accept().unwrap().0).unwrap();
        copy.run(&source, &target).unwrap();
        assert_eq!(copy.received(), 3 * BLOCK_BYTES as u64 + 1);
        assert_eq!(sha256(&source).unwrap(), sha256(&target).unwrap());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named_with_the_remedy() {
        let gone = make_file(Path::new("/proc/no-such-folder/file"), 1).unwrap_err();
        assert!(gone.to_string().contains("TMPDIR"));
    }
}
