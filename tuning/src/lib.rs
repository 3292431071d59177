//! What a host must be like to carry a site's traffic: a list of small stages, each of which looks
//! at one thing and says what it is, what it should be, why, and what mends it.
//!
//! `stoqctl doctor` runs [`check`] and shows the findings. Some stages can also set what they look
//! at, and restore it: `stoqctl tune` runs those with [`check_tuned`], [`apply`] and [`undo`]. Reading
//! ([`Host`]) is apart from judging (the stages) and from parsing, so that stages are tested on the
//! files of hosts that are not this one; a stage never changes anything, it lists the changes
//! ([`Change`]), which `tune` records and makes.
#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

mod cpu;
mod ethtool;
mod host;
mod irq;
mod kernel;
mod network;
mod record;
mod setting;
mod socket;
mod steering;
pub mod tier;
mod tune;

pub use ethtool::{Channels, Ethtool, Flow, FlowHash};
pub use host::{Host, Ruleset};
pub use record::RecordError;
pub use setting::{Change, Setting, SettingError};
pub use tune::{
    Applied, DEFAULT_RECORD, Outcome, Step, TuneError, apply, check_tuned, stage_names, undo,
};

/// What the configuration asks of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The WAN interface (`transport.interface`), when one is configured.
    pub interface: Option<String>,
    /// The UDP ports that stoqd accepts connections on (`transport.listen`).
    pub listen_ports: Vec<u16>,
    /// Whether stoqd runs now, and so rightly holds those ports.
    pub daemon_runs: bool,
    /// The number of workers (`transport.workers`); `None` for `auto`.
    pub workers: Option<u16>,
    /// The cores that they are pinned to (`transport.cores`); `None` where stoqd chooses.
    pub cores: Option<Vec<usize>>,
    /// The port that moves packets: `transport.port`, or what stoqd has chosen where that is `auto`;
    /// `None` while it has not, and AF_XDP is possible.
    pub port: Option<String>,
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
    /// Not as it should be, and what would make it so.
    Settable { is: String, should: String, changes: Vec<Change> },
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

/// The stages that only look, in the order in which an operator would mend what they find.
const SEEN: &[Stage] = &[
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

/// The stages that can set what they look at, in the order in which they are applied: each may rest
/// on what those before it have set.
const TUNED: &[Stage] =
    &[steering::CHANNELS, steering::FLOW_HASH, steering::THREADED_NAPI, steering::IRQ_AFFINITY];

/// Runs every stage.
#[must_use]
pub fn check(host: &Host, plan: &Plan) -> Vec<Finding> {
    SEEN.iter().chain(TUNED).map(|stage| stage.check(host, plan)).collect()
}

impl Stage {
    fn check(&self, host: &Host, plan: &Plan) -> Finding {
        self.finding((self.look)(host, plan))
    }

    fn finding(&self, look: Look) -> Finding {
        let (verdict, is, should, mend) = match look {
            Look::Good(is) => return Finding::good(self.name, is),
            Look::Bad { verdict, is, should, mend } => (verdict, is, should, mend),
            Look::Settable { is, should, .. } => {
                (Verdict::Advice, is, should, format!("stoqctl tune apply {}", self.name))
            }
        };
        Finding { stage: self.name, verdict, is, should, why: self.why, mend }
    }
}

/// The command that sets a sysctl now and after the next boot.
fn set_sysctl(key: &str, value: &str) -> String {
    format!("sysctl -w {key}={value} && echo '{key} = {value}' >> /etc/sysctl.d/90-stoq.conf")
}

#[cfg(test)]
mod tests;
