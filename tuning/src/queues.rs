//! Stages about the queues of the WAN interface themselves: how packets are spread over them, and how
//! many each holds.

use crate::cores::CorePlan;
use crate::host::Host;
use crate::setting::{Change, Setting};
use crate::steering::{Port, kept_interrupts, with_interface};
use crate::{Look, Stage};

/// Packets that a receive ring should hold: 4.9 ms of 2.5 Gbit/s, so that a core that the scheduler
/// takes away for a tick of 4 ms (250 Hz) loses nothing. More only costs cache: the card writes through
/// all of them in turns.
const RX_DESCRIPTORS: u32 = 1024;

pub(crate) const RSS_TABLE: Stage = Stage {
    name: "rss-table",
    why: "with AF_XDP the table decides which worker gets a packet: a queue that it leaves out is a \
          worker without work, and the table of another program keeps the channels from changing",
    look: |host, plan| with_interface(host, plan, Port::Xdp, table),
};

pub(crate) const RINGS: Stage = Stage {
    name: "rings",
    why: "what arrives while nobody takes it waits in the ring, and is lost when that is full",
    look: |host, plan| with_interface(host, plan, Port::Any, rings),
};

/// The driver's own table follows the channels. So it is asked for here, before they are set, rather
/// than a table of ours that the next change of channels would have to be refused for.
fn table(host: &Host, _: &CorePlan, interface: &str) -> Look {
    let queues = host.ethtool().channels(interface).map_or(0, |now| now.rx + now.combined);
    let table = match host.ethtool().table(interface) {
        Ok(table) if queues > 1 => table,
        Ok(_) => return Look::Good("one queue: nothing to spread".to_owned()),
        Err(error) => {
            return Look::Good(format!("{interface} has none to set; its driver says: {error}"));
        }
    };
    // A table may have fewer entries than there are queues.
    let most = u32::try_from(table.0.len()).map_or(queues, |entries| queues.min(entries));
    if table.turns() == Some(most) {
        return Look::Good(table.to_string());
    }
    let (was, to) = (table.to_string(), format!("equal {most}"));
    let what = Setting::Spread { interface: interface.to_owned() };
    Look::settable(was.clone(), to.clone(), vec![Change { what, was, to }])
}

fn rings(host: &Host, _: &CorePlan, interface: &str) -> Look {
    let now = match host.ethtool().rings(interface) {
        Ok(now) => now,
        Err(error) => {
            return Look::Good(format!("{interface} has none to set; its driver says: {error}"));
        }
    };
    let best = now.rx.max(RX_DESCRIPTORS.min(now.rx_max));
    if best == now.rx {
        return Look::Good(now.to_string());
    }
    let to = crate::Rings { rx: best, ..now }.to_string();
    let what = Setting::Rings { interface: interface.to_owned() };
    let mut changes = vec![Change { what, was: now.to_string(), to: to.clone() }];
    // Many drivers begin anew for it, interrupts included.
    changes.extend(kept_interrupts(host, interface));
    Look::settable(now.to_string(), to, changes)
}
