//! What `stoqctl tune` shows: one line for each stage, and one for each setting. Called by `tune`.

use std::fmt::Write;
use std::path::Path;

use stoq_tuning::{Applied, CorePlan, Finding, Outcome, SettingError, Step, Verdict, core_list};

/// One line for each stage: what is, what it should be, what that gains.
pub fn found(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let _ = write!(text, "{:width$}  {}", finding.stage, finding.is, width = width());
        if finding.verdict == Verdict::Good {
            text.push_str(" (good)\n");
        } else {
            let gain = stoq_tuning::gain(finding.stage).unwrap_or("not known");
            let Finding { should, why, mend, .. } = finding;
            let _ = writeln!(text, " -> {should} ({why}; gain: {gain}); {mend}");
        }
    }
    text
}

/// What was changed, and for the other stages why nothing was.
pub fn done(applied: &[Applied]) -> String {
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

/// What became of each setting.
pub fn undone(steps: &[Step], record: &Path) -> String {
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
        Outcome::Rebooted(now) => {
            let now = now.as_deref().unwrap_or("not there now");
            format!("{what}: a reboot has restored it; left at {now}")
        }
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

/// Who runs where, and why. `by_itself` is where hypermeshd goes without being told.
pub fn cores(plan: &CorePlan, by_itself: Option<&[usize]>) -> String {
    let shown = |cores: &[usize]| match core_list(cores) {
        none if none.is_empty() => "-".to_owned(),
        list => list,
    };
    // In the order of the workers, which a list of ranges would hide.
    let pinned: Vec<_> = plan.pinned.iter().map(ToString::to_string).collect();
    let pinned = match pinned.is_empty() {
        true => "not pinned".to_owned(),
        false => format!("pinned to {}", pinned.join(", ")),
    };
    let mut text = format!("workers        {}, {pinned}\n", plan.workers);
    let _ = writeln!(text, "control plane  {}", shown(&plan.control));
    let _ = writeln!(text, "beside         {}", shown(&plan.beside));
    for why in &plan.why {
        let _ = writeln!(text, "because        {why}");
    }
    let disturbs = |own: &&[usize]| own.iter().any(|core| plan.pinned.contains(core));
    if let Some(own) = by_itself.filter(disturbs) {
        let (own, better) = (shown(own), shown(&plan.control));
        let _ = writeln!(text, "hypermeshd     by itself on {own}: give it `--cores {better}`");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_is_shown_and_a_disturbing_control_plane_is_told_where_to_go() {
        let plan = CorePlan {
            workers: 2,
            pinned: vec![4, 0],
            control: vec![1, 2, 3],
            beside: Vec::new(),
            why: vec!["the configuration lists the workers' cores".to_owned()],
        };
        let expected = "\
workers        2, pinned to 4, 0
control plane  1-3
beside         -
because        the configuration lists the workers' cores
";
        assert_eq!(cores(&plan, Some(&[1])), expected);
        assert_eq!(cores(&plan, None), expected);
        let told = cores(&plan, Some(&[0]));
        assert_eq!(
            told.strip_prefix(expected),
            Some("hypermeshd     by itself on 0: give it `--cores 1-3`\n")
        );
    }
}
