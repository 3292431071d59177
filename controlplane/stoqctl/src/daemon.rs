//! The commands that are one request to the daemon: `status`, `reload`, `drain`.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use stoq_control::{Client, Request, Response, Status};

use crate::failure::Failure;
use crate::table;

/// How long the daemon may take to answer: a reload reads files and re-checks certificates, which
/// is well under a second; a host under full load may be ten times slower.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

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
    let status = fetch_status(socket)?;
    if !json {
        return print(&table::status(&status));
    }
    let text = serde_json::to_string_pretty(&status)
        .map_err(|error| Failure::Refused(format!("expected a status, got: {error}")))?;
    print(&(text + "\n"))
}

/// `stoqctl reload`.
pub fn reload(socket: &Path) -> Result<(), Failure> {
    match connect(socket)?.call(Request::Reload {})? {
        Response::Reloaded { restart_needed, warnings } => {
            print(&table::reloaded(&restart_needed, &warnings))
        }
        other => Err(unexpected("a reload", &other)),
    }
}

/// `stoqctl drain`.
pub fn drain(socket: &Path) -> Result<(), Failure> {
    match connect(socket)?.call(Request::Drain {})? {
        Response::Draining {} => print("Draining: the daemon ends when its links are closed.\n"),
        other => Err(unexpected("a drain", &other)),
    }
}

/// The failure for an answer to another question.
pub fn unexpected(expected: &str, got: &Response) -> Failure {
    Failure::Refused(format!(
        "expected the daemon to answer with {expected}, got {got:?}; use a stoqctl of its version"
    ))
}

/// Writes to standard output; a reader that has gone away is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::writing("standard output".into(), &error))
}
