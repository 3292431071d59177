//! `stoqctl tune`: sets the host so that packets reach the worker that owns them, and undoes it.
//!
//! The stages come from `stoq-tuning`. This module asks for the plan and runs them; what they found
//! and did is shown by [`report`], and how it looks for scripts is in [`script`].

mod report;
mod script;

use std::path::Path;

use nix::unistd::geteuid;
use stoq_tuning::{Host, Plan, Verdict};

use crate::cli::{Only, Tune};
use crate::failure::Failure;
use crate::node;
use crate::output::answer;

/// Carries out one of the commands.
pub fn run(socket: &Path, command: &Tune, json: bool) -> Result<(), Failure> {
    match command {
        Tune::Check { only, config } => {
            let plan = plan(socket, &config.config)?;
            let stage = only.stage.as_deref();
            let findings = stoq_tuning::check_tuned(&Host::this(), &plan, stage)?;
            answer(json, &script::found(&findings), |_| report::found(&findings))
        }
        Tune::Apply { only, config, record } => {
            require_root("apply", only)?;
            let plan = plan(socket, &config.config)?;
            let stage = only.stage.as_deref();
            let applied = stoq_tuning::apply(&Host::this(), &plan, stage, &record.record)?;
            answer(json, &script::done(&applied), |_| report::done(&applied))
        }
        Tune::Undo { only, record } => {
            require_root("undo", only)?;
            let steps = stoq_tuning::undo(&Host::this(), only.stage.as_deref(), &record.record)?;
            let shown = |_: &_| report::undone(&steps, &record.record);
            answer(json, &script::made(&steps), shown)?;
            if steps.iter().any(|step| step.outcome.is_refused()) {
                return Err(Failure::Usage(format!(
                    "expected to restore everything, but a driver refused; what is left stays in {} \
                     for another `stoqctl tune undo`",
                    record.record.display()
                )));
            }
            Ok(())
        }
        Tune::Cores { config } => {
            let host = Host::this();
            let cores = plan(socket, &config.config)?.core_plan(&host);
            let by_itself = stoq_tuning::control_cores(&host);
            let shown = |cores: &_| report::cores(cores, by_itself.as_deref());
            answer(json, &cores, shown)
        }
    }
}

/// Only root may write to drivers and to /proc/irq.
fn require_root(action: &str, only: &Only) -> Result<(), Failure> {
    let user = geteuid();
    if user.is_root() {
        return Ok(());
    }
    let command = ["sudo stoqctl tune", action].into_iter().chain(only.stage.as_deref());
    let command = command.collect::<Vec<_>>().join(" ");
    Err(Failure::Usage(format!("expected root, got user id {user}; run `{command}`")))
}

/// What the configuration asks of the host. Without one there is nothing to go by.
fn plan(socket: &Path, config: &Path) -> Result<Plan, Failure> {
    let (configured, findings) = node::configuration(config);
    if let Some(bad) = findings.iter().find(|finding| finding.verdict == Verdict::Problem) {
        return Err(Failure::Usage(format!("{}; {}", bad.is, bad.mend)));
    }
    let (running_port, _) = node::daemon(configured.socket(socket));
    Ok(configured.plan(running_port))
}
