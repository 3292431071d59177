//! TCP through tunnels over the bed's relay: 20 ms there and back, and packets lost at random. Needs
//! root. `tunnel_loss [-- SUBJECTS [LOSSES [STREAMS [SECONDS [ROUNDS [CONTROL]]]]]]`, lists with commas; a subject
//! may be given a setting, as in `mio:transport.recovery="off"`; CONTROL is the congestion control of TCP.
#![forbid(unsafe_code)]

use std::env;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use stoq_perf::bed::{Bed, Impairment};
use stoq_perf::bench::Subject;
use stoq_perf::measure::ping;
use stoq_perf::process::Process;

/// One way.
const DELAY: Duration = Duration::from_millis(10);

/// Pings of each run, beside the load.
const PINGS: u32 = 100;

/// How long iperf3 may take to begin to listen, and to end after its time.
const PATIENCE: Duration = Duration::from_secs(20);

/// A subject with its settings.
struct Candidate {
    name: String,
    subject: Subject,
    settings: Vec<(String, String)>,
}

fn candidate(word: &str) -> Result<Candidate> {
    let (name, setting) = word.split_once(':').unwrap_or((word, ""));
    let found = Subject::named(name).map_err(anyhow::Error::msg)?;
    let [subject] = found[..] else { bail!("{name} stands for several") };
    let settings = setting.split_once('=').map(|(key, value)| (key.into(), value.into()));
    Ok(Candidate { name: word.into(), subject, settings: settings.into_iter().collect() })
}

fn list<T>(at: usize, default: &str, read: impl Fn(&str) -> Result<T>) -> Result<Vec<T>> {
    let words = env::args().nth(at).unwrap_or_else(|| default.to_owned());
    words.split(',').map(read).collect()
}

fn main() -> Result<()> {
    let candidates = list(1, "none,mio,mio:transport.recovery=\"off\",gotatun", candidate)?;
    let losses = list(2, "1,5", |word| Ok(word.parse::<f64>()?))?;
    let streams = list(3, "1,8", |word| Ok(word.parse::<u32>()?))?;
    let seconds = list(4, "5", |word| Ok(word.parse::<u32>()?))?[0];
    let rounds = list(5, "1", |word| Ok(word.parse::<u64>()?))?[0];
    let control = list(6, "cubic", |word| Ok(word.to_owned()))?.remove(0);
    let bed = Bed::new()?;
    for side in [&bed.a, &bed.b] {
        side.namespace.sysctl("net.ipv4.tcp_congestion_control", &control)?;
    }
    let each = |&loss: &f64| streams.iter().map(move |&streams| (loss, streams));
    let wires: Vec<_> = losses.iter().flat_map(each).collect();
    for round in 1..=rounds {
        for &(loss_percent, streams) in &wires {
            let impairment = Impairment { delay: DELAY, loss_percent, ..Impairment::default() };
            for candidate in &candidates {
                measure(&bed, candidate, impairment, (streams, seconds, round))?;
            }
        }
    }
    Ok(())
}

fn measure(
    bed: &Bed,
    candidate: &Candidate,
    impairment: Impairment,
    (streams, seconds, round): (u32, u32, u64),
) -> Result<()> {
    let relay = bed.relay(impairment, round)?;
    let (running, _) = candidate.subject.start(bed, &candidate.settings)?;
    let (a, b) = (&bed.a.namespace, &bed.b.namespace);
    let mut server =
        Process::spawn(b, &bed.folder().join("server.log"), Path::new("iperf3"), ["-s", "-1"])?;
    server.wait_for_listen(5201, PATIENCE)?;
    let (to, count) = (running.target.to_string(), streams.to_string());
    let time = seconds.to_string();
    let words = ["-c", &to, "-J", "-t", &time, "-O", "3", "-P", &count];
    let mut client =
        Process::spawn(a, &bed.folder().join("client.log"), Path::new("iperf3"), words)?;
    let latency = ping::run(a, running.target, PINGS)?;
    client.wait_exit(Duration::from_secs(seconds.into()) + PATIENCE)?;
    let report: serde_json::Value = serde_json::from_str(&client.log())?;
    let mbps = report["end"]["sum_received"]["bits_per_second"].as_f64();
    let mbps = mbps.with_context(|| client.log())? * 1e-6;
    println!(
        "round {round} loss {} % streams {streams} {:32} {mbps:7.1} Mbit/s, ping p50 {:.1} p99 {:.1} ms, overflowed {}",
        impairment.loss_percent,
        candidate.name,
        latency.p50_ms,
        latency.p99_ms,
        relay.stats().overflowed,
    );
    for line in recovery_figures(a).into_iter().chain(recovery_figures(b)) {
        println!("    {line}");
    }
    Ok(())
}

/// What `stoqd` in this namespace says of recovery, if it runs and has something to say.
fn recovery_figures(host: &stoq_perf::bed::Namespace) -> Vec<String> {
    let page = host.run("curl", ["-s", "http://127.0.0.1:9293/metrics"]).unwrap_or_default();
    let of_recovery = |line: &&str| {
        let names = ["stoq_link_resent", "stoq_link_recovered", "stoq_link_given_up"];
        names.iter().any(|name| line.starts_with(name)) && !line.ends_with(" 0")
    };
    page.lines().filter(of_recovery).map(str::to_owned).collect()
}
