//! This host's stoqd: the bundle is pushed to it, a renewed identity is announced to it, and streams
//! to peers' hypermeshds are opened through it. It may be absent at any time: then that is reported,
//! and tried again.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hypermesh_api::{Client, ClientError, StoqdStatus};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use stoq_control::{Call, Reply, Request, Response, Snapshot, Status, decode_reply, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

/// How long stoqd may take to answer: pushing 10,000 signed records is verified in 2 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a peer's hypermeshd may take, beyond the long poll.
const PEER_TIMEOUT: Duration = Duration::from_secs(90);

/// Most descriptors that are taken beside a reply: the kernel closes what is more.
const BESIDE_MAX: usize = 2;

/// Most heads that are taken from a status: what stoqd tells at most.
const HEADS_MAX: usize = stoq_control::HEADS_MAX;

/// The service under which each stoqd reaches its hypermeshd.
pub const SERVICE: &str = "hypermesh";

/// The way to stoqd, and what was last seen of it.
#[derive(Clone, Debug)]
pub struct Stoqd {
    socket: Arc<PathBuf>,
    seen: Arc<Mutex<StoqdStatus>>,
    heads: Arc<Mutex<Vec<String>>>,
}

/// A connection that is held to see stoqd end. stoqd closes it after half a minute, too.
#[derive(Debug)]
pub struct Presence(UnixStream);

impl Presence {
    /// Returns when the connection ends.
    pub async fn ended(mut self) {
        // stoqd says nothing unasked: whatever comes is the end.
        let _ = self.0.read_u8().await;
    }
}

/// Why stoqd did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoqdError {
    /// It does not listen.
    #[error("expected stoqd to listen on {path}, got: {source}; start it")]
    Unreachable {
        /// Its socket.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// It ended while it was asked.
    #[error("expected an answer from stoqd, got the end of its connection: {0}")]
    Ended(std::io::Error),
    /// It did not answer, or what no stoqd answers.
    #[error("expected an answer from stoqd, got: {0}")]
    Broken(String),
    /// It refused.
    #[error("stoqd refuses: {0}")]
    Refused(String),
    /// The peer's hypermeshd did not answer.
    #[error("peer {peer}: {source}")]
    Peer {
        /// The peer.
        peer: String,
        /// What came.
        source: ClientError,
    },
}

impl Stoqd {
    /// The stoqd that listens on `socket`.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: Arc::new(socket.to_owned()), seen: Arc::default(), heads: Arc::default() }
    }

    /// What was last seen of it.
    #[must_use]
    pub fn seen(&self) -> StoqdStatus {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The signed heads of logs that it was shown by peers, when it was last asked.
    #[must_use]
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks for its state, and remembers what it enforces.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self) -> Result<(Status, Presence), StoqdError> {
        let status = self.ask_status().await;
        if let Ok((status, _)) = &status {
            let heads = status.heads.iter().take(HEADS_MAX).cloned().collect();
            *self.heads.lock().unwrap_or_else(PoisonError::into_inner) = heads;
        }
        let seen = match &status {
            Ok((status, _)) => StoqdStatus { bundle: status.bundle, error: None },
            Err(error) => StoqdStatus { bundle: None, error: Some(error.to_string()) },
        };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        status
    }

    async fn ask_status(&self) -> Result<(Status, Presence), StoqdError> {
        let mut stream = self.connect().await?;
        match answer(&mut stream, Request::Status {}).await?.0 {
            Response::Status(status) => Ok((*status, Presence(stream))),
            other => Err(StoqdError::Broken(format!("{other:?}"))),
        }
    }

    /// Has a bundle enforced. It is in base64 already.
    ///
    /// # Errors
    /// When stoqd refuses it or does not answer.
    pub async fn push(&self, number: u64, bundle: String) -> Result<(), StoqdError> {
        let snapshot = Snapshot { number, peers: Vec::new(), bundle: Some(bundle) };
        let pushed = self.call(Request::Push { snapshot }).await.map(drop);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.error = pushed.as_ref().err().map(ToString::to_string);
        if pushed.is_ok() {
            seen.bundle = Some(number);
        }
        pushed
    }

    /// Has the renewed identity read.
    ///
    /// # Errors
    /// When stoqd refuses it or does not answer.
    pub async fn identity(&self, path: &Path) -> Result<(), StoqdError> {
        let request = Request::Identity { certificate: path.to_owned(), key: path.to_owned() };
        self.call(request).await.map(drop)
    }

    /// Has port 53 of an address opened: a UDP socket, and a TCP one that listens.
    ///
    /// # Errors
    /// When stoqd refuses it or does not answer.
    pub async fn names(&self, address: IpAddr) -> Result<(UdpSocket, TcpListener), StoqdError> {
        let mut stream = self.connect().await?;
        let (response, beside) = answer(&mut stream, Request::Names { address }).await?;
        match (response, <[OwnedFd; 2]>::try_from(beside)) {
            (Response::Names {}, Ok([udp, tcp])) => Ok((udp.into(), tcp.into())),
            (other, _) => Err(StoqdError::Broken(format!("{other:?} without two sockets"))),
        }
    }

    /// Connects to the hypermeshd of a peer, over STOQ.
    ///
    /// # Errors
    /// When stoqd has no link to it, or it offers no such service.
    pub async fn peer(&self, peer: &str) -> Result<Client, StoqdError> {
        let request = Request::Stream { peer: peer.to_owned(), service: SERVICE.to_owned() };
        let mut stream = self.connect().await?;
        answer(&mut stream, request).await?;
        let client = Client::over(stream, PEER_TIMEOUT).await;
        client.map_err(|source| StoqdError::Peer { peer: peer.to_owned(), source })
    }

    async fn call(&self, request: Request) -> Result<Response, StoqdError> {
        let mut stream = self.connect().await?;
        answer(&mut stream, request).await.map(|(response, _)| response)
    }

    async fn connect(&self) -> Result<UnixStream, StoqdError> {
        let path = self.socket.as_path();
        let unreachable = |source| StoqdError::Unreachable { path: path.to_owned(), source };
        UnixStream::connect(path).await.map_err(unreachable)
    }
}

/// The response, and the descriptors that came beside it.
async fn answer(
    stream: &mut UnixStream,
    request: Request,
) -> Result<(Response, Vec<OwnedFd>), StoqdError> {
    let exchanged = tokio::time::timeout(ANSWER_TIMEOUT, exchange(stream, request)).await;
    let (reply, beside) = match exchanged {
        Ok(reply) => reply?,
        Err(_) => return Err(StoqdError::Broken(format!("none in {ANSWER_TIMEOUT:?}"))),
    };
    match reply.response {
        Response::Error(refusal) => Err(StoqdError::Refused(refusal.message)),
        response => Ok((response, beside)),
    }
}

async fn exchange(
    stream: &mut UnixStream,
    request: Request,
) -> Result<(Reply, Vec<OwnedFd>), StoqdError> {
    let broken = |error: stoq_control::LineError| StoqdError::Broken(error.to_string());
    let line = encode(&Call::new(request)).map_err(broken)?;
    stream.write_all(&line).await.map_err(StoqdError::Ended)?;
    let first = stream.async_io(Interest::READABLE, || first_byte(stream)).await;
    let (first, beside) = first.map_err(StoqdError::Ended)?;
    let mut reply = vec![first];
    // Byte by byte: after the line of a stream's reply, the bytes are the peer's.
    while reply.last() != Some(&b'\n') && reply.len() <= stoq_control::MAX_REPLY_BYTES {
        reply.push(stream.read_u8().await.map_err(StoqdError::Ended)?);
    }
    Ok((decode_reply(&reply).map_err(broken)?, beside))
}

/// Takes the first byte of a reply, beside which descriptors come if any do.
fn first_byte(stream: &UnixStream) -> io::Result<(u8, Vec<OwnedFd>)> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BESIDE_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut byte)];
    let got = recvmsg(stream, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if got.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let given = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(given) => Some(given),
        _ => None,
    });
    let given = given.flatten().collect();
    Ok((byte[0], given))
}
