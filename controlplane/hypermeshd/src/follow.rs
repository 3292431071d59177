//! Keeps up with the sequencer: long polls its commands over STOQ, applies them with their hashes,
//! and fetches the bundle that goes with them.

use std::time::Duration;

use hypermesh_api::{BundleReply, Client, Commands, ErrorCode, Snapshot, path};

use crate::app::App;
use crate::peers;
use crate::refused::Refused;

/// How long the sequencer holds a poll without news, in seconds.
const WAIT_S: u64 = 50;

/// How long to wait after a failure: the link or stoqd may come back at any time, and an attempt
/// costs next to nothing.
const RETRY: Duration = Duration::from_secs(2);

/// Runs for as long as the daemon does; idle where there is nothing to follow.
pub async fn run(app: App) {
    loop {
        match follow(&app).await {
            Ok(()) => {}
            Err(error) if error.0.code == ErrorCode::Unavailable => {
                tracing::debug!(%error, "cannot follow the sequencer now");
            }
            Err(error) => tracing::warn!(%error, "cannot follow the sequencer"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Follows over one connection, until it fails.
async fn follow(app: &App) -> Result<(), Refused> {
    if app.core(|core| Ok(!core.follows())).await? {
        return Ok(());
    }
    let Some(mut client) = peers::connect_sequencer(app).await? else { return Ok(()) };
    loop {
        let above = app.core(|core| Ok(core.height())).await?;
        let query = format!("{}?above={above}&wait_s={WAIT_S}", path::COMMANDS);
        match client.get::<Commands>(&query).await.map_err(peers::answered) {
            Ok(commands) => app.core(move |core| core.take_commands(commands)).await?,
            Err(refused) if refused.0.code == ErrorCode::NotFound => {
                let snapshot: Snapshot =
                    client.get(path::SNAPSHOT).await.map_err(peers::answered)?;
                app.core(move |core| core.take_snapshot(&snapshot)).await?;
            }
            Err(refused) => return Err(refused),
        }
        fetch_bundle(app, &mut client).await?;
    }
}

/// An issuer makes its own bundle; everyone else takes one.
async fn fetch_bundle(app: &App, client: &mut Client) -> Result<(), Refused> {
    let behind = |core: &mut crate::core::Core| Ok(core.needs_bundle());
    if !app.core(behind).await? {
        return Ok(());
    }
    let bundle: BundleReply = client.get(path::BUNDLE).await.map_err(peers::answered)?;
    app.core(move |core| core.take_bundle(bundle)).await?;
    app.bundle_changed();
    Ok(())
}
