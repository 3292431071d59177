//! Serves the sockets: takes messages, keeps to the bounds, sends answers.
//!
//! Owns the tasks. hypermeshd holds a [`Names`]; when it is dropped, the tasks end and the sockets are
//! closed. All tasks run on the runtime from which [`Names::start`] is called, which may have one
//! thread only: none of them blocks.
//!
//! ```text
//!   UDP ──► rate of the source ──► place among the queries at work ──┐
//!   TCP ──► place among the connections ──► rate ──► place ──────────┴──► answer ──► sent back
//! ```

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hickory_server::net::xfer::Protocol;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::answer::{Answerer, MAX_UDP_BYTES};
use crate::counters::{Counters, Outcome, Tally};
use crate::forward::Forwarder;
use crate::limit::{Connections, Held, Rates};
use crate::listen::{Audience, Listener};
use crate::zone::Zone;

/// Queries at work at a time, of all listeners. Each holds a message and an answer: a few MiB in all.
const MAX_QUERIES: usize = 1024;

/// Listeners: a loopback address, and a tunnel address of each family twice while a mesh is
/// renumbered.
const MAX_LISTENERS: usize = 8;

/// Largest query: one question and its options take a tenth of it.
const MAX_QUERY_BYTES: usize = MAX_UDP_BYTES as usize;

/// How long a connection may be silent, and how long it may take to take an answer (RFC 7766 §6.2.3
/// leaves it to the server).
const IDLE: Duration = Duration::from_secs(10);

/// Rest after an error of a socket, which may stay: without it the loop would take the core.
const AFTER_ERROR: Duration = Duration::from_millis(10);

/// What is served, where, and to whom.
#[derive(Debug)]
pub struct Config {
    /// The sockets: for peers on the tunnel addresses, for this host on [`crate::LOOPBACK`].
    pub listeners: Vec<Listener>,
    /// Files like resolv.conf(5), of which the first that names a resolver other than this one
    /// counts: [`Config::default_upstreams`].
    pub upstreams: Vec<PathBuf>,
}

impl Config {
    /// Where the host's resolvers stand: systemd-resolved's list of those that it asks, the original
    /// of the resolv.conf that [`crate::host::ResolvConf`] replaced, and resolv.conf.
    #[must_use]
    pub fn default_upstreams() -> Vec<PathBuf> {
        let files = ["/run/systemd/resolve/resolv.conf", crate::host::ORIGINAL, crate::host::PATH];
        files.map(PathBuf::from).to_vec()
    }
}

/// Why nothing is served.
#[derive(Debug, Error)]
pub enum StartError {
    /// More listeners than are served.
    #[error("expected at most {MAX_LISTENERS} listeners for names, got {0}")]
    Listeners(usize),
    /// The runtime did not take a socket.
    #[error(
        "expected the runtime to take the sockets for names, got: {0}; look at the limit of open files"
    )]
    Socket(#[from] io::Error),
    /// It was called outside of a runtime.
    #[error("expected to serve names in a tokio runtime, got none; start it from a task")]
    NoRuntime(#[from] tokio::runtime::TryCurrentError),
}

/// The server of the mesh's names, until it is dropped.
#[derive(Debug)]
pub struct Names {
    zone: watch::Sender<Arc<Zone>>,
    tally: Arc<Tally>,
    addresses: Vec<SocketAddr>,
    _tasks: JoinSet<()>,
}

impl Names {
    /// Serves `zone`, which several servers may share, on the listeners. Must be called in a tokio
    /// runtime.
    ///
    /// # Errors
    /// When there are too many listeners, there is no runtime, or it does not take a socket.
    pub fn start(config: Config, zone: impl Into<Arc<Zone>>) -> Result<Self, StartError> {
        tokio::runtime::Handle::try_current()?;
        if config.listeners.len() > MAX_LISTENERS {
            return Err(StartError::Listeners(config.listeners.len()));
        }
        let addresses: Vec<SocketAddr> = config.listeners.iter().map(Listener::address).collect();
        let own: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).collect();
        let (zone, served) = watch::channel(zone.into());
        let tally = Arc::new(Tally::default());
        let forwarder = Forwarder::new(config.upstreams, own);
        let answerer = Answerer::new(served, forwarder, tally.clone());
        let shared = Arc::new(Shared {
            answerer,
            tally: tally.clone(),
            rates: Rates::default(),
            connections: Connections::default(),
            queries: Arc::new(Semaphore::new(MAX_QUERIES)),
        });
        let mut tasks = JoinSet::new();
        for listener in config.listeners {
            let audience = listener.audience;
            let udp = Arc::new(UdpSocket::from_std(listener.udp)?);
            let tcp = TcpListener::from_std(listener.tcp)?;
            tasks.spawn(serve_udp(udp, shared.clone(), audience));
            tasks.spawn(serve_tcp(tcp, shared.clone(), audience));
        }
        Ok(Self { zone, tally, addresses, _tasks: tasks })
    }

    /// Serves another zone from now on. Queries at work are answered from the one before.
    pub fn replace(&self, zone: impl Into<Arc<Zone>>) {
        self.zone.send_replace(zone.into());
    }

    /// What became of the queries until now.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.tally.read()
    }

    /// Where it listens, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

/// What all sockets share.
struct Shared {
    answerer: Answerer,
    tally: Arc<Tally>,
    rates: Rates,
    connections: Connections,
    queries: Arc<Semaphore>,
}

impl Shared {
    /// A place among the queries at work; `None`, and counted, when the source or all together ask
    /// too much. This host's own programs have no rate: they could as well take the core.
    fn admit(&self, from: SocketAddr, audience: Audience) -> Option<OwnedSemaphorePermit> {
        if audience == Audience::Peers && !self.rates.take(from.ip(), Instant::now()) {
            self.tally.add(Outcome::RateLimited);
            return None;
        }
        let permit = self.queries.clone().try_acquire_owned();
        permit.inspect_err(|_| self.tally.add(Outcome::Busy)).ok()
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, shared: Arc<Shared>, audience: Audience) {
    let mut tasks = JoinSet::new();
    // One byte more than is taken, so that a longer message shows.
    let mut buffer = vec![0; MAX_QUERY_BYTES + 1];
    loop {
        let (len, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "a UDP socket for names");
                sleep(AFTER_ERROR).await;
                continue;
            }
        };
        while tasks.try_join_next().is_some() {}
        if len > MAX_QUERY_BYTES || from.port() == 0 {
            shared.tally.add(Outcome::Malformed);
            continue;
        }
        let Some(permit) = shared.admit(from, audience) else { continue };
        let message = buffer[..len].to_vec();
        let (socket, shared) = (socket.clone(), shared.clone());
        tasks.spawn(async move {
            let _permit = permit;
            let answer = shared.answerer.answer(message, from, Protocol::Udp, audience).await;
            let Some(answer) = answer else { return };
            if let Err(error) = socket.send_to(&answer, from).await {
                tracing::debug!(%error, %from, "an answer was not sent");
                shared.tally.add(Outcome::Unsent);
            }
        });
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>, audience: Audience) {
    let mut tasks = JoinSet::new();
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "a TCP socket for names");
                sleep(AFTER_ERROR).await;
                continue;
            }
        };
        while tasks.try_join_next().is_some() {}
        let Some(held) = shared.connections.hold(from.ip()) else {
            shared.tally.add(Outcome::Connections);
            continue;
        };
        tasks.spawn(serve_connection(stream, from, shared.clone(), audience, held));
    }
}

/// Answers one query after the other, until the other side ends, rests too long or asks too much.
async fn serve_connection(
    mut stream: TcpStream,
    from: SocketAddr,
    shared: Arc<Shared>,
    audience: Audience,
    _held: Held,
) {
    loop {
        let message = match timeout(IDLE, receive(&mut stream)).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => return,
            Ok(Err(_)) => return shared.tally.add(Outcome::Malformed),
            Err(_) => return shared.tally.add(Outcome::Idle),
        };
        let Some(_permit) = shared.admit(from, audience) else { return };
        let answer = shared.answerer.answer(message, from, Protocol::Tcp, audience).await;
        let Some(answer) = answer else { return };
        match timeout(IDLE, send(&mut stream, &answer)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return shared.tally.add(Outcome::Unsent),
            Err(_) => return shared.tally.add(Outcome::Idle),
        }
    }
}

/// One message with its length before it (RFC 1035 §4.2.2); `None` at the end.
async fn receive(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    match stream.read_exact(&mut length).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let length = usize::from(u16::from_be_bytes(length));
    if length > MAX_QUERY_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

async fn send(stream: &mut TcpStream, answer: &[u8]) -> io::Result<()> {
    let length = u16::try_from(answer.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut message = Vec::with_capacity(answer.len() + 2);
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(answer);
    stream.write_all(&message).await
}
