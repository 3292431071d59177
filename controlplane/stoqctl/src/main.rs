//! `stoqctl`, the operator's command line.
//!
//! It owns no state: certificates are made by `stoq-pki` and `stoq-trustchain`, the host is looked at
//! and set by `stoq-tuning`, and everything about the daemons goes over their sockets. Scripts rely on the exit codes of
//! [`failure::Failure`] and on the JSON of `status --json`.
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
mod pem;
mod pki;
mod stream;
mod table;
mod tune;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Arguments, Cert, Command, Verify};
use crate::failure::Failure;

fn main() -> ExitCode {
    let Arguments { socket, hypermesh_socket: hypermesh, command } = Arguments::parse();
    let sockets = mesh::Sockets { stoqd: &socket, hypermesh: &hypermesh };
    let done = match command {
        Command::Mesh(command) => mesh::run(sockets, &command),
        Command::Backup { file, output } => archive::backup(&hypermesh, &file, output.json),
        Command::Restore { file, host, output } => {
            archive::restore(sockets, &file, &host, output.json)
        }
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { directory } => manual::pages(&directory),
        Command::Cert(Cert::Show { file, authority, output }) => {
            verify::certificate::show(&hypermesh, &file, &authority, output.json)
        }
        Command::Log(Verify::Verify { authority, output }) => {
            verify::log::verify(&hypermesh, &authority, output.json)
        }
        Command::Audit(Verify::Verify { authority, output }) => {
            verify::audit::verify(&hypermesh, &authority, output.json)
        }
        Command::Pki(command) => pki::run(&command),
        Command::Status { json } => daemon::status(&socket, json),
        Command::Reload => daemon::reload(&socket),
        Command::Drain => daemon::drain(&socket),
        Command::Doctor { config } => doctor::run(&socket, &config.config),
        Command::Names(command) => names::run(&hypermesh, &command),
        Command::Tune(command) => tune::run(&socket, &command),
        Command::Capture(arguments) => capture::run(&socket, &arguments),
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
