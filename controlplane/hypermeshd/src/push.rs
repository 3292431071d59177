//! Keeps stoqd at the newest bundle: pushes when the ledger rises, and looks every few seconds
//! whether stoqd lost it, as it does when it starts anew.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::app::App;
use crate::refused::Refused;
use crate::stoqd::StoqdError;

/// How often stoqd is asked for what it enforces.
const LOOK_EVERY: Duration = Duration::from_secs(3);

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
        if let Err(error) = bring_up(&app).await {
            tracing::debug!(%error, "stoqd does not have the newest bundle");
        }
        // A rise or the next look, whichever comes first.
        let _ = tokio::time::timeout(LOOK_EVERY, height.changed()).await;
    }
}

async fn bring_up(app: &App) -> Result<(), PushError> {
    if app.core(|core| Ok(core.height())).await? == 0 {
        return Ok(());
    }
    let enforced = app.stoqd().status().await?.bundle;
    let newest = app.core(|core| core.bundle_number()).await?;
    if enforced.is_some_and(|enforced| enforced >= newest) { Ok(()) } else { push(app).await }
}
