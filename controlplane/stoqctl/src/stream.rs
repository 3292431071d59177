//! `stoqctl stream`: standard input and output, joined to a service of a peer.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use stoq_control::{Request, Response};

use crate::daemon::{connect, unexpected};
use crate::failure::Failure;

/// Bytes moved at a time: what the daemon moves.
const CHUNK: usize = 64 * 1024;

/// Carries out the command. It ends when the service has said all; input that is left then has
/// nobody to read it.
pub fn run(socket: &Path, peer: String, service: String) -> Result<(), Failure> {
    let mut client = connect(socket)?;
    match client.call(Request::Stream { peer, service })? {
        Response::Stream {} => {}
        other => return Err(unexpected("a stream", &other)),
    }
    let broken = |error: io::Error| Failure::Unreachable(format!("the stream broke: {error}"));
    let (from_service, to_service) = client.into_duplex().map_err(broken)?;
    thread::spawn(move || send_input(&to_service));
    receive(from_service, broken)
}

/// Passes standard input on. What cannot be sent any more ends the other direction as well, which
/// reports it.
fn send_input(mut to_service: &UnixStream) {
    let _sent = io::copy(&mut io::stdin().lock(), &mut to_service);
    let _gone = to_service.shutdown(Shutdown::Write);
}

fn receive(
    mut from_service: impl Read,
    broken: impl Fn(io::Error) -> Failure,
) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = match from_service.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(broken(error)),
        };
        let written = out.write_all(&chunk[..length]).and_then(|()| out.flush());
        written.map_err(|error| Failure::writing("standard output".into(), &error))?;
    }
}
