//! What `stoqctl tune --json` answers. These names are an interface: scripts rest on them. Called by
//! `tune`.

use serde::Serialize;
use stoq_tuning::{Applied, Finding, Outcome, Step, Verdict};

/// What a stage found.
#[derive(Debug, Serialize)]
pub struct Found<'a> {
    stage: &'static str,
    /// `good`, `advice` or `problem`.
    verdict: &'static str,
    is: &'a str,
    should: &'a str,
    why: &'static str,
    gain: &'static str,
    mend: &'a str,
}

/// What a stage found, and what was done about it.
#[derive(Debug, Serialize)]
pub struct Done<'a> {
    #[serde(flatten)]
    found: Found<'a>,
    steps: Vec<Made>,
}

/// What became of a setting.
#[derive(Debug, Serialize)]
pub struct Made {
    setting: String,
    /// `as-it-was`, `changed`, `rebooted`, `unseen` or `failed`.
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The findings.
pub fn found(findings: &[Finding]) -> Vec<Found<'_>> {
    findings.iter().map(one).collect()
}

/// What was applied.
pub fn done(applied: &[Applied]) -> Vec<Done<'_>> {
    let stages = applied.iter();
    stages.map(|stage| Done { found: one(&stage.finding), steps: made(&stage.steps) }).collect()
}

/// What became of settings.
pub fn made(steps: &[Step]) -> Vec<Made> {
    steps.iter().map(step).collect()
}

fn one(finding: &Finding) -> Found<'_> {
    let verdict = match finding.verdict {
        Verdict::Good => "good",
        Verdict::Advice => "advice",
        Verdict::Problem => "problem",
    };
    let Finding { stage, is, should, why, mend, .. } = finding;
    let gain = stoq_tuning::gain(stage).unwrap_or_default();
    Found { stage, verdict, is, should, why, gain, mend }
}

fn step(step: &Step) -> Made {
    let (outcome, from, to, error) = match &step.outcome {
        Outcome::AsItWas(value) => ("as-it-was", Some(value), Some(value), None),
        Outcome::Changed { from, to } => ("changed", Some(from), Some(to), None),
        Outcome::Rebooted(now) => ("rebooted", None, now.as_ref(), None),
        Outcome::Unseen { from, error } => ("unseen", Some(from), None, Some(error)),
        Outcome::Failed(error) => ("failed", None, None, Some(error)),
    };
    let setting = step.what.to_string();
    let error = error.map(ToString::to_string);
    Made { setting, outcome, from: from.cloned(), to: to.cloned(), error }
}
