//! The interrupts of a network interface: their numbers, their names, and the queue that each
//! serves. Called by the stage about interrupts, and where a recorded interrupt is looked up.

use crate::host::Host;

/// An interrupt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Irq {
    /// Its number, until the driver requests it anew.
    pub(crate) number: u32,
    /// The name that the driver gave it.
    pub(crate) name: String,
}

/// What drivers call a queue in the names of their interrupts: `wan-TxRx-0`, `virtio2-input.0`,
/// `mlx5_comp0@pci:0000:01:00.0`, `wan-Q0`.
const QUEUE_WORDS: [&str; 7] = ["rx", "tx", "input", "output", "comp", "queue", "q"];

impl Irq {
    /// The file with the cores that it may go to.
    pub(crate) fn affinity_file(&self) -> String {
        format!("proc/irq/{}/smp_affinity_list", self.number)
    }
}

/// The interrupts of an interface, by number. None for one that is virtual.
pub(crate) fn of_interface(host: &Host, interface: &str) -> Vec<Irq> {
    let device = format!("sys/class/net/{interface}/device");
    // A virtio interface is the child of the PCI function that has the interrupts.
    let places = [format!("{device}/msi_irqs"), format!("{device}/../msi_irqs")];
    let names = places.iter().map(|place| host.entries(place)).find(|names| !names.is_empty());
    let numbers = names.unwrap_or_default().into_iter().filter_map(|name| name.parse().ok());
    let mut irqs: Vec<Irq> = numbers.filter_map(|number| named(host, number)).collect();
    irqs.sort_by_key(|irq| irq.number);
    irqs
}

/// The interrupt of this number, if a driver has requested it.
fn named(host: &Host, number: u32) -> Option<Irq> {
    let name = host.read(&format!("sys/kernel/irq/{number}/actions"))?;
    (!name.is_empty()).then_some(Irq { number, name })
}

/// The queue interrupts of an interface, each with its queue. A device with a single interrupt has a
/// single queue, whatever the name.
pub(crate) fn of_queues(host: &Host, interface: &str) -> Vec<(usize, Irq)> {
    let irqs = of_interface(host, interface);
    if let [only] = irqs.as_slice() {
        return vec![(0, only.clone())];
    }
    irqs.into_iter().filter_map(|irq| Some((queue(&irq.name, interface)?, irq))).collect()
}

/// The queue that an interrupt of this name serves; `None` for one that serves none, such as that
/// for the state of the link.
fn queue(name: &str, interface: &str) -> Option<usize> {
    let name = name.split('@').next()?.replacen(interface, "", 1).to_ascii_lowercase();
    let kind = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let words = kind.split(|c: char| !c.is_ascii_alphabetic());
    let is_queue = |word: &str| QUEUE_WORDS.contains(&word) || matches!(word, "txrx" | "rxtx");
    words.into_iter().any(is_queue).then_some(())?;
    name[kind.len()..].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_read_from_the_names_of_many_drivers() {
        for (name, expected) in [
            ("wan-TxRx-0", Some(0)), // igb, igc, ixgbe
            ("wan", None),           // their other causes
            ("wan-rx-3", Some(3)),   // separate vectors
            ("i40e-wan-TxRx-11", Some(11)),
            ("i40e-0000:01:00.0:misc", None),
            ("virtio2-input.0", Some(0)),
            ("virtio2-output.1", Some(1)),
            ("virtio2-config", None),
            ("mlx5_comp7@pci:0000:01:00.0", Some(7)),
            ("mlx5_async0@pci:0000:01:00.0", None),
            ("wan-Tx-Rx-2", Some(2)), // ena
            ("wan-Q1", Some(1)),
            ("wan-TxRx-99999999999999999999", None),
            ("", None),
        ] {
            assert_eq!(queue(name, "wan"), expected, "{name}");
        }
        assert_eq!(queue("rx0", "rx0"), None, "an interface's own name is no queue");
    }
}
