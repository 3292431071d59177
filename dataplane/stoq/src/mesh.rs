//! What a node knows of its mesh, as far as connections need it: who is revoked, and what is told to
//! peers. The daemon makes it from verified state and gives it to every worker, replaced as a whole;
//! nothing in it is verified here.

use std::collections::HashSet;
use std::sync::Arc;

use stoq_identity::PeerIdentity;

use crate::control::{CHUNK_LEN, Chunk, ControlError, REVOCATIONS_MAX, State};

/// A mesh's state, verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mesh {
    /// Sequence of the revocation set in force; 0 if there is none.
    pub sequence: u64,
    /// The set as it was signed, at most [`REVOCATIONS_MAX`] bytes; empty if there is none.
    pub set: Arc<[u8]>,
    /// Fingerprints of revoked keys.
    pub keys: HashSet<[u8; 32]>,
    /// Names of revoked nodes: a name never comes back.
    pub names: HashSet<String>,
    /// Number of the bundle in force; 0 if there is none.
    pub bundle: u64,
    /// The newest signed head of each log that this node was shown, as [`State`] bounds them.
    pub heads: Vec<Vec<u8>>,
}

impl Mesh {
    /// Whether this certificate's holder is cut off.
    #[must_use]
    pub fn is_revoked(&self, peer: &PeerIdentity) -> bool {
        self.keys.contains(&peer.keys.fingerprint()) || self.names.contains(peer.id.node())
    }

    pub(crate) fn state(&self) -> State {
        State { revocations: self.sequence, bundle: self.bundle, heads: self.heads.clone() }
    }
}

/// A set on its way to a peer: cut into chunks as the control stream takes them.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub sequence: u64,
    set: Arc<[u8]>,
    offset: usize,
}

impl Outgoing {
    pub fn new(mesh: &Mesh) -> Self {
        debug_assert!((1..=REVOCATIONS_MAX).contains(&mesh.set.len()));
        Self { sequence: mesh.sequence, set: Arc::clone(&mesh.set), offset: 0 }
    }

    /// The next chunk, or `None` at the end.
    pub fn next(&mut self) -> Option<Chunk> {
        let rest = self.set.get(self.offset..).filter(|rest| !rest.is_empty())?;
        let bytes = rest[..rest.len().min(CHUNK_LEN)].to_vec();
        let chunk = Chunk {
            sequence: self.sequence,
            total: u32::try_from(self.set.len()).ok()?,
            offset: u32::try_from(self.offset).ok()?,
            bytes,
        };
        self.offset += chunk.bytes.len();
        Some(chunk)
    }
}

/// A set that is arriving. Its memory is bounded by [`REVOCATIONS_MAX`], and claimed only as bytes come.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    sequence: u64,
    total: u32,
    bytes: Vec<u8>,
}

impl Incoming {
    /// Takes a chunk. Returns the set with its sequence when it is whole. A chunk at 0 begins anew: the
    /// sender has got a newer set meanwhile.
    pub fn push(&mut self, chunk: Chunk) -> Result<Option<(u64, Vec<u8>)>, ControlError> {
        if chunk.offset == 0 {
            *self = Self { sequence: chunk.sequence, total: chunk.total, bytes: Vec::new() };
        }
        let same = (self.sequence, self.total) == (chunk.sequence, chunk.total);
        if !same || self.bytes.len() != chunk.offset as usize {
            return Err(ControlError::ChunkOrder { got: chunk.offset });
        }
        self.bytes.extend_from_slice(&chunk.bytes);
        if self.bytes.len() < self.total as usize {
            return Ok(None);
        }
        let whole = std::mem::take(self);
        Ok(Some((whole.sequence, whole.bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mesh(len: usize) -> Mesh {
        let set: Vec<u8> = (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect();
        Mesh { sequence: 7, set: set.into(), ..Mesh::default() }
    }

    #[test]
    fn a_set_arrives_as_it_was_cut() {
        for len in [1, CHUNK_LEN - 1, CHUNK_LEN, CHUNK_LEN + 1, REVOCATIONS_MAX] {
            let mesh = mesh(len);
            let (mut outgoing, mut incoming) = (Outgoing::new(&mesh), Incoming::default());
            let mut whole = None;
            while let Some(chunk) = outgoing.next() {
                assert_eq!(whole, None);
                whole = incoming.push(chunk).unwrap();
            }
            assert_eq!(whole, Some((7, mesh.set.to_vec())), "{len}");
        }
    }

    #[test]
    fn chunks_out_of_order_are_refused_and_a_new_set_begins_at_its_start() {
        let mesh = mesh(3 * CHUNK_LEN);
        let mut outgoing = Outgoing::new(&mesh);
        let chunks: Vec<Chunk> = std::iter::from_fn(|| outgoing.next()).collect();
        let mut incoming = Incoming::default();
        let got = chunks[1].offset;
        let refused = Err(ControlError::ChunkOrder { got });
        assert_eq!(incoming.push(chunks[1].clone()), refused);
        assert_eq!(incoming.push(chunks[0].clone()), Ok(None));
        let other = Chunk { sequence: 8, ..chunks[1].clone() };
        assert_eq!(incoming.push(other), refused);
        assert_eq!(incoming.push(chunks[0].clone()), Ok(None));
        let repeated = incoming.push(chunks[1].clone()).and(incoming.push(chunks[1].clone()));
        assert_eq!(repeated, refused);
    }
}
