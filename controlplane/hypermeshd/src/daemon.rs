//! Starts the daemon: opens the state, listens, runs the tasks, ends by a signal.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::app::App;
use crate::core::Core;
use crate::files::Dir;
use crate::names::NameService;
use crate::stoqd::Stoqd;
use crate::{follow, heads, metrics, names, push, recover, renewal, routes, server};

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The state directory.
    pub state: PathBuf,
    /// The local socket.
    pub socket: PathBuf,
    /// The socket on which stoqd hands over streams of peers.
    pub peers_socket: PathBuf,
    /// stoqd's control socket.
    pub stoqd_socket: PathBuf,
    /// The API's TLS listener.
    pub listen: SocketAddr,
    /// The metrics' listener.
    pub metrics: SocketAddr,
    /// Where this host asks for names.
    pub names: IpAddr,
}

/// Mode of the local socket: who connects is checked by its user, and root always may.
const SOCKET_MODE: u32 = 0o660;

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When the state is damaged, or a listener cannot be had.
pub fn run(settings: &Settings) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(settings))
}

async fn serve(settings: &Settings) -> Result<()> {
    let dir = Dir::open(&settings.state)?;
    let mut core = tokio::task::spawn_blocking(|| Core::open(dir)).await??;
    let tls = listen(settings.listen).await?;
    core.serves_on(tls.local_addr()?.port());
    let app = App::new(core, Stoqd::new(&settings.stoqd_socket), NameService::new(settings.names));
    let router = routes::router(app.clone());
    let local = server::bind_unix(&settings.socket, SOCKET_MODE)
        .with_context(|| format!("cannot listen on {}", settings.socket.display()))?;
    let peers = server::bind_unix(&settings.peers_socket, SOCKET_MODE)
        .with_context(|| format!("cannot listen on {}", settings.peers_socket.display()))?;
    let figures = listen(settings.metrics).await?;
    tokio::spawn(server::local(local, app.clone(), router.clone()));
    tokio::spawn(server::peers(peers, app.clone(), router.clone()));
    tokio::spawn(server::tls(tls, app.clone(), router));
    tokio::spawn(push::run(app.clone()));
    tokio::spawn(follow::run(app.clone()));
    tokio::spawn(recover::run(app.clone()));
    tokio::spawn(renewal::run(app.clone()));
    tokio::spawn(names::run(app.clone()));
    tokio::spawn(heads::run(app.clone()));
    tokio::spawn(app.clone().sum_refusals_up());
    let metrics = axum::serve(figures, metrics::router(app)).into_future();
    tokio::spawn(metrics);
    tracing::info!(state = %settings.state.display(), "hypermeshd is ready");
    // Whoever has just started the unit may give it its first command at once.
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        tracing::warn!("cannot tell the service manager that this is ready: {error}");
    }
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    tracing::info!("hypermeshd ends");
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}
