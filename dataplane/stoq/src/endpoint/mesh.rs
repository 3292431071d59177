//! The mesh's state between nodes: who has the newer set of revocations, how it spreads, and what it
//! does to connections at once.
//!
//! A connection whose peer has a newer set carries nothing before this node has that set as well: the
//! stage [`Stage::Behind`]. Sets spread from node to node over links, so a revoked node is cut off
//! everywhere with the control plane dead.

use std::sync::Arc;
use std::time::Instant;

use stoq_telemetry::DropReason;

use super::Endpoint;
use crate::PeerId;
use crate::conn::{Code, Conn, Stage};
use crate::control::{Chunk, Frame, State};
use crate::link::Key;
use crate::mesh::Mesh;
use crate::task::Task;

/// Tasks about the mesh that wait at most: a set has up to 1 MiB. What comes beyond is sent again by the
/// peer with the next connection.
const MESH_TASKS_MAX: usize = 8;

impl Endpoint {
    /// Uses this state of the mesh from now on: cuts off who is revoked, lets connections go on that
    /// waited for it, and tells every linked peer that knows less.
    pub fn set_mesh(&mut self, mesh: Arc<Mesh>, now: Instant) {
        self.mesh = mesh;
        for key in self.conns.iter().map(|(key, _)| key).collect::<Vec<_>>() {
            self.enforce(key, now);
            self.go_on(key, now);
        }
        self.tell_links();
    }

    /// Ends a connection to a revoked node.
    fn enforce(&mut self, key: Key, now: Instant) {
        let Some(conn) = self.conns.get(key).filter(|conn| conn.stage != Stage::Closing) else {
            return;
        };
        let Some(identity) = conn.peer_identity.as_ref() else { return };
        if !self.mesh.is_revoked(identity) {
            return;
        }
        let why = format!("node {} was revoked (set {})", identity.id.node(), self.mesh.sequence);
        let peer = conn.peer;
        self.refuse(key, DropReason::Revoked, Code::Revoked, why);
        if let Some(peer) = peer {
            self.remove_from_lane(key, peer, now);
        }
    }

    /// One connection of each link tells the peer, if it knows less.
    fn tell_links(&mut self) {
        let of_link = |link: &Option<super::Link>| {
            let lanes = link.as_ref()?.lanes.iter();
            lanes.filter_map(|lane| lane.slot.current).map(|member| member.key).next()
        };
        for key in self.links.iter().filter_map(of_link).collect::<Vec<_>>() {
            let mesh = Arc::clone(&self.mesh);
            let Some(conn) = self.conns.get_mut(key) else { continue };
            conn.send_frame(&Frame::State(mesh.state()));
            conn.offer(&mesh);
            self.activate(key);
        }
    }

    /// The peer says what it knows.
    pub(super) fn state(&mut self, key: Key, state: State, now: Instant) {
        let mesh = Arc::clone(&self.mesh);
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Some(peer) = conn.peer else { return };
        conn.peer_sequence = Some(state.revocations);
        conn.offer(&mesh);
        self.mesh_task(Task::State { peer, state });
        self.go_on(key, now);
    }

    /// Gives a connection its place once HELLO and STATE are there and this node's set is no older.
    pub(super) fn go_on(&mut self, key: Key, now: Instant) {
        let sequence = self.mesh.sequence;
        let Some(conn) = self.conns.get_mut(key) else { return };
        let (Some(peer), Some(theirs)) = (conn.peer, conn.peer_sequence) else { return };
        if !matches!(conn.stage, Stage::Hello | Stage::Behind) {
            return;
        }
        if theirs > sequence {
            conn.stage = Stage::Behind;
            return;
        }
        if let Some(hello) = conn.hello.take() {
            self.ready(key, peer, &hello, now);
        }
    }

    /// A piece of the peer's set.
    pub(super) fn revocations(&mut self, key: Key, chunk: Chunk) {
        let known = self.mesh.sequence;
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Some(peer) = conn.peer else { return };
        match conn.incoming.get_or_insert_default().push(chunk) {
            Ok(None) => {}
            Ok(Some((sequence, set))) => {
                conn.incoming = None;
                // Another peer was faster.
                if sequence > known {
                    self.mesh_task(Task::Revocations { peer, sequence, set });
                }
            }
            Err(error) => {
                self.local.drops.count(DropReason::ControlInvalid);
                self.close(key, Code::ControlInvalid, error.to_string().as_bytes());
            }
        }
    }

    fn mesh_task(&mut self, task: Task) {
        let of_mesh = |task: &&Task| matches!(task, Task::Revocations { .. } | Task::State { .. });
        let is_set = matches!(task, Task::Revocations { .. });
        // What peers say of themselves is worth less than a set.
        let most = if is_set { 2 * MESH_TASKS_MAX } else { MESH_TASKS_MAX };
        if self.tasks.iter().filter(of_mesh).count() < most {
            self.tasks.push_back(task);
        } else {
            self.local.drops.count(DropReason::MeshQueueFull);
        }
    }

    /// The highest sequence that a connected peer has named: above ours, this node's set is stale.
    #[must_use]
    pub fn newest_sequence(&self) -> Option<(PeerId, u64)> {
        let named = |(_, conn): (Key, &Conn)| Some((conn.peer?, conn.peer_sequence?));
        self.conns.iter().filter_map(named).max_by_key(|(_, sequence)| *sequence)
    }
}
