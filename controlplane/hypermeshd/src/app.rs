//! What the routes share: the daemon's state behind one lock, and how a request becomes a call on
//! it: checked, run off the async thread, counted, audited.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use hypermesh_api::{ErrorCode, Refusal};
use serde::de::DeserializeOwned;
use stoq_audit::Outcome;
use tokio::sync::watch;

use crate::caller::{Caller, Need};
use crate::core::Core;
use crate::heads::HeadCheck;
use crate::metrics::Metrics;
use crate::names::NameService;
use crate::pace::Pace;
use crate::refusals::{Refusals, SPAN};
use crate::refused::Refused;
use crate::stoqd::Stoqd;

/// What a handler returns.
pub type Answer<T> = Result<Json<T>, Refused>;

/// The daemon as the routes and the tasks see it.
#[derive(Clone, Debug)]
pub struct App(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    core: Mutex<Core>,
    height: watch::Sender<u64>,
    metrics: Metrics,
    pace: Mutex<Pace>,
    refusals: Mutex<Refusals>,
    heads: Mutex<HeadCheck>,
    stoqd: Stoqd,
    names: NameService,
    started: Instant,
}

impl App {
    /// Shares a core.
    #[must_use]
    pub fn new(core: Core, stoqd: Stoqd, names: NameService) -> Self {
        let height = watch::Sender::new(core.height());
        Self(Arc::new(Inner {
            core: Mutex::new(core),
            height,
            metrics: Metrics::default(),
            pace: Mutex::default(),
            refusals: Mutex::default(),
            heads: Mutex::default(),
            stoqd,
            names,
            started: Instant::now(),
        }))
    }

    /// Runs `job` on the state, off the async thread. Whoever waits for the ledger is woken if it
    /// rose.
    ///
    /// # Errors
    /// Those of `job`.
    pub async fn core<T, F>(&self, job: F) -> Result<T, Refused>
    where
        T: Send + 'static,
        F: FnOnce(&mut Core) -> Result<T, Refused> + Send + 'static,
    {
        let inner = Arc::clone(&self.0);
        let run = move || {
            // A panic of a job leaves the state as the last transaction left it.
            let mut core = inner.core.lock().unwrap_or_else(PoisonError::into_inner);
            let result = job(&mut core);
            let height = core.height();
            inner.height.send_if_modified(|seen| std::mem::replace(seen, height) != height);
            result
        };
        tokio::task::spawn_blocking(run).await.map_err(Refused::internal)?
    }

    /// A request that changes nothing: checked, and audited if refused for want of a right.
    ///
    /// # Errors
    /// The refusal of the check, or that of `job`.
    pub async fn read<T, F>(&self, caller: &Caller, need: Need, job: F) -> Answer<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Core) -> Result<T, Refused> + Send + 'static,
    {
        if let Err(refusal) = caller.check(need) {
            self.audit_refusal(caller, "read", &refusal).await;
            return Err(Refused::from(refusal).written());
        }
        self.core(job).await.map(Json)
    }

    /// A request that changes something: checked, run, and audited whatever comes of it.
    ///
    /// # Errors
    /// The refusal of the check, or that of `job`.
    pub async fn change<T, F>(
        &self,
        caller: &Caller,
        need: Need,
        action: String,
        job: F,
    ) -> Answer<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Core) -> Result<T, Refused> + Send + 'static,
    {
        if let Err(refusal) = caller.check(need) {
            self.audit_refusal(caller, &action, &refusal).await;
            return Err(Refused::from(refusal).written());
        }
        self.change_checked(caller, action, job).await
    }

    /// As [`App::change`] for a caller whom the handler has checked.
    ///
    /// # Errors
    /// That of `job`.
    pub async fn change_checked<T, F>(&self, caller: &Caller, action: String, job: F) -> Answer<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Core) -> Result<T, Refused> + Send + 'static,
    {
        let actor = caller.to_string();
        // A refused stranger is audited within bounds; whoever is known, always.
        let bounded = matches!(caller, Caller::Anonymous { .. });
        let inner = Arc::clone(&self.0);
        let audited = move |core: &mut Core| {
            let result = job(core);
            match &result {
                Ok(_) => core.audit(&actor, &action, Outcome::Done),
                Err(refused) if !bounded || inner.may_audit(refused.0.code) => {
                    core.audit(&actor, &action, Outcome::Refused(refused.to_string()));
                }
                Err(_) => {}
            }
            result.map_err(Refused::written)
        };
        self.core(audited).await.map(Json)
    }

    /// Writes down that somebody was refused; how often that is done is bounded, so that nobody fills
    /// the disk by being refused.
    pub async fn audit_refusal(&self, caller: &Caller, action: &str, refusal: &Refusal) {
        if !self.0.may_audit(refusal.code) {
            return;
        }
        tracing::warn!(%caller, action, reason = refusal.message, "refused");
        let (actor, action) = (caller.to_string(), action.to_owned());
        self.audit(actor, action, Outcome::Refused(refusal.message.clone())).await;
    }

    /// Writes an entry to the audit log.
    pub async fn audit(&self, actor: String, action: String, outcome: Outcome) {
        let job = move |core: &mut Core| {
            core.audit(&actor, &action, outcome);
            Ok(())
        };
        if let Err(error) = self.core(job).await {
            tracing::warn!(%error, "cannot write to the audit log");
        }
    }

    /// Writes down what the audit log was spared of, at the end of each span, for as long as the daemon
    /// runs.
    pub async fn sum_refusals_up(self) {
        loop {
            tokio::time::sleep(SPAN).await;
            let left_out = self.0.refusals().left_out(self.0.started.elapsed());
            if let Some(text) = left_out {
                let (actor, action) = ("hypermeshd".to_owned(), "refusals".to_owned());
                self.audit(actor, action, Outcome::Refused(text)).await;
            }
        }
    }

    /// The heads of the mesh's logs that this node was shown.
    pub fn heads(&self) -> MutexGuard<'_, HeadCheck> {
        self.0.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks that a caller without a certificate does not ask too often.
    ///
    /// # Errors
    /// [`ErrorCode::Busy`].
    pub fn check_pace(&self, caller: &Caller) -> Result<(), Refused> {
        let Caller::Anonymous { address } = caller else { return Ok(()) };
        let mut pace = self.0.pace.lock().unwrap_or_else(PoisonError::into_inner);
        if pace.admit(*address, self.0.started.elapsed()) {
            return Ok(());
        }
        Err(Refused::new(ErrorCode::Busy, "too many enrolments at once; try again in a minute"))
    }

    /// The height of the ledger, to wait for the next.
    #[must_use]
    pub fn height(&self) -> watch::Receiver<u64> {
        self.0.height.subscribe()
    }

    /// Wakes whoever waits for the ledger: the bundle is another now.
    pub fn bundle_changed(&self) {
        self.0.height.send_modify(|_| {});
    }

    /// The figures.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// This host's stoqd.
    #[must_use]
    pub fn stoqd(&self) -> &Stoqd {
        &self.0.stoqd
    }

    /// The mesh's names on this host.
    #[must_use]
    pub fn names(&self) -> &NameService {
        &self.0.names
    }

    /// When the daemon started.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.0.started
    }
}

impl Inner {
    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn may_audit(&self, code: ErrorCode) -> bool {
        self.refusals().admit(code, self.started.elapsed())
    }
}

/// A JSON body; what is wrong with one is said as a refusal.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let Json(value) = Json::<T>::from_request(request, state).await?;
        Ok(Self(value))
    }
}

/// A query; what is wrong with one is said as a refusal.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await?;
        Ok(Self(query.0))
    }
}
