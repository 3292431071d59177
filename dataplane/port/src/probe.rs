//! Chooses a port by trying: a short exchange of packets through each on loopback.
//!
//! Which port is best depends on the kernel and the host, so it is measured, not assumed. Called by
//! the daemon at its start, before the workers; takes at most 200 ms.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use stoq_telemetry::Drops;

use crate::socket::{self, SocketSpec};
use crate::{Port, PortError, PortKind, PortOptions, Sender, Socket, TxMeta};

/// How long one port is tried at a time.
const ROUND: Duration = Duration::from_millis(20);

/// Times that each port is tried, in turn with the other, so that a busy moment of the host does
/// not decide. With two ports that is 160 ms; opening and closing take the rest of 200.
const ROUNDS: usize = 4;

/// Datagrams that cross at a time: a train and a half, and as long as a full-size one.
const BURST: usize = 64;
const DATAGRAM: usize = 1_350;

/// Short datagrams that come back for a burst, as acknowledgements do.
const ANSWERS: usize = 4;
const ANSWER: usize = 40;

/// Longest wait for packets on their way over loopback: beyond it they count as lost.
const PATIENCE: Duration = Duration::from_millis(5);

/// Datagrams that each port sends over the real interface at a time, and how often: together 1.4 MB a
/// port, which 100 Mbit/s carry in 0.1 s.
const SENT: usize = 256;
const SENDS: usize = 4;

/// Longest that a port may have no room for one of them.
const STUCK: Duration = Duration::from_millis(200);

/// Which port to use, how it works here, and why not another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The port to use.
    pub selected: PortKind,
    /// What it uses, for example `gso+gro`.
    pub mode: String,
    /// The others, each with the reason.
    pub passed_over: Vec<(PortKind, String)>,
}

/// Chooses among all ports, or tries just the `wanted` one. The calling thread must be in the
/// network namespace of the workers.
///
/// # Errors
/// When the wanted port does not work here, or none does: why.
pub fn select(wanted: Option<PortKind>, options: &PortOptions) -> Result<Selection, PortError> {
    // On this thread alone, so that its processor time is all that the exchange costs.
    let options = PortOptions { sender: Sender::Inline, ..options.clone() };
    if let Some(kind) = wanted {
        let mode = Trial::new(kind, &options)?.mode();
        return Ok(Selection { selected: kind, mode, passed_over: Vec::new() });
    }
    let mut passed_over = Vec::new();
    let mut trials = Vec::new();
    let mut refusal = None;
    for kind in [PortKind::Uring, PortKind::Mio] {
        match Trial::new(kind, &options) {
            Ok(trial) => trials.push(trial),
            Err(error) => {
                passed_over.push((kind, error.to_string()));
                refusal = Some(error);
            }
        }
    }
    for _ in 0..ROUNDS {
        trials.iter_mut().for_each(Trial::round);
    }
    trials.retain_mut(|trial| match trial.failure.take() {
        None => true,
        Some(failure) => {
            passed_over.push((trial.kind, failure));
            false
        }
    });
    trials.sort_by(|a, b| b.rate().total_cmp(&a.rate()));
    let Some(best) = trials.first() else {
        return Err(refusal.unwrap_or(PortError::NothingWorks));
    };
    for other in &trials[1..] {
        passed_over.push((other.kind, compare(other.rate(), best)));
    }
    Ok(Selection { selected: best.kind, mode: best.mode(), passed_over })
}

/// What it costs each of these ports, which were opened on this thread, to send a full-size datagram to
/// `to` over the real interface: nanoseconds of this thread's processor time, or why it cannot. They
/// send in turn, so that a busy moment of the host touches all alike.
pub fn sending_costs(ports: &mut [Box<dyn Port>], to: SocketAddr) -> Vec<Result<f64, String>> {
    let mut times: Vec<Result<Duration, String>> = vec![Ok(Duration::ZERO); ports.len()];
    for _ in 0..SENDS {
        for (port, time) in ports.iter_mut().zip(&mut times) {
            let Ok(so_far) = time else { continue };
            match send_some(port.as_mut(), to) {
                Ok(took) => *so_far += took,
                Err(error) => *time = Err(format!("cannot send over the interface: {error}")),
            }
        }
    }
    let each = |time: Duration| time.as_nanos() as f64 / (SENT * SENDS) as f64;
    times.into_iter().map(|time| time.map(each)).collect()
}

fn send_some(port: &mut dyn Port, to: SocketAddr) -> std::io::Result<Duration> {
    let meta = TxMeta { to, from: None, socket: Socket::Dial };
    let before = cpu_time();
    for _ in 0..SENT {
        let since = Instant::now();
        while port.slot().is_none() {
            if since.elapsed() > STUCK {
                return Err(std::io::ErrorKind::TimedOut.into());
            }
            port.wait(Some(PATIENCE))?;
        }
        port.commit(DATAGRAM, &meta);
    }
    port.flush()?;
    Ok(cpu_time().saturating_sub(before))
}

/// Why a slower port was passed over. Rates are per second of processor time.
fn compare(rate: f64, best: &Trial) -> String {
    format!(
        "slower here: {:.2} million packets per CPU-second, {} {:.2}",
        rate / 1e6,
        best.kind,
        best.rate() / 1e6
    )
}

/// One port being tried: a pair of it, on loopback.
struct Trial {
    kind: PortKind,
    near: End,
    far: End,
    packets: u64,
    cpu: Duration,
    failure: Option<String>,
}

/// One end of the pair.
struct End {
    port: Box<dyn Port>,
    local: SocketAddr,
}

impl Trial {
    fn new(kind: PortKind, options: &PortOptions) -> Result<Self, PortError> {
        let near = End::new(kind, options)?;
        let far = End::new(kind, options)?;
        Ok(Self { kind, near, far, packets: 0, cpu: Duration::ZERO, failure: None })
    }

    fn mode(&self) -> String {
        self.near.port.mode().to_string()
    }

    /// Packets per second of processor time.
    fn rate(&self) -> f64 {
        self.packets as f64 / self.cpu.as_secs_f64().max(f64::EPSILON)
    }

    /// Exchanges packets for a while.
    fn round(&mut self) {
        let end = Instant::now() + ROUND;
        let before = cpu_time();
        while self.failure.is_none() && Instant::now() < end {
            match self.exchange() {
                Ok(0) => self.failure = Some("no packet came through on loopback".to_owned()),
                Ok(packets) => self.packets += packets as u64,
                Err(error) => self.failure = Some(format!("failed on loopback: {error}")),
            }
        }
        self.cpu += cpu_time().saturating_sub(before);
    }

    /// A burst one way and its answers the other way.
    fn exchange(&mut self) -> std::io::Result<usize> {
        self.near.send(self.far.local, BURST, DATAGRAM)?;
        let there = self.far.take(BURST)?;
        self.far.send(self.near.local, ANSWERS, ANSWER)?;
        Ok(there + self.near.take(ANSWERS)?)
    }
}

impl End {
    fn new(kind: PortKind, options: &PortOptions) -> Result<Self, PortError> {
        let opened = socket::open(&SocketSpec::new(([127, 0, 0, 1], 0).into()))?;
        let sockets = vec![(Socket::Dial, opened.fd)];
        let port = crate::open(kind, sockets, options, Arc::new(Drops::default()))?;
        Ok(Self { port, local: opened.local })
    }

    fn send(&mut self, to: SocketAddr, count: usize, len: usize) -> std::io::Result<()> {
        let meta = TxMeta { to, from: None, socket: Socket::Dial };
        for _ in 0..count {
            if self.port.slot().is_none() {
                self.port.wait(Some(PATIENCE))?;
            }
            self.port.commit(len, &meta);
        }
        self.port.flush()
    }

    /// Takes `count` datagrams, or fewer when no more come.
    fn take(&mut self, count: usize) -> std::io::Result<usize> {
        let mut taken = 0;
        let deadline = Instant::now() + PATIENCE;
        while taken < count && Instant::now() < deadline {
            self.port.wait(Some(PATIENCE))?;
            taken += self.port.receive(&mut |_, _| {})?;
        }
        Ok(taken)
    }
}

/// Processor time of this thread so far.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
