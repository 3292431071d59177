//! A worker's way to the threads that do what it must not wait for: signing and verifying proofs of
//! possession, and taking in what peers say of the mesh.

use crossbeam::channel::Sender;
use stoq::task::Task;
use stoq_telemetry::DropReason;

/// Proofs of one worker that are out at most: at 0.5 ms each they take 64 ms of the signer, well within
/// the time of a handshake. The rest wait at the endpoint, which bounds them by its connections.
pub const PROOFS_MAX: usize = 128;

/// Messages about the mesh that wait at most, of all workers. A set of revocations has up to 1 MiB; one
/// that finds no room is sent again by the next peer, or with the next connection.
pub const MESH_QUEUE: usize = 64;

/// A task, and the index of the worker that it is from.
pub type Errand = (u8, Task);

/// A worker's end of the queues.
pub struct Desk {
    worker: u8,
    proofs: Sender<Errand>,
    mesh: Sender<Errand>,
    out: usize,
}

impl Desk {
    /// The desk of this worker. `proofs` holds [`PROOFS_MAX`] errands of every worker.
    #[must_use]
    pub const fn new(worker: u8, proofs: Sender<Errand>, mesh: Sender<Errand>) -> Self {
        Self { worker, proofs, mesh, out: 0 }
    }

    pub(super) const fn has_room(&self) -> bool {
        self.out < PROOFS_MAX
    }

    /// Passes a task on. Returns why that was not possible, if somebody else does not say it.
    pub(super) fn hand_out(&mut self, task: Task) -> Option<DropReason> {
        match task {
            Task::Sign(_) | Task::Verify(_) => {
                // Without a signer the handshake's time runs out, and says so.
                self.out += usize::from(self.proofs.try_send((self.worker, task)).is_ok());
                None
            }
            Task::Revocations { .. } | Task::State { .. } => {
                // Counted, not logged: a peer decides how often it comes to this.
                let sent = self.mesh.try_send((self.worker, task));
                sent.is_err().then_some(DropReason::MeshQueueFull)
            }
        }
    }

    pub(super) fn returned(&mut self) {
        self.out = self.out.saturating_sub(1);
    }
}
