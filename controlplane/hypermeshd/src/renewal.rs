//! Renews this node's certificate in time: by its own issuer, or by any other over STOQ or at its API,
//! and has stoqd read it.

use std::time::Duration;

use hypermesh_api::{ErrorCode, RenewReply, RenewRequest, path};

use crate::app::App;
use crate::refused::Refused;
use crate::{clock, files, join, peers};

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
    let mut last = Refused::new(ErrorCode::Unavailable, "the mesh has no issuer");
    for issuer in others {
        match ask(app, &issuer, &request).await {
            Ok(reply) => return app.core(move |core| core.take_certificate(&reply)).await,
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Asks an issuer over the link to it, or at its API where there is none: a host that was off for longer
/// than a certificate lives has no link until it is renewed.
async fn ask(app: &App, issuer: &str, request: &RenewRequest) -> Result<RenewReply, Refused> {
    let mut last = match peers::connect(app, issuer).await {
        Ok(mut client) => match client.post(path::RENEW, request).await {
            Ok(reply) => return Ok(reply),
            Err(error) => peers::answered(error),
        },
        Err(error) => error,
    };
    let node = issuer.to_owned();
    let (addresses, root) = app.core(move |core| core.api_of(&node)).await?;
    for address in addresses {
        match join::reach(&address.to_string(), root).await {
            Ok((mut client, _)) => {
                return client.post(path::RENEW, request).await.map_err(peers::answered);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
