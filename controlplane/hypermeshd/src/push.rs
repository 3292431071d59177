//! Keeps stoqd at the newest bundle: pushes when the ledger rises and when stoqd appears, and looks
//! every few seconds whether it lost the bundle in another way.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::app::App;
use crate::refused::Refused;
use crate::stoqd::{Presence, StoqdError};

/// How often stoqd is asked for what it enforces.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// How often a stoqd that does not listen is looked for: what it forwards in the meantime, it forwards
/// by an old bundle. Ten attempts to connect are a millisecond of work.
const SEEK_EVERY: Duration = Duration::from_millis(100);

/// Why stoqd does not have the newest bundle.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// There is none to push.
    #[error(transparent)]
    Bundle(#[from] Refused),
    /// It was not taken.
    #[error(transparent)]
    Stoqd(#[from] StoqdError),
}

/// Pushes the bundle as it is now.
///
/// # Errors
/// [`PushError`].
pub async fn push(app: &App) -> Result<(), PushError> {
    let bundle = app.core(|core| core.bundle()).await?;
    app.stoqd().push(bundle.number, STANDARD.encode(&bundle.bundle.0)).await?;
    app.metrics().pushed.inc();
    Ok(())
}

/// Runs for as long as the daemon does.
pub async fn run(app: App) {
    let mut height = app.height();
    loop {
        let (presence, pause) = match bring_up(&app).await {
            Ok(presence) => (presence, LOOK_EVERY),
            // A stoqd that ends while it is asked is as absent as one that does not listen.
            Err(PushError::Stoqd(StoqdError::Unreachable { .. } | StoqdError::Ended(_))) => {
                (None, SEEK_EVERY)
            }
            Err(error) => {
                tracing::debug!(%error, "stoqd does not have the newest bundle");
                (None, LOOK_EVERY)
            }
        };
        // A rise, stoqd's end, or the next look, whichever comes first.
        tokio::select! {
            _ = height.changed() => {}
            () = ended(presence) => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Returns when stoqd goes away; never where it was not there.
async fn ended(presence: Option<Presence>) {
    match presence {
        Some(presence) => presence.ended().await,
        None => std::future::pending().await,
    }
}

async fn bring_up(app: &App) -> Result<Option<Presence>, PushError> {
    if app.core(|core| Ok(core.height())).await? == 0 {
        return Ok(None);
    }
    let (status, presence) = app.stoqd().status().await?;
    let newest = app.core(|core| core.bundle_number()).await?;
    if status.bundle.is_none_or(|enforced| enforced < newest) {
        push(app).await?;
    }
    Ok(Some(presence))
}
