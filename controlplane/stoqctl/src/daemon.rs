//! The commands that are one request to the daemon: `status`, `reload`, `drain`.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use stoq_control::{Client, Request, Response, Status};

use crate::failure::Failure;
use crate::output::answer;
use crate::table;

/// How long the daemon may take to answer: a reload reads files and re-checks certificates, which
/// is well under a second; a host under full load may be ten times slower.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a hand-over may take: the daemon gives it 30 s for the links, and 10 s for each step beside.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(90);

/// Connects to the daemon at `socket`.
pub fn connect(socket: &Path) -> Result<Client, Failure> {
    Ok(Client::connect(socket, ANSWER_TIMEOUT)?)
}

/// Asks the daemon for its state.
pub fn fetch_status(socket: &Path) -> Result<Status, Failure> {
    match connect(socket)?.call(Request::Status {})? {
        Response::Status(status) => Ok(*status),
        other => Err(unexpected("a status", &other)),
    }
}

/// `stoqctl status`.
pub fn status(socket: &Path, json: bool) -> Result<(), Failure> {
    answer(json, &fetch_status(socket)?, table::status)
}

/// What a reload changed.
#[derive(Serialize)]
struct Reloaded {
    /// Keys of the configuration that count after a restart only.
    restart_needed: Vec<String>,
    /// What the daemon remarks on.
    warnings: Vec<String>,
}

/// `stoqctl reload`.
pub fn reload(socket: &Path, json: bool) -> Result<(), Failure> {
    match connect(socket)?.call(Request::Reload {})? {
        Response::Reloaded { restart_needed, warnings } => {
            let reloaded = Reloaded { restart_needed, warnings };
            answer(json, &reloaded, |it| table::reloaded(&it.restart_needed, &it.warnings))
        }
        other => Err(unexpected("a reload", &other)),
    }
}

/// That the daemon is about to end.
#[derive(Serialize)]
struct Draining {
    /// Always true: what refuses is no answer.
    draining: bool,
}

/// `stoqctl drain`.
pub fn drain(socket: &Path, json: bool) -> Result<(), Failure> {
    match connect(socket)?.call(Request::Drain {})? {
        Response::Draining {} => answer(json, &Draining { draining: true }, |_| {
            "Draining: the daemon ends when its links are closed.\n".to_owned()
        }),
        other => Err(unexpected("a drain", &other)),
    }
}

/// Who carries the traffic now.
#[derive(Serialize)]
struct Upgraded {
    pid: u32,
    version: String,
}

/// `stoqctl upgrade`.
pub fn upgrade(socket: &Path, json: bool) -> Result<(), Failure> {
    match Client::connect(socket, UPGRADE_TIMEOUT)?.call(Request::Upgrade {})? {
        Response::Upgraded { pid, version } => answer(json, &Upgraded { pid, version }, |it| {
            format!("Process {} carries the traffic now, stoqd {}.\n", it.pid, it.version)
        }),
        other => Err(unexpected("a hand-over", &other)),
    }
}

/// The failure for an answer to another question.
pub fn unexpected(expected: &str, got: &Response) -> Failure {
    Failure::Refused(format!(
        "expected the daemon to answer with {expected}, got {got:?}; use a stoqctl of its version"
    ))
}
