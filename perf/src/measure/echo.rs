//! An echo request every millisecond beside whatever a test does, and what became of each: how many were
//! lost, and for how long nothing came back. `ping` cannot ask so often: its pauses are whole ticks of the
//! kernel's clock.
//!
//! One thread asks, another notes the answers; the other host's kernel answers.

use crate::bed::Namespace;
use crate::{Error, Result, wait};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use serde::Serialize;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The pause between two requests.
const EVERY: Duration = Duration::from_millis(1);

/// Most requests of one run, half an hour of them: 32 MiB of times, taken at the start.
const REQUESTS_MAX: usize = 2_000_000;

/// How long the receiver waits before it looks whether it shall stop.
const LOOK: Duration = Duration::from_millis(100);

/// How long an answer may take before it counts as lost: as `ping` has it by default.
const ANSWER: Duration = Duration::from_secs(10);

/// Types of the echo request and its reply in ICMP (RFC 792) and ICMPv6 (RFC 4443 §4).
const TYPES_V4: (u8, u8) = (8, 0);
const TYPES_V6: (u8, u8) = (128, 129);

/// Bytes of ICMP's head, the same in both: type, code, checksum, identifier and sequence; the kernel fills in two of them.
const HEAD: usize = 8;

/// Bytes of a request: the head, then the request's number, filled up to the size of `ping`'s.
const BYTES: usize = HEAD + 56;

/// What became of the requests of a period.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Answered {
    /// Requests sent.
    pub sent: u64,
    /// Requests that were not answered.
    pub lost: u64,
    /// The longest time in milliseconds that a request had to wait until it, or a later one, came back.
    /// That the sender got no core for a while is not in it.
    pub stall_ms: f64,
}

impl Answered {
    /// Requests lost, in percent.
    #[must_use]
    pub fn lost_percent(&self) -> f64 {
        100.0 * self.lost as f64 / self.sent.max(1) as f64
    }
}

/// When a request was sent and answered.
#[derive(Clone, Copy, Debug)]
struct Request {
    sent: Instant,
    answered: Option<Instant>,
}

/// Requests on their way.
#[derive(Debug)]
pub struct Echoes {
    requests: Arc<Mutex<Vec<Request>>>,
    answered: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    ends: Vec<JoinHandle<Result<()>>>,
}

impl Echoes {
    /// Starts to ask `to` from `from`.
    ///
    /// # Errors
    /// [`Error::Io`] when the namespace refuses the socket.
    pub fn start(from: &Namespace, to: IpAddr) -> Result<Self> {
        let (family, protocol, (request, reply)) = match to {
            IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, TYPES_V4),
            IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, TYPES_V6),
        };
        // Sockets that send echo requests and nothing else are open to groups that the namespace names.
        from.sysctl("net.ipv4.ping_group_range", "0 0")?;
        let made =
            from.enter(|| socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, protocol))?;
        let failed = |what: &str| Error::io(format!("{what} a socket for echo requests"));
        let socket =
            UdpSocket::from(made.map_err(Error::errno("open a socket for echo requests"))?);
        socket.connect(SocketAddr::new(to, 0)).map_err(failed("connect"))?;
        socket.set_read_timeout(Some(LOOK)).map_err(failed("set the time-out of"))?;
        let receiver = socket.try_clone().map_err(failed("duplicate"))?;
        let requests = Arc::new(Mutex::new(Vec::with_capacity(REQUESTS_MAX)));
        let (answered, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (sent, stop_send) = (Arc::clone(&requests), Arc::clone(&stop));
        let (noted, count, stop_receive) =
            (Arc::clone(&requests), Arc::clone(&answered), Arc::clone(&stop));
        let ends = vec![
            thread::spawn(move || send(&socket, request, &sent, &stop_send)),
            thread::spawn(move || receive((&receiver, reply), &noted, &count, &stop_receive)),
        ];
        Ok(Self { requests, answered, stop, ends })
    }

    /// Waits until `more` requests have been answered from now on.
    ///
    /// # Errors
    /// [`Error::Timeout`] when they have not, also because a thread has failed.
    pub fn wait_for_more(&self, more: u64, timeout: Duration) -> Result<()> {
        let goal = self.answered.load(Ordering::Relaxed) + more;
        wait::until("echo requests being answered", timeout, || {
            let now = self.answered.load(Ordering::Relaxed);
            let ended = self.ends.iter().any(JoinHandle::is_finished);
            if now >= goal {
                Ok(())
            } else {
                Err(format!("{now} of {goal} answers, a thread has ended: {ended}"))
            }
        })
    }

    /// What became of the requests since `begin`, up to the last one that is answered by now.
    ///
    /// # Errors
    /// [`Error::Timeout`] when those of the last moment are not answered, and none after them either.
    pub fn since(&self, begin: Instant) -> Result<Answered> {
        let end = Instant::now();
        wait::until("an answer to a request sent from now on", ANSWER, || {
            let requests = lock(&self.requests);
            let late = requests.iter().rev().take_while(|request| request.sent >= end);
            let came = late.filter(|request| request.answered.is_some()).count();
            if came > 0 { Ok(()) } else { Err("none".to_owned()) }
        })?;
        Ok(judge(&lock(&self.requests), begin, end))
    }

    /// Ends it.
    ///
    /// # Errors
    /// [`Error::Io`] when a thread failed before.
    pub fn finish(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.ends.drain(..).try_for_each(|end| {
            let crashed = || Err(Error::io("echo requests")(std::io::Error::other("a panic")));
            end.join().unwrap_or_else(|_| crashed())
        })
    }
}

impl Drop for Echoes {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn lock(requests: &Mutex<Vec<Request>>) -> std::sync::MutexGuard<'_, Vec<Request>> {
    requests.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What became of the requests that were sent from `begin` to before `end`; some later one is answered.
fn judge(requests: &[Request], begin: Instant, end: Instant) -> Answered {
    let mut judged = Answered { sent: 0, lost: 0, stall_ms: 0.0 };
    let mut back: Option<Instant> = None;
    for request in requests.iter().rev() {
        if let Some(answered) = request.answered {
            back = Some(back.map_or(answered, |back| back.min(answered)));
        }
        if request.sent < begin || request.sent >= end {
            continue;
        }
        judged.sent += 1;
        judged.lost += u64::from(request.answered.is_none());
        let waited = back.map_or(Duration::ZERO, |back| back.duration_since(request.sent));
        judged.stall_ms = judged.stall_ms.max(waited.as_secs_f64() * 1e3);
    }
    judged
}

fn send(
    socket: &UdpSocket,
    kind: u8,
    requests: &Mutex<Vec<Request>>,
    stop: &AtomicBool,
) -> Result<()> {
    let mut bytes = [0; BYTES];
    bytes[0] = kind;
    let mut next = Instant::now();
    for number in 0..REQUESTS_MAX as u64 {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        bytes[HEAD..HEAD + 8].copy_from_slice(&number.to_be_bytes());
        lock(requests).push(Request { sent: Instant::now(), answered: None });
        // A request that a full queue or a missing route refuses is lost, as on any later part of the way.
        let _ = socket.send(&bytes);
        // One that comes late is not made up for by a burst.
        next = (next + EVERY).max(Instant::now());
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

fn receive(
    (socket, kind): (&UdpSocket, u8),
    requests: &Mutex<Vec<Request>>,
    count: &AtomicU64,
    stop: &AtomicBool,
) -> Result<()> {
    let mut bytes = [0; BYTES];
    while !stop.load(Ordering::Relaxed) {
        match socket.recv(&mut bytes) {
            Ok(BYTES) if bytes[0] == kind => note(&bytes, requests, count),
            Ok(_) => {}
            Err(error) => {
                is_passing(&error).then_some(()).ok_or(error).map_err(Error::io("echoes"))?
            }
        }
    }
    Ok(())
}

/// Time-outs, and what ICMP errors on the way leave at the socket.
fn is_passing(error: &std::io::Error) -> bool {
    use ErrorKind::{
        ConnectionRefused, HostUnreachable, Interrupted, NetworkUnreachable, TimedOut,
    };
    let passing = [ConnectionRefused, HostUnreachable, Interrupted, NetworkUnreachable, TimedOut];
    error.kind() == ErrorKind::WouldBlock || passing.contains(&error.kind())
}

fn note(bytes: &[u8; BYTES], requests: &Mutex<Vec<Request>>, count: &AtomicU64) {
    let Some(number) = bytes[HEAD..].first_chunk().map(|number| u64::from_be_bytes(*number)) else {
        return;
    };
    let mut requests = lock(requests);
    let place = usize::try_from(number).unwrap_or(usize::MAX);
    // A second answer says nothing new.
    if let Some(request @ Request { answered: None, .. }) = requests.get_mut(place) {
        request.answered = Some(Instant::now());
        count.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_request_waits_for_the_next_that_comes_back() {
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let request =
            |sent, answered: Option<u64>| Request { sent: at(sent), answered: answered.map(at) };
        let requests = [
            request(0, Some(500)),
            request(10, Some(12)),
            request(20, None),
            request(30, None),
            request(40, Some(45)),
            // The sender had no core for a second; nothing waited meanwhile.
            request(1000, Some(1001)),
        ];
        let judged = judge(&requests, at(10), at(900));
        assert_eq!((judged.sent, judged.lost), (4, 2));
        assert!((judged.stall_ms - 25.0).abs() < 1e-6, "{judged:?}");
        let first = judge(&requests, begin, at(5));
        assert_eq!((first.sent, first.lost), (1, 0));
        assert!((first.stall_ms - 12.0).abs() < 1e-6, "a later one came back before it: {first:?}");
    }
}
