//! What a mesh agrees on, as a deterministic state machine: members, addresses, routes, issuers,
//! tokens, operators, revocations.
//!
//! ```text
//!  command ──► Sequencer::submit ──► Ledger: check, change, hash ──► Journal::append ──► receipt
//!                                                                        │
//!                                    Follower: same command, same hash ◄─┘
//! ```
//!
//! [`Ledger::apply`] is a pure function of the state and the command: no clock (time is a field of
//! the command), no randomness, no I/O, no iteration over an unordered map. So whoever applies the
//! same commands in the same order has the same state, byte for byte, and [`Ledger::hash`] proves
//! it. Shared state changes only through a [`Sequencer`]; [`Single`] is the one whose order is that
//! of one node, and others keep up as [`Follower`]s.
//!
//! The control plane's daemon calls it and carries out what it needs from the world ([`Journal`]).
//! What commands mean is fixed by their version: a rule is never changed, a new version is added,
//! since a replayed journal must come to the hashes that it once came to.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

mod command;
mod effect;
mod follower;
mod hash;
mod ledger;
mod rejected;
mod replay;
mod sequencer;
mod table;

pub use command::{
    COMMAND_MAX_BYTES, Command, CommandError, CommandV1, Founder, OperatorRole, Policy, Role,
};
pub use effect::{Effect, Enrolment};
pub use follower::{FollowError, Follower};
pub use ledger::{
    Addresses, CERTIFICATE_MAX_BYTES, ENDPOINTS_MAX, ISSUERS_MAX, Issuer, Ledger, MEMBERS_MAX,
    Member, Mesh, OPERATORS_MAX, Operator, REVOCATIONS_MAX, ROUTES_MAX, ROUTES_TOTAL_MAX,
    Revocation, Revoked, RevokedKind, SNAPSHOT_MAX_BYTES, SnapshotError, TOKEN_LIFE_MAX_S,
    TOKENS_MAX, Token,
};
pub use rejected::Rejected;
pub use replay::{Damage, Damaged, replay};
pub use sequencer::{Entry, Journal, JournalError, Receipt, Sequencer, Single, SubmitError};
