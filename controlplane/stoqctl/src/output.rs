//! What a command says: its answer on standard output, as people or as scripts (`--json`) want it, and
//! what it waits for on standard error. Every command answers through [`answer`], so that none has an
//! answer for people alone; the types that it is given are the schema that scripts rely on.

use std::io::{self, Write};

use serde::Serialize;
use stoq_tuning::Verdict;

use crate::failure::Failure;

/// Writes `answer` as JSON if that was asked for, else what `shown` makes of it.
pub fn answer<T: Serialize>(
    json: bool,
    answer: &T,
    shown: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    if !json {
        return print(&shown(answer));
    }
    let text = serde_json::to_string_pretty(answer)
        .map_err(|error| Failure::Refused(format!("expected an answer, got: {error}")))?;
    print(&(text + "\n"))
}

/// Writes to standard output; a reader that has gone away is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::writing("standard output".into(), &error))
}

/// Says on standard error what is being waited for; standard output is the answer's alone.
pub fn progress(what: &str) {
    eprintln!("{what}");
}

/// What one stage found, as scripts read it.
#[derive(Debug, Serialize)]
pub struct Finding<'a> {
    /// The stage's name.
    stage: &'a str,
    /// `good`, `advice` (works, but would work better otherwise) or `problem` (keeps traffic from
    /// flowing).
    verdict: &'static str,
    /// What is.
    is: &'a str,
    /// What it should be; empty if that is what is.
    should: &'a str,
    /// Why it matters; empty if all is good.
    why: &'a str,
    /// The command that mends it, or what to do; empty if all is good.
    mend: &'a str,
}

impl<'a> From<&'a stoq_tuning::Finding> for Finding<'a> {
    fn from(finding: &'a stoq_tuning::Finding) -> Self {
        let stoq_tuning::Finding { stage, verdict, is, should, why, mend } = finding;
        let verdict = match verdict {
            Verdict::Good => "good",
            Verdict::Advice => "advice",
            Verdict::Problem => "problem",
        };
        Self { stage, verdict, is, should, why, mend }
    }
}
