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

/// How long an issuer may take over a link, which signs within milliseconds: one that has just died is
/// still linked until its silence is noticed.
const OVER_LINK: Duration = Duration::from_secs(10);

/// How long an issuer may take in all before the next one is asked: over its link, and at two addresses
/// that swallow what is sent to them.
const EACH: Duration = Duration::from_secs(30);

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
        match within(EACH, &issuer, ask(app, &issuer, &request)).await {
            Ok(reply) => return app.core(move |core| core.take_certificate(&reply)).await,
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Asks an issuer over the link to it, or at its API where there is none: a host that was off for longer
/// than a certificate lives has no link until it is renewed.
async fn ask(app: &App, issuer: &str, request: &RenewRequest) -> Result<RenewReply, Refused> {
    let over_link = async {
        let mut client = peers::connect(app, issuer).await?;
        client.post(path::RENEW, request).await.map_err(peers::answered)
    };
    let mut last = match within(OVER_LINK, issuer, over_link).await {
        Ok(reply) => return Ok(reply),
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

/// The answer of an issuer if it comes in time.
async fn within(
    time: Duration,
    issuer: &str,
    answer: impl Future<Output = Result<RenewReply, Refused>>,
) -> Result<RenewReply, Refused> {
    tokio::time::timeout(time, answer).await.unwrap_or_else(|_| {
        let text = format!("expected an answer of the issuer {issuer}, got none in {time:?}");
        Err(Refused::new(ErrorCode::Unavailable, text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_that_never_answers_is_passed_over() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let silent = std::future::pending();
        let error =
            runtime.block_on(within(Duration::from_millis(1), "edge-a", silent)).unwrap_err();
        assert_eq!(error.0.code, ErrorCode::Unavailable);
        assert!(error.0.message.contains("edge-a"), "{}", error.0.message);
    }
}
