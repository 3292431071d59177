//! Which port moves the packets, as configured or as measured, and what it needs.

use std::sync::Arc;

use anyhow::{Context, Result};
use stoq_port::probe::{Selection, select};
use stoq_port::xdp::NextHops;
use stoq_port::{PortKind, PortOptions, Sender};

use super::bypass::{Attachment, attach};
use crate::broker::{Broker, ConnectionIds};
use crate::config::{Config, PortChoice, SenderChoice};

/// Fewest cores with which a worker on a ring leaves sending to a thread. On two, the other core has
/// the applications and the control plane, and handing packets to it costs more than it gains; plain
/// sockets gain even then, for they make the worker wait (docs/decisions/0005-first-figures.md).
const RING_SENDER_CORES: usize = 3;

/// The port, and what is beneath it.
pub(super) struct Choice {
    /// For the status.
    pub selection: Selection,
    /// The port on sockets: the one, or the one beneath xdp.
    pub sockets: PortKind,
    /// How that one works.
    pub sockets_mode: String,
    /// What it may use.
    pub options: PortOptions,
    /// The way past the kernel, if packets take it.
    pub bypass: Option<(Attachment, Arc<NextHops>)>,
}

/// Chooses the port.
///
/// # Errors
/// When the configured one does not work here, or none does.
pub(super) fn choose(
    config: &Config,
    broker: &Broker,
    ids: &ConnectionIds,
    workers: usize,
) -> Result<Choice> {
    let transport = &config.transport;
    let mut options = PortOptions {
        gso: transport.gso,
        gro: transport.gro,
        multishot: transport.multishot,
        ..PortOptions::default()
    };
    let wanted = match transport.port {
        PortChoice::Auto | PortChoice::Xdp => None,
        PortChoice::Uring => Some(PortKind::Uring),
        PortChoice::Mio => Some(PortKind::Mio),
    };
    let mut selection = select(wanted, &options)?;
    let (sockets, sockets_mode) = (selection.selected, selection.mode.clone());
    options.sender = sender(transport.sender, sockets);
    let mut bypass = None;
    if transport.port == PortChoice::Xdp {
        let attachment = attach(broker, ids, workers)?;
        let mode = attachment.mode.to_string();
        selection = Selection { selected: PortKind::Xdp, mode, passed_over: Vec::new() };
        let hops = NextHops::new().context("making the table of next hops")?;
        bypass = Some((attachment, Arc::new(hops)));
    }
    for (port, reason) in &selection.passed_over {
        tracing::info!(%port, "passed over: {reason}");
    }
    Ok(Choice { selection, sockets, sockets_mode, options, bypass })
}

/// Who sends.
fn sender(choice: SenderChoice, port: PortKind) -> Sender {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let least = if port == PortKind::Uring { RING_SENDER_CORES } else { 2 };
    match choice {
        SenderChoice::Inline => Sender::Inline,
        SenderChoice::Thread => Sender::Thread,
        SenderChoice::Auto if cores >= least => Sender::Thread,
        SenderChoice::Auto => Sender::Inline,
    }
}
