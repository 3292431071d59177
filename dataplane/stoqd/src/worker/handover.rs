//! A worker's part in a hand-over: who reads the tunnel device, and when nothing is on the way any more.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::Sender;
use stoq::PeerId;

use super::{DEVICE, Worker, WorkerError, failed};

/// How long packets that were read may take to arrive before the other process reads: the flows stand
/// still for so long. What takes longer may be overtaken.
const SETTLE_MAX: Duration = Duration::from_millis(50);

/// How often a worker looks meanwhile, at least.
const LOOK: Duration = Duration::from_millis(1);

/// What a worker does of a hand-over.
#[derive(Clone, Debug)]
pub enum Step {
    /// Another process of this node makes connections now, or no more.
    Aside(bool),
    /// Have these peers dial again, or those that this node cannot dial.
    Ask(Option<Arc<[PeerId]>>),
    /// Leave the tunnel device to another process, and tell when everything read from it has arrived, or
    /// has had its time.
    Yield(Sender<()>),
    /// Read the tunnel device.
    Serve,
    /// Wait until the peers have closed every connection, and end.
    Leave,
}

/// Who reads the tunnel device.
#[derive(Debug)]
pub(super) enum Reading {
    /// This worker.
    Ours,
    /// Another process; who wants to know when our packets have arrived, and by when it is told anyway.
    Yielded(Sender<()>, Instant),
    /// Another process.
    Other,
}

impl Reading {
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Ours)
    }

    /// The longest sleep for its sake.
    pub fn nap(&self) -> Option<Duration> {
        matches!(self, Self::Yielded(..)).then_some(LOOK)
    }
}

impl Worker {
    /// Does its part of a hand-over.
    pub(super) fn hand_over(&mut self, step: Step, now: Instant) {
        match step {
            Step::Aside(aside) => self.endpoint.stand_aside(aside, now),
            Step::Ask(peers) => self.endpoint.ask_for_successors(peers.as_deref()),
            Step::Yield(reply) => {
                let unwatched =
                    if self.reading.is_ours() { self.port.unwatch(DEVICE) } else { Ok(()) };
                if let Err(error) = unwatched {
                    tracing::error!("the tunnel device is watched on: {error}");
                }
                self.reading = Reading::Yielded(reply, now + SETTLE_MAX);
            }
            Step::Serve => {
                if let Err(error) = self.read_from_now_on() {
                    tracing::error!("{error}");
                }
            }
            Step::Leave => {
                self.endpoint.leave(now);
                self.stopping = true;
            }
        }
    }

    /// Reads the tunnel device from now on.
    pub(super) fn read_from_now_on(&mut self) -> Result<(), WorkerError> {
        if let (Some(device), false) = (&self.device, self.reading.is_ours()) {
            self.port.watch(device.queue.as_fd(), DEVICE).map_err(failed("port"))?;
        }
        self.reading = Reading::Ours;
        Ok(())
    }

    pub(super) fn answer_when_settled(&mut self, now: Instant) {
        let Reading::Yielded(reply, by) = &self.reading else { return };
        if now >= *by || self.endpoint.is_settled() {
            // Whoever asked may have gone.
            let _gone = reply.try_send(());
            self.reading = Reading::Other;
        }
    }
}
