//! Asks the members what a sequencer may not know: after a restore, what came after the backup; after any
//! start, whether it was restored elsewhere meanwhile. Says aloud what speaks against a ledger.
//!
//! A member's word counts for nothing: what counts is the head that it shows, signed by this sequencer's own
//! keys ([`crate::term`]).

use std::time::Duration;

use hypermesh_api::{Client, ErrorCode, HeadReply, Snapshot, path};
use stoq_audit::Outcome;

use crate::app::App;
use crate::core::{Heard, Phase};
use crate::refused::Refused;
use crate::term::Survey;
use crate::{clock, peers};

/// How often those who did not answer are asked again: a link comes up at any time.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often it is looked whether somebody has to be asked; a rise of the ledger comes first.
const IDLE: Duration = Duration::from_secs(5);

/// How long a member may take to answer: one that has just died is still linked until its silence is noticed.
const OF_ONE: Duration = Duration::from_secs(10);

/// Runs for as long as the daemon does; idle where nobody has to be asked.
pub async fn run(app: App) {
    let mut height = app.height();
    let (mut asked, mut survey) = (None, Some(Survey::default()));
    loop {
        let phase = app.core(|core| Ok(core.sequencing())).await.unwrap_or_default();
        if phase != asked {
            (asked, survey) = (phase, Some(Survey::default()));
        }
        let of = phase.filter(|phase| *phase != Phase::Superseded);
        if let (Some(phase), Some(open)) = (of, survey.as_mut()) {
            match look(&app, phase, open).await {
                Ok(true) => survey = None,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "cannot ask the members for their ledgers"),
            }
        }
        let pause = if of.is_some() && survey.is_some() { LOOK_EVERY } else { IDLE };
        // A restore is a rise of the ledger, too.
        tokio::select! {
            _ = height.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Asks once whoever has not answered yet. Returns whether that was the last time.
async fn look(app: &App, phase: Phase, survey: &mut Survey) -> Result<bool, Refused> {
    let now = || app.started().elapsed();
    if app.stoqd().seen().bundle.is_some() {
        survey.begin(now());
    }
    for member in survey.waiting(app.core(|core| core.others()).await?) {
        match tokio::time::timeout(OF_ONE, ask(app, &member)).await {
            Ok(Ok(())) => survey.heard(member, now()),
            Ok(Err(error)) => tracing::debug!(%error, member, "cannot ask for its ledger"),
            Err(_) => tracing::debug!(member, "does not say what its ledger is"),
        }
    }
    let left = survey.waiting(app.core(|core| core.others()).await?).len();
    let over = survey.is_over(left, now());
    if over && phase == Phase::Restoring {
        let term = app.core(|core| core.resume(clock::now_s())).await?;
        // Its number is another now, and followers may ask again.
        app.bundle_changed();
        let action = format!("resume term {term}");
        app.audit("hypermeshd".into(), action, Outcome::Done).await;
        tracing::info!(term, left, "the restored sequencer goes on; members left did not answer");
    }
    Ok(over)
}

/// Asks a member. What it shows may be worth nothing: then it has answered all the same.
async fn ask(app: &App, member: &str) -> Result<(), Refused> {
    let mut client = peers::connect(app, member).await?;
    let head = match client.get::<HeadReply>(path::LEDGER_HEAD).await.map_err(peers::answered) {
        Ok(reply) => reply.head,
        // One of an older release has no heads.
        Err(refused) if refused.0.code == ErrorCode::NotFound => None,
        Err(refused) => return Err(refused),
    };
    let Some(head) = head else { return Ok(()) };
    match app.core(move |core| core.hear(&head.0)).await {
        Ok(Heard::Wanted) => adopt(app, member, &mut client).await,
        Ok(Heard::Ended(_)) => {
            tell_doubt(app).await;
            Ok(())
        }
        Ok(Heard::Known) => Ok(()),
        Err(refused) => {
            tell_doubt(app).await;
            let (actor, why) = (format!("node {member}"), refused.to_string());
            app.audit(actor, "show-ledger".into(), Outcome::Refused(why)).await;
            Ok(())
        }
    }
}

/// Takes over what a member has of this sequencer's own ledger.
async fn adopt(app: &App, member: &str, client: &mut Client) -> Result<(), Refused> {
    let snapshot: Snapshot = client.get(path::SNAPSHOT).await.map_err(peers::answered)?;
    let height = snapshot.height;
    let taken = app.core(move |core| core.take_snapshot(&snapshot)).await;
    let outcome = match taken {
        Ok(_) => Outcome::Done,
        Err(refused) => Outcome::Refused(refused.to_string()),
    };
    let action = format!("recover ledger of height {height}");
    app.audit(format!("node {member}"), action, outcome).await;
    Ok(())
}

/// Counts and writes down what newly speaks against a ledger.
pub async fn tell_doubt(app: &App) {
    let Ok(Some(doubt)) = app.core(|core| Ok(core.untold_doubt())).await else { return };
    app.metrics().ledger_doubts.inc();
    tracing::error!(doubt, "the ledger is not what it should be");
    app.audit("hypermeshd".into(), "check-ledger".into(), Outcome::Refused(doubt)).await;
}
