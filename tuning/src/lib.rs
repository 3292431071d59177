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

mod control;
mod cores;
mod cpu;
mod ethtool;
mod host;
mod irq;
mod kernel;
mod network;
mod offload;
mod queues;
mod record;
mod setting;
mod socket;
mod steering;
pub mod tier;
mod tune;
mod unit;

pub use cores::{Core, CorePlan, FULL_CAPACITY, MAX_WORKERS, Topology, Wish, control_cores};
pub use cpu::{cores as listed_cores, list as core_list};
pub use ethtool::{Channels, Ethtool, Feature, Flow, FlowHash, Rings, Spread, Table};
pub use host::{Host, Ruleset};
pub use record::RecordError;
pub use setting::{Change, Setting, SettingError, Sysctl};
pub use tune::{
    Applied, DEFAULT_RECORD, Outcome, Step, TuneError, apply, check_tuned, gain, stage_names, undo,
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

impl Plan {
    /// Which cores the workers get on this host, and which are left: what stoqd and hypermeshd do, as
    /// seen from any process of it.
    #[must_use]
    pub fn core_plan(&self, host: &Host) -> CorePlan {
        let topology = Topology::shared(host, self.interface.as_deref());
        CorePlan::new(&topology, Wish { workers: self.workers, cores: self.cores.as_deref() })
    }
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
    /// Not as it should be, and what would make it so. `lasting` is a command of the host's own that
    /// does the same for good, if there is one.
    Settable { is: String, should: String, changes: Vec<Change>, lasting: Option<String> },
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

    fn settable(is: impl Into<String>, should: impl Into<String>, changes: Vec<Change>) -> Self {
        Self::Settable { is: is.into(), should: should.into(), changes, lasting: None }
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
    socket::PORT,
    socket::FIREWALL,
    cpu::CORES,
    control::ISOLATION,
];

/// A stage that can be applied, and what that gains.
struct Tuned {
    stage: Stage,
    /// The expected gain and how it is known: a measurement with its command, or that there is none.
    gain: &'static str,
}

/// The stages that can set what they look at, in the order in which they are applied: each may rest
/// on what those before it have set.
const TUNED: &[Tuned] = &[
    Tuned {
        stage: socket::RECEIVE_BUFFER,
        gain: "not measured; 8 MiB hold 27 ms of 2.5 Gbit/s, the kernel's default 0.7 ms. Nothing where \
               stoqd has CAP_NET_ADMIN",
    },
    Tuned { stage: socket::SEND_BUFFER, gain: "not measured; the kernel's default is enough" },
    Tuned {
        stage: queues::RSS_TABLE,
        gain: "not measured; a queue outside the table is a worker without packets",
    },
    Tuned {
        stage: steering::CHANNELS,
        gain: "not measured on a card; AF_XDP takes no packet of a queue without a worker",
    },
    Tuned {
        stage: queues::RINGS,
        gain: "not measured; at 2.5 Gbit/s in packets of 1500 bytes 256 descriptors last 1.2 ms, 1024 \
               last 4.9 ms",
    },
    Tuned {
        stage: steering::FLOW_HASH,
        gain: "not measured on a card; without it a link between two hosts has one worker's speed",
    },
    Tuned { stage: offload::GRO, gain: offload::GRO_GAIN },
    Tuned { stage: offload::UDP_FORWARDING, gain: offload::UDP_FORWARDING_GAIN },
    Tuned {
        stage: steering::THREADED_NAPI,
        gain: "2.1 times the packets with xdp on a veth and two cores: 0.855 of 0.408 million a second \
               (`cargo xtask bench port`, docs/decisions/0008); for the whole tunnel on two cores nothing",
    },
    Tuned { stage: steering::IRQ_AFFINITY, gain: "not measured: needs a card with interrupts" },
    Tuned { stage: cpu::GOVERNOR, gain: "not measured: needs a host that changes its clock" },
    Tuned {
        stage: control::CPUSET,
        gain: "none beyond the mask that hypermeshd gives itself; it binds its children too",
    },
];

/// Runs every stage.
#[must_use]
pub fn check(host: &Host, plan: &Plan) -> Vec<Finding> {
    let tuned = TUNED.iter().map(|tuned| &tuned.stage);
    SEEN.iter().chain(tuned).map(|stage| stage.check(host, plan)).collect()
}

impl Stage {
    fn check(&self, host: &Host, plan: &Plan) -> Finding {
        self.finding((self.look)(host, plan))
    }

    fn finding(&self, look: Look) -> Finding {
        let (verdict, is, should, mend) = match look {
            Look::Good(is) => return Finding::good(self.name, is),
            Look::Bad { verdict, is, should, mend } => (verdict, is, should, mend),
            Look::Settable { is, should, lasting, .. } => {
                let mend = lasting.unwrap_or_else(|| format!("stoqctl tune apply {}", self.name));
                (Verdict::Advice, is, should, mend)
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
