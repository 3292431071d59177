//! `stoqctl mesh join`: this host becomes a node of the mesh that a token is for.
//!
//! hypermeshd makes the keys, verifies the mesh before it reveals anything, and enrols. The token comes
//! from a file or standard input: arguments are shown to every user of a host by `ps`.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use hypermesh_api::{JoinReply, JoinRequest, path};
use serde::Serialize;

use super::host::{self, Prepared};
use super::{Sockets, show};
use crate::cli::Join;
use crate::failure::Failure;
use crate::hypermesh::connect;
use crate::output::{answer, progress};

/// Longest token that is read: its text is a few hundred bytes.
const TOKEN_MAX: u64 = 8 * 1024;

/// What this host is now.
#[derive(Debug, Serialize)]
struct Joined {
    #[serde(flatten)]
    reply: JoinReply,
    #[serde(flatten)]
    host: Prepared,
}

/// Carries out the command.
pub fn run(sockets: Sockets, join: &Join, json: bool) -> Result<(), Failure> {
    sockets.hypermesh.local()?;
    let mut client = connect(sockets.hypermesh)?;
    let token = read_token(join.token_file.as_deref())?;
    let request = JoinRequest { token, endpoints: host::endpoints(&join.host) };
    progress("Making keys, checking the mesh, enrolling ...");
    let reply: JoinReply = client.post(path::JOIN, &request)?;
    let mut host = host::prepare(sockets, &join.host, &reply)?;
    host.wait_for_link(sockets.stoqd);
    host.settle_names(sockets.hypermesh);
    answer(json, &Joined { reply, host }, |joined| {
        let Joined { reply, host } = joined;
        let addresses = show::list(reply.addresses.iter().map(ipnet::IpNet::addr));
        format!("{} of mesh {}: {addresses}\n{}", reply.node, reply.mesh, host.shown())
    })
}

pub(super) fn read_token(file: Option<&Path>) -> Result<String, Failure> {
    let (from, read) = match file {
        Some(path) => (path.display().to_string(), File::open(path).and_then(bounded)),
        None => {
            if io::stdin().is_terminal() {
                progress("Paste the token of `stoqctl mesh token`, then press Ctrl-D:");
            }
            ("standard input".to_owned(), bounded(io::stdin().lock()))
        }
    };
    let wrong = |got: &str| {
        Failure::Usage(format!(
            "{from}: expected the token that `stoqctl mesh token` printed, got {got}"
        ))
    };
    let text = read.map_err(|error| wrong(&error.to_string()))?;
    match text.trim() {
        "" => Err(wrong("nothing")),
        token if token.contains(char::is_whitespace) => Err(wrong("more than one word")),
        token => Ok(token.to_owned()),
    }
}

fn bounded(source: impl Read) -> io::Result<String> {
    let mut text = String::new();
    source.take(TOKEN_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > TOKEN_MAX {
        return Err(io::Error::other(format!("more than {TOKEN_MAX} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    #[test]
    fn a_token_is_one_word_of_bounded_length() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("token");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_token(Some(&path)).map_err(|failure| failure.to_string())
        };
        assert_eq!(read("stoq-token\n").unwrap(), "stoq-token");
        for (text, got) in [
            ("", "got nothing"),
            ("a b", "more than one word"),
            (&"x".repeat(9000), "more than 8192 bytes"),
        ] {
            let refused = read(text).unwrap_err();
            assert!(refused.contains(got) && refused.contains("stoqctl mesh token"), "{refused}");
        }
        let missing = read_token(Some(&directory.path().join("none"))).unwrap_err();
        assert_eq!(missing.exit_code(), 2);
    }
}
