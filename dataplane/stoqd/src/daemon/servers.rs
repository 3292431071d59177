//! Control socket and metrics: one thread beside the workers serves both.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use crossbeam::channel::{Receiver, bounded};
use tokio::sync::watch;

use super::shared::Shared;
use crate::config::Config;
use crate::inherit::{Estate, Inherited, Kind};
use crate::{control, metrics};

/// How long those who are being answered keep a process that ends.
const ANSWERING: Duration = Duration::from_secs(2);

/// Bound sockets; bound while privilege lasts, or left by the process before.
pub(super) struct Listeners {
    control: UnixListener,
    metrics: Option<TcpListener>,
}

/// The thread that serves.
pub(super) struct Serving {
    stop: watch::Sender<bool>,
    ended: Receiver<()>,
}

impl Serving {
    /// Lets go of the sockets. Whoever is being answered is answered.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Whether it was told to.
    pub fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits a moment until it has ended.
    pub fn wait(&self) {
        let _ended = self.ended.recv_timeout(ANSWERING);
    }
}

impl Listeners {
    /// Binds what the configuration names and was not left.
    pub fn bind(config: &Config, inherited: &mut Inherited) -> Result<Self> {
        let socket = &config.control.socket;
        let control = match inherited.take_control(socket) {
            Some(left) => left,
            None => {
                if let Some(directory) = socket.parent() {
                    crate::broker::privilege::make_directory(directory, &config.node.user)?;
                }
                control::bind(socket)?
            }
        };
        let metrics = config.metrics.as_ref().map(|metrics| {
            inherited.take_metrics(metrics.listen).map_or_else(|| metrics::bind(metrics.listen), Ok)
        });
        Ok(Self { control, metrics: metrics.transpose()? })
    }

    /// Leaves copies of both to the next process.
    pub fn leave_to(&self, estate: &mut Estate) -> Result<()> {
        estate.add(Kind::Control, &self.control)?;
        if let Some(metrics) = &self.metrics {
            estate.add(Kind::Metrics, metrics)?;
        }
        Ok(())
    }

    /// Starts the thread. It ends with the process, or when it is stopped.
    pub fn serve(&self, shared: &Arc<Shared>) -> Result<Serving> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("starting the control thread")?;
        let (stop, stopped) = watch::channel(false);
        let (reply, ended) = bounded(1);
        let shared = Arc::clone(shared);
        let control = self.control.try_clone()?;
        let metrics = self.metrics.as_ref().map(TcpListener::try_clone).transpose()?;
        let serve = move || {
            runtime.block_on(async {
                if let Some(listener) = metrics {
                    tokio::spawn(observe(listener, Arc::clone(&shared), stopped.clone()));
                }
                if let Err(error) = control::serve(control, shared, stopped).await {
                    tracing::error!("the control socket failed: {error}");
                }
            });
            // Nobody may wait.
            let _gone = reply.try_send(());
        };
        let thread = std::thread::Builder::new().name("control".into());
        thread.spawn(serve).context("starting the control thread")?;
        Ok(Serving { stop, ended })
    }
}

/// Serves the metrics until it is told to stop.
async fn observe(listener: TcpListener, observed: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let served = tokio::select! {
        served = metrics::serve(listener, observed) => served,
        _ = stopped.wait_for(|stopped| *stopped) => Ok(()),
    };
    if let Err(error) = served {
        tracing::error!("the metrics failed: {error}");
    }
}
