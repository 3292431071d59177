//! The thread that signs and verifies proofs of possession: a worker that did it would hold its packets
//! for as long as a burst takes.

use crossbeam::channel::Receiver;
use anyhow::{Context, Result};
use stoq::task::{Done, Task, Verify};

use crate::mesh::LogCheck;
use crate::worker::{Errand, Handle};

/// Starts the thread. It ends when every worker has.
pub(super) fn start(errands: Receiver<Errand>, workers: Vec<Handle>, logs: LogCheck) -> Result<()> {
    let thread = std::thread::Builder::new().name("signer".into());
    let serve = move || {
        for (worker, task) in errands {
            let done = match task {
                Task::Sign(sign) => sign.perform(),
                Task::Verify(verify) => Done::Verified(verify.ticket, check(&verify, &logs)),
                Task::Revocations { .. } | Task::State { .. } => continue,
            };
            if let Some(worker) = workers.get(usize::from(worker)) {
                worker.answer(done);
            }
        }
    };
    thread.spawn(serve).context("starting the signer")?;
    Ok(())
}

/// Whether the peer holds both keys, and its certificate is in its issuer's log.
fn check(verify: &Verify, logs: &LogCheck) -> Result<(), stoq::task::Refused> {
    verify.perform()?;
    logs.check(verify)
}
