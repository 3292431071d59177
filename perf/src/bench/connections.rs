//! `connections`: many live links on one `stoqd`. What a link costs to make, in memory, and while it is idle;
//! whether all answer their keepalives; how soon all are back after a restart; and whether one link is as
//! fast among the others as alone. The edge A is measured, the edge B is the link with traffic, and a
//! [`Crowd`] on the same wire has the others.

mod report;

use super::Host;
use crate::bed::{Bed, Family, Guest, STOQ_PORT, Side};
use crate::links::{Crowd, Progress, Target};
use crate::measure::iperf::{Load, Transfer};
use crate::measure::ping;
use crate::node::{Deployment, LINK_UP, Node, NodeConfig};
use crate::{Error, Result, wait};
use report::{Keepalive, Making, Memory, Rates, Report, Run};
use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The host number of the crowd on the wire.
const CROWD: u8 = 6;

/// How long all links together may take to come up, at the start and after a restart.
const ALL_UP: Duration = Duration::from_secs(300);

/// Seconds that keepalives are watched for: three periods of 10 s and what they are late by.
const WATCHED_S: f64 = 33.0;

/// Seconds without traffic after the last link came up, before anything else is measured: repeated
/// packets and replaced connections of the storm are gone.
const CALM_S: f64 = 5.0;

/// How long links whose other end was killed may stay: the idle timeout of 30 s, and room.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// Seconds of a transfer before figures count.
const WARM_UP_S: u32 = 1;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Links of the crowd.
    pub links: u32,
    /// The port of both edges.
    pub port: String,
    /// Whether proofs of possession are asked for; each is a run of its own.
    pub hybrid: Vec<bool>,
    /// Seconds of each transfer, after the warm-up.
    pub seconds: u32,
    /// Transfers in each direction, among the others and alone; figures are medians.
    pub rounds: u32,
    /// Where the result goes.
    pub output: PathBuf,
}

/// Runs it, prints the table, and writes the result.
///
/// # Errors
/// The step that failed; links that do not come up or do not stay are one.
pub fn run(plan: &Plan) -> Result<()> {
    let host = Host::read();
    let mut runs = Vec::new();
    for &hybrid in &plan.hybrid {
        runs.push(Stage::set(plan, hybrid)?.measure()?);
    }
    report::publish(
        &Report { host, links: plan.links, port: plan.port.clone(), runs },
        &plan.output,
    )
}

/// Both edges, and the place of the crowd.
struct Stage<'plan> {
    plan: &'plan Plan,
    hybrid: bool,
    bed: Bed,
    guest: Guest,
}

impl<'plan> Stage<'plan> {
    fn set(plan: &'plan Plan, hybrid: bool) -> Result<Self> {
        let bed = Bed::new()?;
        let guest = bed.guest("links", CROWD)?;
        Ok(Self { plan, hybrid, bed, guest })
    }

    fn measure(&self) -> Result<Run> {
        let deployment = Deployment::new(&self.bed)?;
        let (mut measured, other) = self.configs();
        let mut b = deployment.start(Side::B, &other)?;
        let mut a = deployment.start(Side::A, measured.leaves(self.plan.links))?;
        a.wait_for_link("up", LINK_UP)?;
        b.wait_for_link("up", LINK_UP)?;
        let mut alone = self.rates()?;
        let before = memory(&a)?;
        let (mut crowd, making) = self.make_links(&deployment, &a)?;
        let after = memory(&a)?;
        eprintln!("{making:?}; {before:?} {after:?}");
        let keepalive = self.watch(&mut crowd, &a)?;
        eprintln!("{keepalive:?}");
        let among = self.rates()?;
        a.kill()?;
        let restarted = Instant::now();
        let mut a = deployment.start(Side::A, &measured)?;
        let back = crowd.wait_until_up(2, ALL_UP)?;
        let back_s = restarted.elapsed().as_secs_f64();
        eprintln!("back after {back_s:.1} s: {back:?}");
        drop(crowd);
        wait_until_alone(&a)?;
        a.wait_for_link("up", LINK_UP)?;
        alone.add(&self.rates()?);
        Ok(Run { hybrid: self.hybrid, making, before, after, keepalive, back_s, alone, among })
    }

    fn configs(&self) -> (NodeConfig, NodeConfig) {
        let mut config = NodeConfig::new(&self.plan.port);
        let policy = if self.hybrid { "\"hybrid\"" } else { "\"classical\"" };
        config.over(&[Family::V6]).set("identity.policy", policy);
        (config.clone(), config)
    }

    fn make_links(&self, deployment: &Deployment<'_>, a: &Node) -> Result<(Crowd, Making)> {
        let program = env::current_exe().map_err(Error::io("find this program"))?;
        let target = Target {
            address: SocketAddr::new(Side::A.wan(Family::V6), STOQ_PORT),
            node: Side::A.node().to_owned(),
            root: deployment.mesh.root(),
            nodes: self.plan.links,
            hybrid: self.hybrid,
        };
        let log = self.bed.folder().join("links.log");
        let mut crowd = Crowd::start(&self.guest.namespace, &program, &log, &target)?;
        let (cpu, crowd_cpu) = (a.process.cpu_time(), crowd.cpu_s());
        let up = crowd.wait_until_up(1, ALL_UP)?;
        let making = Making {
            seconds: up.last_up_s,
            stoqd_cpu_s: a.process.cpu_time().since(cpu).total_s(),
            crowd_cpu_s: crowd.cpu_s() - crowd_cpu,
            came_up: up.came_up,
            went_down: up.went_down,
            refused: up.refused,
        };
        crowd.wait_until(up.seconds + CALM_S, ALL_UP)?;
        Ok((crowd, making))
    }

    /// Three keepalive periods without traffic.
    fn watch(&self, crowd: &mut Crowd, a: &Node) -> Result<Keepalive> {
        let begin = crowd.progress();
        let (cpu, at) = (a.process.cpu_time(), Instant::now());
        let end = crowd.wait_until(begin.seconds + WATCHED_S, ALL_UP)?;
        let (cpu, seconds) = (a.process.cpu_time().since(cpu), at.elapsed().as_secs_f64());
        let silent = crowd.told_since(begin.seconds + f64::EPSILON);
        let longest = |longest: f64, told: &Progress| longest.max(told.silent_s);
        let asked = Instant::now();
        let up = links_up(a)?;
        Ok(Keepalive {
            seconds,
            up,
            went_down: end.went_down - begin.went_down,
            longest_silence_s: silent.iter().fold(0.0, longest),
            datagrams: (end.received - begin.received) + (end.sent - begin.sent),
            stoqd_cpu_percent: cpu.total_s() / seconds * 100.0,
            status_s: asked.elapsed().as_secs_f64(),
        })
    }

    /// TCP on the link between the edges, in both directions.
    fn rates(&self) -> Result<Rates> {
        let (a, b) = (&self.bed.a.namespace, &self.bed.b.namespace);
        ping::wait_for_answer(b, Side::A.tunnel(Family::V4), LINK_UP)?;
        let times = (WARM_UP_S, self.plan.seconds);
        let mut rates = Rates::default();
        for _ in 0..self.plan.rounds {
            let one = |ends, to: Side| {
                let address = to.tunnel(Family::V4);
                Transfer::start(ends, address, Load::Tcp, times, self.bed.folder())?.finish()
            };
            rates.sent_mbps.push(one((a, b), Side::B)?.mbps);
            rates.received_mbps.push(one((b, a), Side::A)?.mbps);
        }
        Ok(rates)
    }
}

fn memory(node: &Node) -> Result<Memory> {
    let proportional_bytes = node.process.proportional_bytes()?;
    Ok(Memory { resident_bytes: node.process.resident_bytes(), proportional_bytes })
}

/// Links of the crowd that `stoqd` says are up.
fn links_up(node: &Node) -> Result<usize> {
    let status = node.status()?;
    let links = status["links"].as_array().map_or(&[][..], Vec::as_slice);
    let of_crowd = |link: &&serde_json::Value| link["peer"] != Side::B.node();
    Ok(links.iter().filter(of_crowd).filter(|link| link["state"] == "up").count())
}

fn wait_until_alone(node: &Node) -> Result<()> {
    wait::until("the end of the crowd's links", FORGOTTEN, || match links_up(node) {
        Ok(0) => Ok(()),
        Ok(up) => Err(format!("{up} are up")),
        Err(error) => Err(error.to_string()),
    })
}
