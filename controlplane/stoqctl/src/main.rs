//! `stoqctl`, the operator's command line.
//!
//! It owns no state: certificates are made by `stoq-pki` and `stoq-trustchain`, the host is looked at
//! and set by `stoq-tuning`, and everything about the daemons goes over their sockets. Scripts rely on the exit codes of
//! [`failure::Failure`] and on the JSON that `--json` makes of every answer ([`output`]).
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

mod archive;
mod capture;
mod cli;
mod daemon;
mod doctor;
mod failure;
mod hypermesh;
mod manual;
mod mesh;
mod names;
mod node;
mod output;
mod pem;
mod pki;
mod remote;
mod rotation;
mod stream;
mod table;
mod tune;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Arguments, Cert, Command, Verify};
use crate::failure::Failure;
use crate::hypermesh::Way;
use crate::remote::Remote;

fn main() -> ExitCode {
    let Arguments { socket, hypermesh_socket, api, identity, authority, json, command } =
        Arguments::parse();
    let hypermesh = match (api, identity, authority) {
        (Some(address), Some(identity), Some(authority)) => {
            Way::Remote(Remote { address, identity, authority })
        }
        _ => Way::Local(hypermesh_socket),
    };
    let sockets = mesh::Sockets { stoqd: &socket, hypermesh: &hypermesh };
    let done = match command {
        Command::Mesh(command) => mesh::run(sockets, &command, json),
        Command::Backup(wanted) => archive::backup(&hypermesh, &wanted, json),
        Command::Restore { file, host } => archive::restore(sockets, &file, &host, json),
        Command::Completions { shell } => manual::completions(shell, json),
        Command::Man { directory } => manual::pages(&directory, json),
        Command::Cert(Cert::Show { file, authority }) => {
            verify::certificate::show(&hypermesh, &file, &authority, json)
        }
        Command::Log(Verify::Verify { authority }) => {
            verify::log::verify(&hypermesh, &authority, json)
        }
        Command::Audit(Verify::Verify { authority }) => {
            verify::audit::verify(&hypermesh, &authority, json)
        }
        Command::Pki(command) => pki::run(&command, json),
        Command::Status => daemon::status(&socket, json),
        Command::Reload => daemon::reload(&socket, json),
        Command::Drain => daemon::drain(&socket, json),
        Command::Upgrade => daemon::upgrade(&socket, json),
        Command::Doctor { config } => doctor::run(&socket, &config.config, json),
        Command::Names(command) => names::run(&hypermesh, &command, json),
        Command::Tune(command) => tune::run(&socket, &command, json),
        Command::Capture(arguments) => capture::run(&socket, &arguments, json),
        Command::Stream { .. } if json => Err(Failure::Usage(
            "expected a stream without --json: standard output is the service's own bytes"
                .to_owned(),
        )),
        Command::Stream { peer, service } => stream::run(&socket, peer, service),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::OutputClosed) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("stoqctl: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
