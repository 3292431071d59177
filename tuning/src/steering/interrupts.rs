//! The stage that places the interrupts of the WAN interface's queues.
//!
//! An interrupt decides where the driver's packets are taken from their queue, unless a thread of
//! NAPI does that, which it then wakes there. Two places are worth having:
//!
//! - **The worker's own core.** What is taken stays in the core's cache, and a sleeping worker is woken
//!   without an interrupt to another core, 1 to 2 µs earlier. But a busy worker is stopped for it:
//!   taking packets has priority over every thread, so that a flood can hold the worker off its core
//!   altogether, and both share the time of one core.
//! - **A core without a worker.** Taking packets and carrying them run side by side, as a pipeline; a
//!   flood is dropped on a core that carries nothing. The price is the wake-up of a sleeping worker
//!   over cores, which matters only at low load, and a cache line or two for each packet.
//!
//! A worker that is worth tuning for is busy, and runs inline: it does not sleep between bursts. So
//! the queues' interrupts go to the cores that no worker has, in turns. One such core serves several
//! queues: taking a packet costs a small part of what opening and forwarding it does. Only where each
//! core is a worker's does each queue's interrupt go to its worker's core: then at least no worker
//! pays for another's packets, and the cache and the wake-up are local.

use crate::cores::CorePlan;
use crate::host::Host;
use crate::setting::{Change, Setting};
use crate::{Look, Stage, Verdict, irq};

use super::{Port, with_interface};

pub(crate) const IRQ_AFFINITY: Stage = Stage {
    name: "irq-affinity",
    why: "an interrupt on a busy worker's core stops the worker, and a flood of them holds it off; \
          on a core without a worker both run side by side",
    look: |host, plan| with_interface(host, plan, Port::Xdp, look),
};

/// While this directory is there irqbalance runs, and moves interrupts as it likes.
const IRQBALANCE: &str = "run/irqbalance";

fn look(host: &Host, cores: &CorePlan, interface: &str) -> Look {
    if cores.pinned.is_empty() {
        return Look::Good("workers are not pinned: no core is better than another".to_owned());
    }
    let irqs = irq::of_queues(host, interface);
    if irqs.is_empty() {
        return Look::Good(format!("{interface} has no interrupts of its own"));
    }
    let (mut is, mut should, mut changes) = (Vec::new(), Vec::new(), Vec::new());
    for (queue, irq) in irqs {
        let Some(core) = core_of(cores, queue) else { continue };
        let Some(was) = host.read(&irq.affinity_file()) else { continue };
        is.push(format!("{} on {was}", irq.name));
        let to = core.to_string();
        if was == to {
            continue;
        }
        should.push(format!("{} on {to}", irq.name));
        let what = Setting::IrqAffinity { interface: interface.to_owned(), irq: irq.name };
        changes.push(Change { what, was, to });
    }
    let is = is.join(", ");
    match (changes.is_empty(), host.exists(IRQBALANCE)) {
        (true, false) => Look::Good(is),
        (true, true) => Look::bad(
            Verdict::Advice,
            format!("{is}; but irqbalance runs, and will move them"),
            "an irqbalance that leaves them alone, or none",
            "systemctl disable --now irqbalance",
        ),
        (false, _) => Look::settable(is, should.join(", "), changes),
    }
}

/// Where the interrupt of a queue goes; `None` for a queue without a worker on a host without a core
/// to spare.
fn core_of(cores: &CorePlan, queue: usize) -> Option<usize> {
    let spare = cores.spare();
    match spare.len() {
        0 => cores.pinned.get(queue).copied(),
        count => spare.get(queue % count).copied(),
    }
}
