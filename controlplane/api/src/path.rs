//! The paths of the API, each once: the server's routes and the clients' calls name these.

/// `GET`: what this daemon is and how it fares. [`Status`](crate::Status).
pub const STATUS: &str = "/v1/status";
/// `GET`: the OpenAPI description.
pub const OPENAPI: &str = "/v1/openapi.json";
/// `POST` (local): makes an issuer's and a log's keys, returns what the root must sign.
pub const ISSUER_REQUEST: &str = "/v1/mesh/issuer-request";
/// `POST` (local): founds the mesh. [`FoundRequest`](crate::FoundRequest).
pub const FOUND: &str = "/v1/mesh/found";
/// `POST` (local): joins a mesh by a token. [`JoinRequest`](crate::JoinRequest).
pub const JOIN: &str = "/v1/mesh/join";
/// `POST` (local): leaves the mesh.
pub const LEAVE: &str = "/v1/mesh/leave";
/// `POST` (admin): an issuer's request made at another member. [`NodeName`](crate::NodeName).
pub const PROMOTE_REQUEST: &str = "/v1/mesh/promote-request";
/// `POST` (admin): makes a member an issuer. [`AddIssuerRequest`](crate::AddIssuerRequest).
pub const PROMOTE: &str = "/v1/mesh/promote";
/// `GET`, and `POST` (operator): enrolment tokens.
pub const TOKENS: &str = "/v1/tokens";
/// `POST` (no certificate): enrolment. [`EnrolRequest`](crate::EnrolRequest).
pub const ENROL: &str = "/v1/enrol";
/// `GET`: [`Names`](crate::Names).
pub const NAMES: &str = "/v1/names";
/// `POST` (node; without a link by proving its keys): renews its own certificate. [`RenewRequest`](crate::RenewRequest).
pub const RENEW: &str = "/v1/renew";
/// `GET`: [`Members`](crate::Members).
pub const MEMBERS: &str = "/v1/members";
/// `POST` (admin): revokes a node. [`NodeName`](crate::NodeName).
pub const REVOKE: &str = "/v1/members/revoke";
/// `POST` (admin): [`Route`](crate::Route).
pub const ROUTE_ADD: &str = "/v1/routes/add";
/// `POST` (admin): [`Route`](crate::Route).
pub const ROUTE_REMOVE: &str = "/v1/routes/remove";
/// `POST` (node, for itself; local): [`Endpoints`](crate::Endpoints).
pub const ENDPOINTS: &str = "/v1/endpoints";
/// `GET`, and `POST` (admin): operators and their certificates.
pub const OPERATORS: &str = "/v1/operators";
/// `POST` (admin): takes an operator's role away.
pub const OPERATOR_REMOVE: &str = "/v1/operators/remove";
/// `GET`: commands from a height on; waits for one. [`FromHeight`](crate::FromHeight).
pub const COMMANDS: &str = "/v1/ledger/commands";
/// `GET`: [`Snapshot`](crate::Snapshot).
pub const SNAPSHOT: &str = "/v1/ledger/snapshot";
/// `GET`: [`HeadReply`](crate::HeadReply); `POST` (node): [`LedgerReport`](crate::LedgerReport).
pub const LEDGER_HEAD: &str = "/v1/ledger/head";
/// `GET`: [`BundleReply`](crate::BundleReply).
pub const BUNDLE: &str = "/v1/bundle";
/// `GET`: [`Heads`](crate::Heads).
pub const LOG_HEADS: &str = "/v1/log/heads";
/// `GET`: [`LogEntries`](crate::LogEntries), by [`RangeQuery`](crate::RangeQuery).
pub const LOG_ENTRIES: &str = "/v1/log/entries";
/// `GET`: [`Proof`](crate::Proof), by [`ProofQuery`](crate::ProofQuery).
pub const LOG_PROOF: &str = "/v1/log/proof";
/// `GET`: [`Consistency`](crate::Consistency), by [`ConsistencyQuery`](crate::ConsistencyQuery).
pub const LOG_CONSISTENCY: &str = "/v1/log/consistency";
/// `GET`: [`AuditEntries`](crate::AuditEntries), by [`RangeQuery`](crate::RangeQuery).
pub const AUDIT: &str = "/v1/audit";
/// `POST` (admin, local): the whole state as one file (`application/octet-stream`).
pub const BACKUP: &str = "/v1/backup";
/// `POST` (local): takes a backup over; only where there is no mesh.
pub const RESTORE: &str = "/v1/restore";
