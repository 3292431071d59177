//! The two ends of a run: a window of full-size datagrams one way, counts the other way.

use std::hint::spin_loop;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use stoq_port::socket::{self, SocketSpec};
use stoq_port::{Port, PortKind, PortOptions, Socket, TxMeta};
use stoq_telemetry::Drops;

use crate::Failure;

const FAR: &str = "[fd00:b1a5::2]:9300";

/// Full-size datagrams of a tunnel at an MTU of 1500.
const DATAGRAM: usize = 1_400;

/// Datagrams on their way at most: 1.4 MB, a generous window for this path.
const WINDOW: u64 = 1_024;

/// The receiver answers after so many, as a QUIC receiver does after a train.
const ANSWER_EVERY: u64 = 32;

/// What a worker does for each packet beside the port (measured in the tunnel): read, segment and
/// seal; open, coalesce and write.
const SEND_WORK: Duration = Duration::from_nanos(680);
const RECEIVE_WORK: Duration = Duration::from_nanos(1_070);

const RUN: Duration = Duration::from_secs(2);

/// Without an answer for so long, what was sent counts as lost.
const LOST: Duration = Duration::from_millis(20);

/// The receiver ends when nothing came for so long.
const IDLE: Duration = Duration::from_millis(500);

pub fn run(sends: bool, kind: PortKind, options: &PortOptions) -> Result<(), Failure> {
    let bind = if sends { "[::]:0" } else { "[::]:9300" };
    let opened = socket::open(&SocketSpec::new(bind.parse()?))?;
    let sockets = vec![(Socket::Dial, opened.fd)];
    let port = stoq_port::open(kind, sockets, options, Arc::new(Drops::default()))?;
    if sends { send(port) } else { receive(port) }
}

fn send(mut port: Box<dyn Port>) -> Result<(), Failure> {
    let to = meta(FAR.parse()?);
    let start = Instant::now();
    let (mut sent, mut received, mut lost) = (0, 0, 0);
    let mut heard = start;
    while start.elapsed() < RUN {
        while sent - received - lost < WINDOW
            && let Some(_slot) = port.slot()
        {
            work(SEND_WORK);
            port.commit(DATAGRAM, &to);
            sent += 1;
        }
        port.flush()?;
        port.wait(Some(Duration::from_millis(1)))?;
        let took = port.receive(&mut |answer, _| received = received.max(number(answer)))?;
        if took > 0 {
            heard = Instant::now();
        } else if heard.elapsed() > LOST {
            lost = sent - received;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let gbps = received as f64 * DATAGRAM as f64 * 8.0 / seconds / 1e9;
    println!("{gbps} {}", cpu_ns() / received.max(1) as f64);
    Ok(())
}

fn receive(mut port: Box<dyn Port>) -> Result<(), Failure> {
    let mut received: u64 = 0;
    let mut last = Instant::now() + Duration::from_secs(5);
    while last.elapsed() < IDLE {
        port.wait(Some(Duration::from_millis(100)))?;
        let before = received;
        let mut answer = None;
        port.receive(&mut |_, from| {
            work(RECEIVE_WORK);
            received += 1;
            answer = Some(from.from);
        })?;
        let Some(to) = answer else { continue };
        last = Instant::now();
        for due in (before / ANSWER_EVERY)..=(received / ANSWER_EVERY) {
            let Some(slot) = port.slot() else { break };
            slot[..8].copy_from_slice(&received.min((due + 1) * ANSWER_EVERY).to_be_bytes());
            port.commit(8, &meta(to));
        }
        port.flush()?;
    }
    println!("0 {}", cpu_ns() / received.max(1) as f64);
    Ok(())
}

fn meta(to: SocketAddr) -> TxMeta {
    TxMeta { to, from: None, socket: Socket::Dial }
}

fn number(answer: &[u8]) -> u64 {
    answer.try_into().map_or(0, u64::from_be_bytes)
}

/// Keeps the core busy for `long`.
fn work(long: Duration) {
    let start = Instant::now();
    while start.elapsed() < long {
        spin_loop();
    }
}

/// Processor time of this process so far, in nanoseconds.
fn cpu_ns() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from);
    time.unwrap_or_default().as_nanos() as f64
}
