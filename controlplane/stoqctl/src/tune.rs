//! `stoqctl tune`: sets the host so that packets reach the worker that owns them, and undoes it.
//!
//! The stages come from `stoq-tuning`. This module asks for the plan, and shows what they found and
//! did: one line for each stage, and one for each setting.

use std::fmt::Write;
use std::path::Path;

use nix::unistd::geteuid;
use stoq_tuning::{Applied, Finding, Host, Outcome, Plan, SettingError, Step, Verdict};

use crate::cli::{Only, Tune};
use crate::failure::Failure;
use crate::node;
use crate::output::print;

/// Carries out one of the commands.
pub fn run(socket: &Path, command: &Tune) -> Result<(), Failure> {
    match command {
        Tune::Check { only, config } => {
            let plan = plan(socket, &config.config)?;
            let stage = only.stage.as_deref();
            print(&found(&stoq_tuning::check_tuned(&Host::this(), &plan, stage)?))
        }
        Tune::Apply { only, config, record } => {
            require_root("apply", only)?;
            let plan = plan(socket, &config.config)?;
            let stage = only.stage.as_deref();
            let applied = stoq_tuning::apply(&Host::this(), &plan, stage, &record.record)?;
            print(&done(&applied))
        }
        Tune::Undo { only, record } => {
            require_root("undo", only)?;
            let steps = stoq_tuning::undo(&Host::this(), only.stage.as_deref(), &record.record)?;
            print(&undone(&steps, &record.record))?;
            if steps.iter().any(|step| step.outcome.is_refused()) {
                return Err(Failure::Usage(format!(
                    "expected to restore everything, but a driver refused; what is left stays in {} \
                     for another `stoqctl tune undo`",
                    record.record.display()
                )));
            }
            Ok(())
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

/// One line for each stage: what is, what it should be, what that gains.
fn found(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let _ = write!(text, "{:width$}  {}", finding.stage, finding.is, width = width());
        if finding.verdict == Verdict::Good {
            text.push_str(" (good)\n");
        } else {
            let _ = writeln!(text, " -> {} ({}); {}", finding.should, finding.why, finding.mend);
        }
    }
    text
}

/// What was changed, and for the other stages why nothing was.
fn done(applied: &[Applied]) -> String {
    let mut text = String::new();
    for Applied { finding, steps } in applied {
        let steps: Vec<_> = steps.iter().filter(|step| is_news(step)).collect();
        if steps.is_empty() {
            let _ = write!(
                text,
                "{:width$}  unchanged: {}",
                finding.stage,
                finding.is,
                width = width()
            );
            let remark =
                if finding.mend.is_empty() { String::new() } else { format!("; {}", finding.mend) };
            let _ = writeln!(text, "{remark}");
        }
        for step in steps {
            let _ = writeln!(text, "{:width$}  {}", finding.stage, outcome(step), width = width());
        }
    }
    text
}

fn undone(steps: &[Step], record: &Path) -> String {
    if steps.is_empty() {
        return format!("Nothing to undo: {} names nothing of it.\n", record.display());
    }
    steps.iter().map(|step| outcome(step) + "\n").collect()
}

fn outcome(step: &Step) -> String {
    let what = &step.what;
    match &step.outcome {
        Outcome::AsItWas(value) => format!("{what}: {value} already"),
        Outcome::Changed { from, to } => format!("{what}: {from} -> {to}"),
        Outcome::Unseen { from, error } => format!("{what}: {from} -> not to be seen ({error})"),
        Outcome::Failed(error @ SettingError::Gone(_)) => {
            format!("{what}: {error} any more, and nothing of what was set")
        }
        Outcome::Failed(error) => format!("{what}: unchanged, {error}"),
    }
}

/// Applying also watches over settings that are to stay; only what became of the others is news.
fn is_news(step: &Step) -> bool {
    !matches!(step.outcome, Outcome::AsItWas(_) | Outcome::Failed(SettingError::Gone(_)))
}

/// The columns of the longest name of a stage.
fn width() -> usize {
    stoq_tuning::stage_names().map(str::len).max().unwrap_or(0)
}
