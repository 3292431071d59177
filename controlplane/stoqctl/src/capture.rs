//! `stoqctl capture`: a bounded stream of packets from the daemon into a file or pipe, as pcap.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use stoq_control::{Request, Response};

use crate::cli::Capture;
use crate::daemon::{connect, unexpected};
use crate::failure::Failure;
use crate::output::answer;

/// How much longer than the capture itself the stream may be silent before it counts as broken.
const GRACE_S: u32 = 10;

/// Bytes taken from the daemon at a time: some forty full packets.
const CHUNK: usize = 64 * 1024;

/// Carries out the command.
pub fn run(socket: &Path, arguments: &Capture, json: bool) -> Result<(), Failure> {
    let stdout = || Destination::Output(io::stdout());
    if arguments.out.is_none() && io::stdout().is_terminal() {
        return Err(Failure::Usage(
            "expected a file or a pipe for packets, got a terminal: add `--out FILE`, \
             or ` | tcpdump -nr -`"
                .to_owned(),
        ));
    }
    if json && arguments.out.is_none() {
        return Err(Failure::Usage(
            "expected `--out FILE` beside --json: standard output is one of the two".to_owned(),
        ));
    }
    let mut client = connect(socket)?;
    match client.call(Request::Capture(arguments.request()))? {
        Response::Capture { .. } => {}
        other => return Err(unexpected("a capture", &other)),
    }
    let mut out = arguments.out.clone().map_or(Ok(stdout()), Destination::create)?;
    let silence = Duration::from_secs(u64::from(arguments.seconds + GRACE_S));
    let broken = |error: io::Error| Failure::Unreachable(format!("the capture broke: {error}"));
    let mut packets = client.into_stream(silence).map_err(broken)?;
    let bytes = copy(&mut packets, &mut out, broken)?;
    match &arguments.out {
        Some(file) if json => answer(true, &Captured { file, bytes }, |_| String::new()),
        _ => Ok(()),
    }
}

/// What was captured.
#[derive(Serialize)]
struct Captured<'a> {
    /// The pcap file.
    file: &'a Path,
    /// Its length.
    bytes: u64,
}

/// Copies until the daemon closes, and says how many bytes; what came before a break is kept.
fn copy(
    packets: &mut impl Read,
    out: &mut Destination,
    broken: impl Fn(io::Error) -> Failure,
) -> Result<u64, Failure> {
    let mut chunk = vec![0; CHUNK];
    let mut copied = 0;
    loop {
        let length = match packets.read(&mut chunk) {
            Ok(0) => return Ok(copied),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(broken(error)),
        };
        out.write(&chunk[..length])?;
        copied += length as u64;
    }
}

enum Destination {
    File(File, PathBuf),
    Output(io::Stdout),
}

impl Destination {
    /// A new file that only its owner reads: a capture of the tunnel is clear text.
    fn create(path: PathBuf) -> Result<Self, Failure> {
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        match opened {
            Ok(file) => Ok(Self::File(file, path)),
            Err(error) => Err(Failure::writing(path, &error)),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Self::File(file, path) => {
                file.write_all(bytes).map_err(|error| Failure::writing(path.clone(), &error))
            }
            Self::Output(out) => out
                .write_all(bytes)
                .and_then(|()| out.flush())
                .map_err(|error| Failure::writing("standard output".into(), &error)),
        }
    }
}
