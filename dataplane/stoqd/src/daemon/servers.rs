//! Control socket and metrics: one thread beside the workers serves both.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::shared::Shared;
use crate::config::Config;
use crate::{control, metrics};

/// Bound sockets; bound while privilege lasts.
pub(super) struct Listeners {
    control: UnixListener,
    metrics: Option<TcpListener>,
}

impl Listeners {
    /// Binds what the configuration names.
    pub fn bind(config: &Config) -> Result<Self> {
        let socket = &config.control.socket;
        if let Some(directory) = socket.parent() {
            crate::broker::privilege::make_directory(directory, &config.node.user)?;
        }
        let control = control::bind(socket)?;
        let metrics = config.metrics.as_ref().map(|metrics| metrics::bind(metrics.listen));
        Ok(Self { control, metrics: metrics.transpose()? })
    }

    /// Starts the thread. It ends with the process.
    pub fn serve(self, shared: &Arc<Shared>) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("starting the control thread")?;
        let shared = Arc::clone(shared);
        let serve = move || {
            runtime.block_on(async {
                if let Some(listener) = self.metrics {
                    tokio::spawn(metrics::serve(listener, Arc::clone(&shared)));
                }
                if let Err(error) = control::serve(self.control, shared).await {
                    tracing::error!("the control socket failed: {error}");
                }
            });
        };
        let thread = std::thread::Builder::new().name("control".into());
        thread.spawn(serve).context("starting the control thread")?;
        Ok(())
    }
}
