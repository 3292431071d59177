//! The listeners: TLS for operators and joiners, the local Unix socket, and the socket on which
//! stoqd hands over streams of peers. All three serve one router; each connection carries its
//! [`Caller`].
//!
//! Every connection is bounded: how many there are, how long the handshake and the head of a request
//! take, and how long a body may be.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::caller::Caller;

/// Most connections of one listener at a time. A long poll of each of 200 followers, or a burst of
/// joiners; 256 of them hold below 16 MB.
const MAX_CONNECTIONS: usize = 256;

/// How long the first bytes may take: the TLS handshake, the line of stoqd, the head of a request.
/// A post-quantum handshake over a satellite link takes 2 s; who takes longer holds a place.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest line by which stoqd says who the peer is, in bytes: a name and an identity of 128 each.
const MAX_ANNOUNCE_BYTES: usize = 512;

/// How long to wait after the kernel refused a connection, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves HTTP/1.1 on one connection until it ends.
pub async fn serve<I>(io: I, caller: Caller, router: Router)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router.layer(Extension(caller)));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HELLO_TIMEOUT)
        .serve_connection(TokioIo::new(io), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Listens on a Unix socket with `mode`; one that a dead daemon left is replaced.
///
/// # Errors
/// When the path cannot be used, or a living daemon listens there.
pub fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        let text = format!("{}: another daemon listens there", path.display());
        return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// The user that stoqd becomes after a start as root (`[node] user`).
const STOQD_USER: &str = "stoq";

/// Counts and audits whoever is refused before a request was read.
pub trait Porter: Clone + Send + Sync + 'static {
    /// Somebody at a local socket was turned away: who, and why.
    fn turned_away(&self, what: String, reason: String) -> impl Future<Output = ()> + Send;
}

/// Serves the local socket: root and this daemon's own user.
pub async fn local(listener: UnixListener, porter: impl Porter, router: Router) {
    let handle = |(stream, _)| local_connection(stream, porter.clone(), router.clone());
    accept(listener, handle).await;
}

async fn local_connection(stream: UnixStream, porter: impl Porter, router: Router) {
    let Ok(peer) = stream.peer_cred() else { return };
    if peer.uid() != 0 && peer.uid() != nix::unistd::geteuid().as_raw() {
        let reason = "expected root, or the daemon's own user, at the local socket".to_owned();
        return porter.turned_away(format!("a process of uid {}", peer.uid()), reason).await;
    }
    serve(stream, Caller::Local { uid: peer.uid() }, router).await;
}

/// Serves the socket on which stoqd hands over streams of peers.
pub async fn peers(listener: UnixListener, porter: impl Porter, router: Router) {
    let handle = |(stream, _)| peer_connection(stream, porter.clone(), router.clone());
    accept(listener, handle).await;
}

async fn peer_connection(mut stream: UnixStream, porter: impl Porter, router: Router) {
    let reason = match tokio::time::timeout(HELLO_TIMEOUT, announced(&mut stream)).await {
        Ok(Ok(name)) => return serve(stream, Caller::Node { name }, router).await,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("expected stoqd's line within {HELLO_TIMEOUT:?}, got none"),
    };
    porter.turned_away("a stream that stoqd did not announce".to_owned(), reason).await;
}

/// Reads stoqd's line byte by byte: what follows it is HTTP.
async fn announced(stream: &mut UnixStream) -> io::Result<String> {
    #[derive(serde::Deserialize)]
    struct Announced {
        peer: String,
    }
    // Only stoqd may say who a peer is: it runs as its own user or, without one, as root; as this
    // user on a test host.
    let uid = stream.peer_cred()?.uid();
    let stoqd = nix::unistd::User::from_name(STOQD_USER).ok().flatten();
    let is_stoqd = stoqd.is_some_and(|user| user.uid.as_raw() == uid);
    if !is_stoqd && uid != 0 && uid != nix::unistd::geteuid().as_raw() {
        let text = format!("expected stoqd, got a process of uid {uid}");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => break,
            _ if line.len() >= MAX_ANNOUNCE_BYTES => {
                return Err(io::Error::other("expected one line of JSON, got a longer one"));
            }
            byte => line.push(byte),
        }
    }
    let Announced { peer } = serde_json::from_slice(&line)?;
    Ok(peer)
}

/// What the TLS listener needs of the daemon.
pub trait Tls: Clone + Send + Sync + 'static {
    /// The configuration now: it changes with every renewal. None before there is a certificate.
    fn config(&self) -> impl Future<Output = Option<Arc<rustls::ServerConfig>>> + Send;

    /// Who a finished handshake was with, by the leaf certificate if there was one.
    fn caller(&self, address: IpAddr, leaf: Option<Vec<u8>>)
    -> impl Future<Output = Caller> + Send;

    /// Counts and audits a handshake that was refused.
    fn refused(&self, address: SocketAddr, error: &io::Error) -> impl Future<Output = ()> + Send;
}

/// Serves TLS: operators by their certificates, joiners without one.
pub async fn tls(listener: TcpListener, tls: impl Tls, router: Router) {
    let handle = |(stream, address)| tls_connection(stream, address, tls.clone(), router.clone());
    accept(listener, handle).await;
}

async fn tls_connection(stream: TcpStream, address: SocketAddr, tls: impl Tls, router: Router) {
    let Some(config) = tls.config().await else { return };
    let handshake = tokio_rustls::TlsAcceptor::from(config).accept(stream);
    let stream = match tokio::time::timeout(HELLO_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::info!(%address, %error, "refused a TLS handshake");
            return tls.refused(address, &error).await;
        }
        Err(_) => return,
    };
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let leaf = leaf.map(|leaf| leaf.to_vec());
    let caller = tls.caller(address.ip().to_canonical(), leaf).await;
    serve(stream, caller, router).await;
}

/// Where connections come from.
trait Listener {
    /// One of them, and whence.
    type Connection;

    /// Waits for the next.
    fn next(&self) -> impl Future<Output = io::Result<Self::Connection>> + Send;
}

impl Listener for UnixListener {
    type Connection = (UnixStream, tokio::net::unix::SocketAddr);

    async fn next(&self) -> io::Result<Self::Connection> {
        self.accept().await
    }
}

impl Listener for TcpListener {
    type Connection = (TcpStream, SocketAddr);

    async fn next(&self) -> io::Result<Self::Connection> {
        self.accept().await
    }
}

/// Accepts for ever; each connection is a task, and there are at most [`MAX_CONNECTIONS`].
async fn accept<L, F>(listener: L, handle: impl Fn(L::Connection) -> F)
where
    L: Listener,
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // The semaphore is never closed, so this is always a permit.
        let place = Arc::clone(&places).acquire_owned().await.ok();
        match listener.next().await {
            Ok(connection) => {
                let handled = handle(connection);
                tokio::spawn(async move {
                    handled.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
