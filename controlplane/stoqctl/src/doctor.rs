//! `stoqctl doctor`: what is wrong with this host and this node, and what mends it.
//!
//! The host's stages come from `stoq-tuning`, what only a node has from [`node`].
//! This module puts them together and shows them.

use std::fmt::Write;
use std::path::Path;
use std::time::SystemTime;

use serde::Serialize;
use stoq_tuning::{Finding, Host, Verdict};

use crate::failure::Failure;
use crate::node;
use crate::output::{self, answer};

/// The report, as scripts read it.
#[derive(Serialize)]
struct Report<'a> {
    /// Every stage's.
    findings: Vec<output::Finding<'a>>,
    /// How many keep traffic from flowing.
    problems: usize,
    /// How many would be better otherwise.
    advice: usize,
}

impl<'a> Report<'a> {
    fn of(findings: &'a [Finding]) -> Self {
        Self {
            findings: findings.iter().map(output::Finding::from).collect(),
            problems: count(findings, Verdict::Problem),
            advice: count(findings, Verdict::Advice),
        }
    }
}

/// Carries out the command. Problems end it as wrong configuration does.
pub fn run(socket: &Path, config: &Path, json: bool) -> Result<(), Failure> {
    let (configured, mut findings) = node::configuration(config);
    if let Some(files) = &configured.identity {
        findings.extend(node::identity(files, SystemTime::now()));
    }
    let (running_port, daemon) = node::daemon(configured.socket(socket));
    findings.extend(stoq_tuning::check(&Host::this(), &configured.plan(running_port)));
    add_news(&mut findings, daemon);
    answer(json, &Report::of(&findings), |_| report(&findings))?;
    if count(&findings, Verdict::Problem) == 0 {
        return Ok(());
    }
    Err(Failure::Usage(
        "expected nothing that keeps traffic from flowing, got the problems above".to_owned(),
    ))
}

/// Adds what the daemon found, without its warnings about what a stage of the host has named already:
/// they end with the command that the stage begins with.
fn add_news(findings: &mut Vec<Finding>, daemon: Vec<Finding>) {
    let command = |finding: &Finding| finding.mend.split(" && ").next().map(str::to_owned);
    let named: Vec<String> = findings
        .iter()
        .filter(|finding| finding.verdict != Verdict::Good)
        .filter_map(command)
        .collect();
    let is_news = |finding: &Finding| !named.iter().any(|command| finding.is.ends_with(command));
    findings.extend(daemon.into_iter().filter(is_news));
}

/// All findings: one line for what is good, the remedy and its reason for what is not.
fn report(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.stage.len()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        let mark = match finding.verdict {
            Verdict::Good => "good   ",
            Verdict::Advice => "advice ",
            Verdict::Problem => "PROBLEM",
        };
        let _ = writeln!(text, "{mark}  {:width$}  {}", finding.stage, finding.is);
        if finding.verdict != Verdict::Good {
            let indent = " ".repeat("PROBLEM".len() + 2 + width + 2);
            let _ = writeln!(text, "{indent}should be: {}", finding.should);
            let _ = writeln!(text, "{indent}because:   {}", finding.why);
            let _ = writeln!(text, "{indent}to mend:   {}", finding.mend);
        }
    }
    let (problems, advice) = (count(findings, Verdict::Problem), count(findings, Verdict::Advice));
    let _ = writeln!(text, "\nProblems: {problems}. Advice: {advice}.");
    text
}

fn count(findings: &[Finding], verdict: Verdict) -> usize {
    findings.iter().filter(|finding| finding.verdict == verdict).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(is: &str, mend: &str) -> Finding {
        Finding {
            stage: "test",
            verdict: Verdict::Advice,
            is: is.into(),
            should: String::new(),
            why: "",
            mend: mend.into(),
        }
    }

    #[test]
    fn what_the_host_and_the_daemon_find_is_shown_once() {
        let mend = "sysctl -w net.ipv4.ip_forward=1";
        let mut findings =
            vec![advice("net.ipv4.ip_forward = 0", &format!("{mend} && echo for ever"))];
        let daemon = ["no forwarding; run: sysctl -w net.ipv4.ip_forward=1", "something else"];
        add_news(&mut findings, daemon.map(|is| advice(is, "see the warning")).to_vec());
        let shown: Vec<_> = findings.iter().map(|finding| finding.is.as_str()).collect();
        assert_eq!(shown, ["net.ipv4.ip_forward = 0", "something else"]);
    }

    #[test]
    fn what_is_wrong_is_shown_with_reason_and_remedy() {
        let findings = [
            Finding::good("kernel", "Linux 6.12"),
            Finding {
                stage: "tun",
                verdict: Verdict::Problem,
                is: "missing".into(),
                should: "there".into(),
                why: "the tunnel needs it",
                mend: "modprobe tun".into(),
            },
        ];
        let expected = "\
good     kernel  Linux 6.12
PROBLEM  tun     missing
                 should be: there
                 because:   the tunnel needs it
                 to mend:   modprobe tun

Problems: 1. Advice: 0.
";
        assert_eq!(report(&findings), expected);
    }
}
