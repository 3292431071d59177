//! The demo with root: two hosts in network namespaces, a wire between them, a tunnel over it.
//!
//! ```text
//!  edge-a  fd48:4d00::1 ── stoqd ── wan ══ bridge ══ wan ── stoqd ── fd48:4d00::2  edge-b
//! ```
//!
//! All of it belongs to the test bed, whose guardian removes namespaces, daemons and files when this
//! process ends, however it ends.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use stoq_perf::bed::{Bed, Family, Side};
use stoq_perf::measure::iperf::{Load, Transfer};
use stoq_perf::measure::ping;
use stoq_perf::node::{Deployment, Node, NodeConfig};

use crate::Options;
use crate::copy::{self, Copy};
use crate::live::{Observed, watch};

/// Echo requests that the round-trip time in the summary is the median of: one second of them.
const PINGS: u32 = ping::RATE_PER_S;

/// How long the tunnel may take to carry its first packet.
const START: Duration = Duration::from_secs(10);

/// What UDP offers, in Mbit/s. Both hosts, both daemons and both ends of iperf3, which handles each
/// datagram alone, share one machine: on two cores, more would only measure iperf3.
const UDP_MBPS: u32 = 250;

/// Seconds at the start of an iperf3 run that do not count: TCP is still in slow start.
const WARM_UP_S: u32 = 1;

/// Runs the demo.
///
/// # Errors
/// The step that failed; what was set up is removed all the same.
pub fn run(options: &Options) -> Result<()> {
    println!("==> two hosts and a wire between them, in network namespaces");
    let bed = Bed::new()?;
    println!("==> keys and certificates by `stoqctl pki`, then stoqd on both hosts");
    let deployment = Deployment::new(&bed)?;
    let mut config = NodeConfig::new(&options.port);
    let (a, b) = deployment.start_both(config.over(&[Family::V6]))?;
    let demo = Demo { bed: &bed, nodes: [&a, &b], options };
    let summary = [
        demo.bring_up()?,
        demo.copy_file()?,
        demo.load("TCP ", Load::Tcp)?,
        demo.load("UDP ", Load::Udp(UDP_MBPS))?,
        demo.drops()?,
        demo.cpu_time(),
    ];
    println!("\n==> what was seen\n{}\n", summary.join("\n"));
    println!("==> removing the hosts, the daemons and the files");
    Ok(())
}

struct Demo<'a> {
    bed: &'a Bed,
    nodes: [&'a Node; 2],
    options: &'a Options,
}

impl Demo<'_> {
    fn observed(&self) -> [&dyn Observed; 2] {
        self.nodes.map(|node| node as &dyn Observed)
    }

    /// Waits until the tunnel carries packets, and says over what.
    fn bring_up(&self) -> Result<String> {
        let inner = Side::B.tunnel(Family::V6);
        let took = ping::wait_for_answer(&self.bed.a.namespace, inner, START)?;
        println!("    the first answer from {inner} came after {:.2} s", took.as_secs_f64());
        let latency = ping::run(&self.bed.a.namespace, inner, PINGS)?;
        let status = self.nodes[0].status()?;
        let link = status["links"].get(0).context("stoqd shows no link")?;
        let word = |value: &serde_json::Value| value.as_str().unwrap_or("?").to_owned();
        Ok(format!(
            "    link  to {}, {}, port {} ({}); ping {:.2} ms",
            word(&link["endpoint"]),
            word(&link["key_exchange"]),
            word(&status["port"]["selected"]),
            word(&status["port"]["mode"]),
            latency.p50_ms,
        ))
    }

    /// Copies a file from one host to the other and compares both.
    fn copy_file(&self) -> Result<String> {
        let size_mib = self.options.size_mib;
        println!("==> a file of {size_mib} MiB from edge-a to edge-b");
        let [source, target] = ["sent", "received"].map(|name| self.bed.folder().join(name));
        copy::make_file(&source, size_mib << 20)?;
        let (from, to) = (&self.bed.a.namespace, &self.bed.b.namespace);
        let copy = Copy::connect(from, to, Side::B.tunnel(Family::V6))?;
        let begin = Instant::now();
        let progress = || format!("{:>5} of {size_mib} MiB", copy.received() >> 20);
        watch(self.observed(), progress, || copy.run(&source, &target))?;
        let seconds = begin.elapsed().as_secs_f64();
        copy::compare(&source, &target, size_mib, seconds)
    }

    /// Loads the tunnel by iperf3.
    fn load(&self, title: &str, load: Load) -> Result<String> {
        let seconds = self.options.seconds;
        println!("==> iperf3, {}, {seconds} s", title.trim());
        let hosts = (&self.bed.a.namespace, &self.bed.b.namespace);
        let inner = Side::B.tunnel(Family::V4);
        let times = (WARM_UP_S, seconds);
        let transfer = Transfer::start(hosts, inner, load, times, self.bed.folder())?;
        let begin = Instant::now();
        let progress = || format!("{:>5.0} s", begin.elapsed().as_secs_f64());
        let result = watch(self.observed(), progress, || Ok(transfer.finish()?))?;
        let gbps = result.mbps / 1000.0;
        Ok(match load {
            Load::Tcp | Load::TcpAt(_) | Load::TcpStreams(_) => {
                format!("    {title}  {gbps:.2} Gbit/s, {} retransmits", result.retransmits)
            }
            Load::Udp(offered) => {
                let lost = result.lost_percent;
                format!("    {title}  {gbps:.2} Gbit/s, {offered} Mbit/s offered, {lost:.2} % lost")
            }
        })
    }

    /// What the daemons dropped, by reason.
    fn drops(&self) -> Result<String> {
        let mut all = Vec::new();
        for node in self.nodes {
            let status = node.status()?;
            let drops = status["drops"].as_object().context("stoqd shows no drops")?;
            let counted = drops.iter().filter(|(_, count)| count.as_u64() != Some(0));
            let named = counted.map(|(reason, count)| format!("{reason} {count}"));
            let named: Vec<_> = named.collect();
            all.push(format!("{}: {}", node.side.node(), named.join(", ")));
        }
        Ok(format!("    drops by reason: {}", all.join("; ")))
    }

    /// What the daemons used in all.
    fn cpu_time(&self) -> String {
        let [a, b] = self.nodes.map(|node| node.process.cpu_time().total_s());
        format!("    CPU   stoqd used {a:.1} s on edge-a and {b:.1} s on edge-b")
    }
}
