//! Applies stages to the host and undoes them.
//!
//! A stage says what should be changed ([`Change`]); this module notes what was there, makes the
//! changes, and reports each. What a driver refuses is part of the report and stops nothing. Called
//! by `stoqctl tune`.

use std::collections::BTreeSet;
use std::path::Path;

use thiserror::Error;

use crate::host::Host;
use crate::record::{Record, RecordError};
use crate::setting::{Change, Setting, SettingError};
use crate::steering::kept_interrupts;
use crate::{Finding, Look, Plan, Stage, TUNED, network};

/// Where the record is kept.
pub const DEFAULT_RECORD: &str = "/var/lib/stoq/tuning.json";

/// Why nothing was applied or undone.
#[derive(Debug, Error)]
pub enum TuneError {
    /// No stage has this name.
    #[error("expected a stage ({}), got `{name}`", stage_names().collect::<Vec<_>>().join(", "))]
    NoStage {
        /// What was asked for.
        name: String,
    },
    /// The interface of the configuration is not there.
    #[error("expected the interface of the configuration, got: {}; {}", .0.is, .0.mend)]
    NoInterface(Finding),
    /// The record cannot be used. What was changed before it failed is in it.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// What one stage found, and what was done about it.
#[derive(Debug)]
pub struct Applied {
    /// The finding before.
    pub finding: Finding,
    /// What was done, in order. Empty when there was nothing to do.
    pub steps: Vec<Step>,
}

/// What was done to one setting.
#[derive(Debug)]
pub struct Step {
    /// The setting.
    pub what: Setting,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of setting one value.
#[derive(Debug)]
pub enum Outcome {
    /// It had the value already.
    AsItWas(String),
    /// It was changed. `to` is what it was found to be afterwards, which a driver may have chosen.
    Changed {
        /// The value before.
        from: String,
        /// The value after.
        to: String,
    },
    /// It was set in an earlier boot, and a reboot has restored it: it is left as it is.
    Rebooted(Option<String>),
    /// It was set without complaint, and could not be read then.
    Unseen {
        /// The value before.
        from: String,
        /// Why.
        error: SettingError,
    },
    /// It stayed at what it is.
    Failed(SettingError),
}

impl Outcome {
    /// Whether the driver kept it from being set. That nothing is there any more is no refusal.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Failed(error) if !matches!(error, SettingError::Gone(_)))
    }
}

/// What a stage that can be applied gains, and how that is known; `None` for any other.
#[must_use]
pub fn gain(stage: &str) -> Option<&'static str> {
    TUNED.iter().find(|known| known.stage.name == stage).map(|known| known.gain)
}

/// The names of the stages that can be applied, in their order.
pub fn stage_names() -> impl Iterator<Item = &'static str> {
    TUNED.iter().map(|tuned| tuned.stage.name)
}

/// The findings of the stages that can be applied, or of one.
///
/// # Errors
/// If there is no such stage or interface.
pub fn check_tuned(
    host: &Host,
    plan: &Plan,
    only: Option<&str>,
) -> Result<Vec<Finding>, TuneError> {
    require_stage(only)?;
    require_interface(host, plan)?;
    Ok(selected(only).map(|stage| stage.check(host, plan)).collect())
}

/// Applies the stages, or one, and records in the file `record` what was there before.
///
/// # Errors
/// If there is no such stage or interface, or the record cannot be used. A driver's refusal is no
/// error: it is in the report.
pub fn apply(
    host: &Host,
    plan: &Plan,
    only: Option<&str>,
    record: &Path,
) -> Result<Vec<Applied>, TuneError> {
    require_stage(only)?;
    require_interface(host, plan)?;
    let Some(mut record) = Record::open(record, true, host.boot())? else { return Ok(Vec::new()) };
    record.save()?;
    let mut applied = Vec::new();
    // One after the other: what a stage finds depends on what those before it have changed.
    for stage in selected(only) {
        let look = (stage.look)(host, plan);
        let changes = if let Look::Settable { changes, .. } = &look { &changes[..] } else { &[] };
        let steps = change(host, stage.name, changes, &mut record)?;
        applied.push(Applied { finding: stage.finding(look), steps });
    }
    Ok(applied)
}

/// Restores what the stages, or one, have changed. Empty when nothing is recorded.
///
/// What is gone with its interface is forgotten; what the driver refuses stays recorded. What was set in
/// an earlier boot is left as it is, and forgotten: the reboot has restored it.
///
/// # Errors
/// If there is no such stage, or the record cannot be used.
pub fn undo(host: &Host, only: Option<&str>, record: &Path) -> Result<Vec<Step>, TuneError> {
    require_stage(only)?;
    let Some(mut record) = Record::open(record, false, host.boot())? else { return Ok(Vec::new()) };
    let held = |stage: &String| only.is_none_or(|only| stage == only);
    if keep_interrupts(host, &mut record, held) {
        record.save()?;
    }
    let due = record.entries().filter(|(_, entry)| entry.stages.iter().any(held));
    let due: Vec<_> = due.map(|(what, entry)| (what.clone(), entry.clone())).collect();
    let rebooted = |what: &Setting| {
        let outcome = Outcome::Rebooted(host.get(what).ok());
        Step { what: what.clone(), outcome }
    };
    let mut steps: Vec<Step> = record.over().iter().map(rebooted).collect();
    let mut refused = BTreeSet::new();
    for (what, entry) in due {
        let outcome = set(host, &what, &entry.was);
        let stages: Vec<_> = entry.stages.into_iter().filter(held).collect();
        if outcome.is_refused() {
            refused.extend(stages.iter().cloned());
        }
        // A stage is undone whole: an interrupt may be gone, or be set in vain, only because the
        // channels before it could not be restored.
        for stage in stages.iter().filter(|stage| !refused.contains(*stage)) {
            record.release(stage, &what);
        }
        steps.push(Step { what, outcome });
    }
    record.save()?;
    Ok(steps)
}

/// Notes the cores of the interrupts that restoring the rings makes the driver request anew. There may
/// be more of them than when the rings were set: the channels may have been restored since. Returns
/// whether there are any.
fn keep_interrupts(host: &Host, record: &mut Record, held: impl Fn(&String) -> bool) -> bool {
    let mut kept = Vec::new();
    for (what, entry) in record.entries() {
        let Setting::Rings { interface } = what else { continue };
        for stage in entry.stages.iter().filter(|stage| held(stage)) {
            kept.extend(kept_interrupts(host, interface).map(|change| (stage.clone(), change)));
        }
    }
    for (stage, change) in &kept {
        record.hold(stage, change);
    }
    !kept.is_empty()
}

/// The stages to run, in their order.
fn selected(only: Option<&str>) -> impl Iterator<Item = &'static Stage> {
    let stages = TUNED.iter().map(|tuned| &tuned.stage);
    stages.filter(move |stage| only.is_none_or(|name| stage.name == name))
}

fn require_stage(only: Option<&str>) -> Result<(), TuneError> {
    match only {
        Some(name) if !stage_names().any(|known| known == name) => {
            Err(TuneError::NoStage { name: name.to_owned() })
        }
        _ => Ok(()),
    }
}

/// A misspelt interface would make every stage find nothing to do.
fn require_interface(host: &Host, plan: &Plan) -> Result<(), TuneError> {
    match &plan.interface {
        Some(name) if !network::is_there(host, name) => {
            Err(TuneError::NoInterface(network::INTERFACE.check(host, plan)))
        }
        _ => Ok(()),
    }
}

/// Makes the changes of one stage. On disk is first what was there before.
fn change(
    host: &Host,
    stage: &str,
    changes: &[Change],
    record: &mut Record,
) -> Result<Vec<Step>, RecordError> {
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    let news: Vec<_> = changes.iter().filter(|change| record.hold(stage, change)).collect();
    record.save()?;
    let mut steps = Vec::new();
    for Change { what, to, .. } in changes {
        steps.push(Step { what: what.clone(), outcome: set(host, what, to) });
    }
    // What the driver refused is as it was, and a stage without effect has no side effect either.
    let effective = steps
        .iter()
        .any(|step| matches!(step.outcome, Outcome::Changed { .. } | Outcome::Unseen { .. }));
    let refused = |what: &Setting| {
        steps.iter().any(|step| step.what == *what && matches!(step.outcome, Outcome::Failed(_)))
    };
    for Change { what, was, to } in news {
        let without_effect = !effective || (was != to && refused(what));
        if without_effect && host.get(what).is_ok_and(|now| now == *was) {
            record.release(stage, what);
        }
    }
    record.save()?;
    Ok(steps)
}

/// Gives a setting a value, unless it has it, and sees what it has then.
fn set(host: &Host, what: &Setting, to: &str) -> Outcome {
    let from = match host.get(what) {
        Ok(from) if from == to => return Outcome::AsItWas(from),
        Ok(from) => from,
        Err(error) => return Outcome::Failed(error),
    };
    if let Err(error) = host.set(what, to) {
        return Outcome::Failed(error);
    }
    match host.get(what) {
        Ok(now) if now == from => Outcome::Failed(SettingError::Ignored(from)),
        Ok(to) => Outcome::Changed { from, to },
        Err(error) => Outcome::Unseen { from, error },
    }
}
