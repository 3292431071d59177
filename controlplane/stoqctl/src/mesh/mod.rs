//! `stoqctl mesh`: makes a mesh, lets hosts join it, says what is behind them, cuts hosts off.
//!
//! hypermeshd decides and keeps everything; this module asks it and shows what it answered. What is
//! this program's own: the root's keys, which no daemon ever sees ([`root`], [`create`], [`promote`]),
//! and the configuration of stoqd, which only root may write ([`host`]).

mod create;
pub mod host;
mod join;
mod promote;
mod root;
pub mod show;

use std::io::Write;
use std::path::Path;

use hypermesh_api::{
    Done, Members, NodeName, Revoked, Route as RouteRequest, TokenReply, TokenRequest, TokenRole,
    path,
};

use crate::archive::new_private_file;
use crate::cli::{Behind, Mesh, Role, Route, Token};
use crate::failure::Failure;
use crate::hypermesh::{ANSWER_TIMEOUT, Way, connect};
use crate::output::{answer, progress};
use crate::remote;

/// The ways to both daemons.
#[derive(Clone, Copy)]
pub struct Sockets<'a> {
    /// stoqd's.
    pub stoqd: &'a Path,
    /// hypermeshd's, or the way to another host's.
    pub hypermesh: &'a Way,
}

/// Carries out one of the commands.
pub fn run(sockets: Sockets, command: &Mesh, json: bool) -> Result<(), Failure> {
    let way = sockets.hypermesh;
    match command {
        Mesh::Create(create) => create::run(sockets, create, json),
        Mesh::Join(join) => join::run(sockets, join, json),
        Mesh::Token(asked) => token(way, asked, json),
        Mesh::Members => {
            let members: Members = connect(way)?.get(path::MEMBERS)?;
            answer(json, &members, show::members)
        }
        Mesh::Route(Route::Add(behind)) => route(way, behind, path::ROUTE_ADD, json),
        Mesh::Route(Route::Remove(behind)) => route(way, behind, path::ROUTE_REMOVE, json),
        Mesh::Promote { node, root } => promote::run(way, node, root, json),
        Mesh::Revoke { node } => revoke(way, node, json),
        Mesh::Enrol { directory, token_file } => {
            let token = join::read_token(token_file.as_deref())?;
            remote::enrol(&token, directory, ANSWER_TIMEOUT, json)
        }
        Mesh::Renew => remote::renew(way, ANSWER_TIMEOUT, json),
        Mesh::Leave => leave(way, json),
    }
}

fn token(way: &Way, asked: &Token, json: bool) -> Result<(), Failure> {
    let request = TokenRequest {
        node: asked.node.clone(),
        role: match asked.role {
            Role::Node => TokenRole::Node,
            Role::Viewer => TokenRole::Viewer,
            Role::Operator => TokenRole::Operator,
            Role::Admin => TokenRole::Admin,
        },
        expires_s: asked.expires.as_secs(),
        addresses: Vec::new(),
    };
    let mut client = connect(way)?;
    // Before the token is made: one that has nowhere to go would be lost.
    let opened = |path: &'_ Path| Ok::<_, Failure>((path.to_owned(), new_private_file(path)?));
    let file = asked.out.as_deref().map(opened).transpose()?;
    let reply: Result<TokenReply, _> = client.post(path::TOKENS, &request);
    let Some((path, mut out)) = file else {
        let reply = reply?;
        note(asked, &reply, "");
        return answer(json, &reply, |reply| format!("{}\n", reply.token));
    };
    let reply = reply.inspect_err(|_| {
        // Empty, and ours: nothing is lost with it.
        let _ = std::fs::remove_file(&path);
    })?;
    let written = writeln!(out, "{}", reply.token).and_then(|()| out.sync_all());
    written.map_err(|error| Failure::writing(path.clone(), &error))?;
    note(asked, &reply, &format!(" --token-file {}", path.display()));
    if json {
        let told = serde_json::json!({ "file": path, "expires_at_s": reply.expires_at_s });
        return answer(true, &told, |_| String::new());
    }
    Ok(())
}

/// What to do with a token, on standard error: standard output is the token alone.
fn note(asked: &Token, reply: &TokenReply, from: &str) {
    progress(&format!(
        "This token lets one host join as {}, once, until {}. Whoever has it can: carry it over a \
         channel that you trust.\nOn that host: stoqctl mesh join{from}",
        asked.node,
        show::date(reply.expires_at_s)
    ));
}

fn route(way: &Way, behind: &Behind, path: &str, json: bool) -> Result<(), Failure> {
    let Behind { node, prefix } = behind;
    let request = RouteRequest { node: node.clone(), prefix: *prefix };
    let done: Done = connect(way)?.post(path, &request)?;
    answer(json, &done, |_| match path {
        path::ROUTE_ADD => format!(
            "{prefix} is behind {node}. Hosts there answer if their way back leads through {node}, \
             and {node} forwards.\n"
        ),
        _ => format!("{prefix} is not behind {node} any more.\n"),
    })
}

fn revoke(way: &Way, node: &str, json: bool) -> Result<(), Failure> {
    let revoked: Revoked = connect(way)?.post(path::REVOKE, &NodeName { node: node.to_owned() })?;
    if let Some(reason) = &revoked.not_pushed {
        progress(&format!("This host's stoqd does not enforce it yet: {reason}"));
    }
    answer(json, &revoked, |revoked| {
        format!(
            "{node} is revoked (set {}). Links to it are torn down as the set reaches each node; its \
             name and keys never come back.\n",
            revoked.sequence
        )
    })
}

fn leave(way: &Way, json: bool) -> Result<(), Failure> {
    let done: Done = connect(way)?.post(path::LEAVE, &serde_json::json!({}))?;
    answer(json, &done, |_| {
        "This host has left the mesh: the others revoke its keys. Stop stoqd, and remove \
         /etc/stoq/stoqd.toml if nothing else is in it.\n"
            .to_owned()
    })
}
