//! What a host must be like to carry a site's traffic: a list of small stages, each of which looks
//! at one thing and says what it is, what it should be, why, and what mends it.
//!
//! `stoqctl doctor` runs [`check`] and shows the findings. Nothing here changes the host. Reading
//! ([`Host`]) is apart from judging (the stages) and from parsing, so that stages are tested on the
//! files of hosts that are not this one.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

mod cpu;
mod host;
mod kernel;
mod network;
mod socket;

pub use host::{Host, Ruleset};

/// What the configuration asks of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The WAN interface (`transport.interface`), when one is configured.
    pub interface: Option<String>,
    /// The UDP ports that stoqd accepts connections on (`transport.listen`).
    pub listen_ports: Vec<u16>,
    /// Whether stoqd runs now, and so rightly holds those ports.
    pub daemon_runs: bool,
}

/// How a finding is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Works, but would work better otherwise; or could not be seen from here.
    Advice,
    /// Keeps traffic from flowing.
    Problem,
}

/// What one stage found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The stage's name, one word.
    pub stage: &'static str,
    /// How to take it.
    pub verdict: Verdict,
    /// What is.
    pub is: String,
    /// What it should be.
    pub should: String,
    /// Why it matters.
    pub why: &'static str,
    /// The command that mends it, or what to do where no command can; empty when all is good.
    pub mend: String,
}

impl Finding {
    /// A finding that needs nothing done.
    #[must_use]
    pub fn good(stage: &'static str, is: impl Into<String>) -> Self {
        let (should, mend) = (String::new(), String::new());
        Self { stage, verdict: Verdict::Good, is: is.into(), should, why: "", mend }
    }
}

/// One stage: its name, why it is looked at, and the look.
struct Stage {
    name: &'static str,
    why: &'static str,
    look: fn(&Host, &Plan) -> Look,
}

/// What a stage saw, without its name and reason.
enum Look {
    /// As it should be: what is.
    Good(String),
    /// Not as it should be.
    Bad { verdict: Verdict, is: String, should: String, mend: String },
}

impl Look {
    fn bad(
        verdict: Verdict,
        is: impl Into<String>,
        should: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self::Bad { verdict, is: is.into(), should: should.into(), mend: mend.into() }
    }
}

/// Every stage, in the order in which an operator would mend them.
const STAGES: &[Stage] = &[
    kernel::VERSION,
    kernel::CAPABILITIES,
    kernel::TUN,
    kernel::IO_URING,
    kernel::OFFLOADS,
    network::FORWARDING_V4,
    network::FORWARDING_V6,
    network::INTERFACE,
    network::MTU,
    network::REVERSE_PATH,
    socket::RECEIVE_BUFFER,
    socket::SEND_BUFFER,
    socket::PORT,
    socket::FIREWALL,
    cpu::CORES,
    cpu::GOVERNOR,
];

/// Runs every stage.
#[must_use]
pub fn check(host: &Host, plan: &Plan) -> Vec<Finding> {
    STAGES.iter().map(|stage| stage.check(host, plan)).collect()
}

impl Stage {
    fn check(&self, host: &Host, plan: &Plan) -> Finding {
        match (self.look)(host, plan) {
            Look::Good(is) => Finding::good(self.name, is),
            Look::Bad { verdict, is, should, mend } => {
                Finding { stage: self.name, verdict, is, should, why: self.why, mend }
            }
        }
    }
}

/// The command that sets a sysctl now and after the next boot.
fn set_sysctl(key: &str, value: &str) -> String {
    format!("sysctl -w {key}={value} && echo '{key} = {value}' >> /etc/sysctl.d/90-stoq.conf")
}

#[cfg(test)]
mod tests;
