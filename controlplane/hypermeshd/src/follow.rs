//! Keeps up with the sequencer: long polls its commands over STOQ, applies them with their hashes,
//! and fetches the bundle that goes with them.

use std::time::Duration;

use hypermesh_api::{BundleReply, Client, Commands, Done, ErrorCode, Snapshot, path};
use stoq_audit::Outcome;

use crate::app::App;
use crate::core::Followed;
use crate::refused::Refused;
use crate::{peers, recover};

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
        let (above, term) = app.core(|core| Ok(core.standing_at())).await?;
        let query = format!("{}?above={above}&wait_s={WAIT_S}&term={term}", path::COMMANDS);
        match client.get::<Commands>(&query).await.map_err(peers::answered) {
            Ok(commands) => take(app, &mut client, commands).await?,
            Err(refused) if refused.0.code == ErrorCode::NotFound => {
                take_snapshot(app, &mut client).await?;
            }
            Err(refused) => return Err(refused),
        }
        fetch_bundle(app, &mut client).await?;
    }
}

async fn take(app: &App, client: &mut Client, commands: Commands) -> Result<(), Refused> {
    match app.core(move |core| core.take_commands(commands)).await {
        Ok(Followed::Taken) => Ok(()),
        Ok(Followed::Later) => {
            // What is revoked here has to be in what takes the place of this ledger.
            match report(app, client).await {
                Err(refused) if is_passing(refused.0.code) => return Err(refused),
                Err(refused) => tracing::warn!(%refused, "what is revoked here was not taken"),
                Ok(()) => {}
            }
            take_snapshot(app, client).await
        }
        Err(error) => {
            recover::tell_doubt(app).await;
            // It may be the sequencer that is wrong: the head here shows it.
            let told = report(app, client).await;
            tracing::debug!(?told, "the sequencer was told of the ledger here");
            Err(error)
        }
    }
}

/// Whether the same may succeed later.
const fn is_passing(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::Unavailable | ErrorCode::Storage | ErrorCode::Internal)
}

/// Tells the sequencer what this host's ledger comes to, and what is revoked in it.
async fn report(app: &App, client: &mut Client) -> Result<(), Refused> {
    let report = app.core(|core| core.report()).await?;
    client.post::<_, Done>(path::LEDGER_HEAD, &report).await.map_err(peers::answered)?;
    Ok(())
}

async fn take_snapshot(app: &App, client: &mut Client) -> Result<(), Refused> {
    let snapshot: Snapshot = client.get(path::SNAPSHOT).await.map_err(peers::answered)?;
    let (_, before) = app.core(|core| Ok(core.standing_at())).await?;
    let taken = app.core(move |core| core.take_snapshot(&snapshot)).await;
    let lost = match taken {
        Ok(lost) => lost,
        Err(error) => {
            recover::tell_doubt(app).await;
            return Err(error);
        }
    };
    let (_, term) = app.core(|core| Ok(core.standing_at())).await?;
    if term != before {
        app.metrics().ledger_replaced.inc();
        let lost = lost.unwrap_or_else(|| "nothing was lost".into());
        tracing::warn!(term, lost, "took the ledger of the restored sequencer");
        let action = format!("follow-restored term {term}: {lost}");
        app.audit("hypermeshd".into(), action, Outcome::Done).await;
    }
    app.bundle_changed();
    Ok(())
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
