//! Stages that bring packets to the right core: the receive queue of the worker that owns the
//! connection, and a core on which taking them from the interface costs that worker nothing.
//!
//! With AF_XDP a worker owns one receive queue, and takes its packets where the driver left them.
//! Queues without a worker are lost to it, and what arrives at another worker's queue has to be
//! handed over. The stages only look; what they list is set by `tune`.
//!
//! ```text
//!   WAN ──▶ flow hash ──▶ queue 0 ──▶ interrupt 0 ──▶ NAPI (a spare core) ──▶ worker 0 (its core)
//!                    └──▶ queue 1 ──▶ interrupt 1 ──▶ NAPI (a spare core) ──▶ worker 1 (its core)
//! ```

mod interrupts;

use crate::cores::CorePlan;
use crate::ethtool::{Flow, FlowHash};
use crate::host::Host;
use crate::setting::{Change, Setting};
use crate::{Look, Plan, Stage, Verdict, irq, network};

pub(crate) use interrupts::IRQ_AFFINITY;

pub(crate) const CHANNELS: Stage = Stage {
    name: "channels",
    why: "an AF_XDP worker owns one queue: packets in a queue without a worker take the kernel's \
          slow way, and a worker without a queue is idle",
    look: |host, plan| with_interface(host, plan, Port::Xdp, channels),
};

pub(crate) const FLOW_HASH: Stage = Stage {
    name: "flow-hash",
    why: "without ports in the hash all connections between two hosts land in one queue, on one \
          worker; with them a link scales with its workers",
    look: |host, plan| with_interface(host, plan, Port::Any, flow_hash),
};

pub(crate) const THREADED_NAPI: Stage = Stage {
    name: "threaded-napi",
    why: "a thread takes packets from the driver beside a busy worker, not in its place: on a veth \
          that doubled the packets of AF_XDP",
    look: |host, plan| with_interface(host, plan, Port::Xdp, threaded_napi),
};

/// Which port a stage is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    Any,
    Xdp,
}

/// Looks at the WAN interface, if there is one and the stage is for the port in use. An interface
/// that is configured and absent is the finding of another stage.
pub(crate) fn with_interface(
    host: &Host,
    plan: &Plan,
    port: Port,
    look: fn(&Host, &CorePlan, &str) -> Look,
) -> Look {
    let Some(interface) = &plan.interface else {
        return Look::Good("no interface configured: nothing to steer".to_owned());
    };
    match plan.port.as_deref() {
        Some(other) if port == Port::Xdp && other != "xdp" => {
            Look::Good(format!("port {other} leaves the queues to the kernel"))
        }
        _ if !network::is_there(host, interface) => Look::Good(format!("no interface {interface}")),
        _ => look(host, &plan.core_plan(host), interface),
    }
}

fn channels(host: &Host, cores: &CorePlan, interface: &str) -> Look {
    let wanted = u32::from(cores.workers);
    let now = match host.ethtool().channels(interface) {
        Ok(now) if now.most() > 0 => now,
        Ok(_) => return fixed_queues(host, cores, interface, "no channels"),
        Err(error) => return fixed_queues(host, cores, interface, &error.to_string()),
    };
    let best = now.set_to(wanted.min(now.most()));
    let is = format!("{now} for {}", workers(wanted));
    let most = now.most();
    let fit = format!("`workers = {most}` in [transport]: {interface} has no more queues");
    if best == now && most < wanted {
        return Look::bad(Verdict::Advice, is, "one queue for each worker", fit);
    }
    if best == now {
        return Look::Good(is);
    }
    let what = Setting::Channels { interface: interface.to_owned() };
    let mut changes = vec![Change { what, was: now.to_string(), to: best.to_string() }];
    changes.extend(kept_interrupts(host, interface));
    let should = if most < wanted { format!("{best}, and {fit}") } else { best.to_string() };
    Look::settable(is, should, changes)
}

/// The cores of the queues' interrupts, which a driver forgets when it requests them anew.
pub(crate) fn kept_interrupts(host: &Host, interface: &str) -> impl Iterator<Item = Change> {
    let irqs = irq::of_interface(host, interface).into_iter();
    let interface = interface.to_owned();
    irqs.filter_map(move |irq| {
        let was = host.read(&irq.affinity_file())?;
        let what = Setting::IrqAffinity { interface: interface.clone(), irq: irq.name };
        Some(Change { what, to: was.clone(), was })
    })
}

/// A driver that cannot be asked has the queues that it has.
fn fixed_queues(host: &Host, cores: &CorePlan, interface: &str, answer: &str) -> Look {
    let queues = host.entries(&format!("sys/class/net/{interface}/queues"));
    let queues = queues.iter().filter(|name| name.starts_with("rx-")).count();
    let is = format!(
        "{queues} receive queues for {}; the driver of {interface} says: {answer}",
        workers(cores.workers.into())
    );
    if usize::from(cores.workers) == queues {
        return Look::Good(is);
    }
    let mend = format!("`workers = {}` in [transport]", queues.max(1));
    Look::bad(Verdict::Advice, is, "one queue for each worker", mend)
}

fn flow_hash(host: &Host, cores: &CorePlan, interface: &str) -> Look {
    if cores.workers == 1 {
        return Look::Good("one worker: nothing to spread".to_owned());
    }
    let (mut is, mut changes, mut refused) = (Vec::new(), Vec::new(), false);
    for flow in Flow::ALL {
        match host.ethtool().flow_hash(interface, flow) {
            Ok(FlowHash::WITH_PORTS) => is.push(format!("{flow} {}", FlowHash::WITH_PORTS)),
            Ok(now) => {
                is.push(format!("{flow} {now}"));
                let what = Setting::FlowHash { interface: interface.to_owned(), flow };
                let to = FlowHash::WITH_PORTS.to_string();
                changes.push(Change { what, was: now.to_string(), to });
            }
            Err(error) => {
                refused = true;
                is.push(format!("{flow}: the driver of {interface} says: {error}"));
            }
        }
    }
    let (is, should) = (is.join(", "), "udp4 sdfn, udp6 sdfn: addresses and ports".to_owned());
    match (changes.is_empty(), refused) {
        (true, false) => Look::Good(is),
        (true, true) => Look::bad(
            Verdict::Advice,
            is,
            should,
            "no command can; packets in another worker's queue are handed over, which costs time",
        ),
        (false, _) => Look::settable(is, should, changes),
    }
}

fn threaded_napi(host: &Host, cores: &CorePlan, interface: &str) -> Look {
    let what = Setting::ThreadedNapi { interface: interface.to_owned() };
    let was = match host.get(&what) {
        Ok(was) => was,
        Err(error) => {
            return Look::bad(
                Verdict::Advice,
                format!("not to be seen: {error}"),
                "1",
                "see that /sys is mounted in this network namespace",
            );
        }
    };
    match was.as_str() {
        "0" if cores.spare().is_empty() => {
            Look::Good("0: every core is a worker's, and none is left for the thread".to_owned())
        }
        "0" => {
            let is_virtual = !host.exists(&format!("sys/class/net/{interface}/device"));
            // A veth gets its NAPI with the XDP program, and refuses before.
            let should = match is_virtual {
                true => {
                    "1; a virtual interface takes it only while stoqd's XDP program is attached"
                }
                false => "1",
            };
            let changes = vec![Change { what, was: was.clone(), to: "1".to_owned() }];
            Look::settable(was, should, changes)
        }
        _ => Look::Good(was),
    }
}

fn workers(count: u32) -> String {
    if count == 1 { "1 worker".to_owned() } else { format!("{count} workers") }
}
