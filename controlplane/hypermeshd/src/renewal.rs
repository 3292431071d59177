//! Renews this node's certificate in time: by its own issuer, or by any other over STOQ, and has
//! stoqd read it.

use std::time::Duration;

use hypermesh_api::{RenewReply, path};

use crate::app::App;
use crate::refused::Refused;
use crate::{clock, files, peers};

/// How often the clock is looked at: a host that slept, or whose clock was set, renews at once.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long to wait after a failure. A third of a day is left for a hundred tries and more.
const RETRY: Duration = Duration::from_secs(30);

/// Runs for as long as the daemon does.
pub async fn run(app: App) {
    loop {
        let pause = match renew_if_due(&app).await {
            Ok(()) => LOOK_EVERY,
            Err(error) => {
                app.metrics().renewal_failed.inc();
                tracing::warn!(%error, "cannot renew the certificate");
                RETRY
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn renew_if_due(app: &App) -> Result<(), Refused> {
    let now_s = clock::now_s();
    if !app.core(move |core| Ok(core.renewal_is_due(now_s))).await? {
        return Ok(());
    }
    renew(app).await?;
    app.metrics().renewed.inc();
    let identity = app.core(|core| Ok(core.dir.path(files::IDENTITY))).await?;
    if let Err(error) = app.stoqd().identity(&identity).await {
        // It reads the file when it starts.
        tracing::warn!(%error, "stoqd did not read the renewed certificate");
    }
    Ok(())
}

/// Asks the issuers in order; the first that answers counts.
async fn renew(app: &App) -> Result<(), Refused> {
    let (own, others) = app.core(|core| core.issuers()).await?;
    if own {
        return app.core(|core| core.renew_self().map(drop)).await;
    }
    let request = app.core(|core| core.renewal_request(clock::now_s())).await?;
    let mut last = Refused::new(hypermesh_api::ErrorCode::Unavailable, "the mesh has no issuer");
    for issuer in others {
        let asked = async {
            let mut client = peers::connect(app, &issuer).await?;
            client.post::<_, RenewReply>(path::RENEW, &request).await.map_err(peers::answered)
        };
        match asked.await {
            Ok(reply) => return app.core(move |core| core.take_certificate(&reply)).await,
            Err(error) => last = error,
        }
    }
    Err(last)
}
