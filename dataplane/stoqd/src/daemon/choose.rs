//! Which port moves the packets, as configured or as measured, and what it needs.

use std::sync::Arc;

use anyhow::{Context, Result};
use stoq_port::probe::{Selection, select};
use stoq_port::xdp::NextHops;
use stoq_port::{PortKind, PortOptions, Sender};

use super::bypass::{Attachment, attach, compare};
use super::handover::Elder;
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
    /// The port on sockets and how it works: the one, or the one beneath xdp.
    pub sockets: (PortKind, String),
    /// What it may use.
    pub options: PortOptions,
    /// The way past the kernel, if packets take it.
    pub bypass: Option<Way>,
}

/// The way past the kernel.
pub(super) struct Way {
    /// Nothing yet where another process has it.
    pub attachment: Option<Attachment>,
    pub hops: Arc<NextHops>,
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
    elder: Option<&Elder>,
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
    let bypass = match elder {
        Some(elder) => after(transport.port, elder, &mut selection),
        None => try_bypass(config, broker, (ids, workers), &options, &mut selection)?,
    };
    for (port, reason) in &selection.passed_over {
        tracing::info!(%port, "passed over: {reason}");
    }
    let sockets = match &bypass {
        Some((_, beneath)) => beneath.clone(),
        None => (selection.selected, selection.mode.clone()),
    };
    options.sender = sender(transport.sender, selection.selected);
    let way = |(attachment, _)| {
        let hops = NextHops::new().context("making the table of next hops")?;
        Ok::<_, anyhow::Error>(Way { attachment, hops: Arc::new(hops) })
    };
    let bypass = bypass.map(way).transpose()?;
    Ok(Choice { selection, sockets, options, bypass })
}

/// What is attached, if it can be now, and the port beneath.
type Bypassed = (Option<Attachment>, (PortKind, String));

/// Goes past the kernel if that is configured, or is best here.
fn try_bypass(
    config: &Config,
    broker: &Broker,
    (ids, workers): (&ConnectionIds, usize),
    options: &PortOptions,
    selection: &mut Selection,
) -> Result<Option<Bypassed>> {
    let taken = match config.transport.port {
        PortChoice::Xdp => Some(take(selection, attach(broker, ids, workers)?)),
        PortChoice::Auto if config.transport.interface.is_some() => {
            try_all(broker, ids, workers, options, selection)
        }
        PortChoice::Auto => {
            let reason = "no interface is configured; set `interface` in [transport]".to_owned();
            selection.passed_over.insert(0, (PortKind::Xdp, reason));
            None
        }
        PortChoice::Uring | PortChoice::Mio => None,
    };
    Ok(taken.map(|(attachment, beneath)| (Some(attachment), beneath)))
}

/// As the process before did: to compare anew takes the interface, which that one has until it ends.
fn after(port: PortChoice, elder: &Elder, selection: &mut Selection) -> Option<Bypassed> {
    match port {
        PortChoice::Xdp => {}
        PortChoice::Auto if elder.had_bypass() => {}
        PortChoice::Auto => {
            let reason = "the process before took another; compared at a restart".to_owned();
            selection.passed_over.insert(0, (PortKind::Xdp, reason));
            return None;
        }
        PortChoice::Uring | PortChoice::Mio => return None,
    }
    let beneath = (selection.selected, selection.mode.clone());
    (selection.selected, selection.mode) = (PortKind::Xdp, String::new());
    Some((None, beneath))
}

type Taken = (Attachment, (PortKind, String));

/// Makes xdp the selected port; the one before is what it stands on.
fn take(selection: &mut Selection, attachment: Attachment) -> Taken {
    let sockets = (selection.selected, selection.mode.clone());
    selection.passed_over.clear();
    (selection.selected, selection.mode) = (PortKind::Xdp, attachment.mode.clone());
    (attachment, sockets)
}

/// Tries all ports on the real interface, and selects the one that sends at the least cost.
fn try_all(
    broker: &Broker,
    ids: &ConnectionIds,
    workers: usize,
    options: &PortOptions,
    selection: &mut Selection,
) -> Option<Taken> {
    let attachment = attach(broker, ids, workers).map_err(|error| error.to_string());
    let compared = attachment.and_then(|attachment| compare(broker, options, attachment));
    let (attachment, costs) = match compared {
        Ok(compared) => compared,
        Err(reason) => {
            selection.passed_over.insert(0, (PortKind::Xdp, reason));
            return None;
        }
    };
    let cost = |kind| costs.iter().find_map(|(k, cost)| (*k == kind).then_some(*cost));
    // A socket port that was passed over on loopback, or cannot send here, does not count.
    let sockets = cost(selection.selected).unwrap_or(f64::INFINITY);
    let xdp = cost(PortKind::Xdp).unwrap_or(f64::INFINITY);
    let slower = |ns: f64, than: PortKind, other: f64| {
        format!("slower here: {ns:.0} ns of CPU to send a packet, {than} {other:.0}")
    };
    if xdp < sockets {
        let beneath = selection.selected;
        let reason = slower(sockets, PortKind::Xdp, xdp);
        let passed_over = std::mem::take(&mut selection.passed_over);
        let taken = take(selection, attachment);
        selection.passed_over = passed_over;
        selection.passed_over.insert(0, (beneath, reason));
        return Some(taken);
    }
    let reason = slower(xdp, selection.selected, sockets);
    selection.passed_over.insert(0, (PortKind::Xdp, reason));
    drop(attachment);
    if let Err(error) = broker.detach_xdp() {
        tracing::warn!("{error}");
    }
    None
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
