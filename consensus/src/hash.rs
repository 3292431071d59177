//! SHA-256 with domain separation: two things of different kinds never hash the same bytes.

use aws_lc_rs::digest::{Context, SHA256};

/// What is hashed. The discriminant is the first byte that enters the hash.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum Domain {
    /// One row of a table.
    Row = 0,
    /// The rows of one bucket.
    Bucket = 1,
    /// Two nodes of the tree over buckets.
    Node = 2,
    /// The whole state.
    State = 3,
    /// One more command behind all before it.
    History = 4,
    /// The key of a row, to choose its bucket.
    Key = 5,
}

/// SHA-256 over the domain and the parts, one after the other. Parts of variable length have to be
/// told apart by the caller.
pub(crate) fn hash(domain: Domain, parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(&[domain as u8]);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}
