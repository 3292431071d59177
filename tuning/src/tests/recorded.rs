//! A network card below another root directory: what its driver answers, and the files that change
//! with it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::write;
use crate::{Channels, Ethtool, Feature, Flow, FlowHash, Rings, Spread, Table};

/// The cores that a driver gives an interrupt that it requests (`/proc/irq/default_smp_affinity`).
pub const DEFAULT_CORES: &str = "0-3";

/// Entries of the table.
const ENTRIES: u32 = 8;

/// The most descriptors of a ring.
const MOST_DESCRIPTORS: u32 = 4096;

/// The interface `wan`. Clones are the same card.
#[derive(Clone, Debug)]
pub struct Nic(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    root: PathBuf,
    channels: Channels,
    hashes: BTreeMap<Flow, FlowHash>,
    rings: Rings,
    /// A table that somebody has set; without one the queues take turns.
    table: Option<Vec<u32>>,
    /// The features that are on, by interface.
    features: BTreeSet<(String, Feature)>,
    /// The number of the next interrupt: requested anew it has another.
    next_irq: u32,
    refuses: bool,
}

/// A card with at most `queues` combined channels, all in use, and default settings. With 0 its driver
/// knows neither channels nor hashes.
impl Nic {
    pub fn new(root: &Path, queues: u32) -> Self {
        let channels = Channels { combined: queues, combined_max: queues, ..Channels::default() };
        let hash = FlowHash(0x30);
        let hashes = Flow::ALL.map(|flow| (flow, hash)).into_iter().take(2 * queues as usize);
        let state = State {
            root: root.to_owned(),
            channels,
            hashes: hashes.collect(),
            rings: Rings { rx: 256, tx: 256, rx_max: MOST_DESCRIPTORS, tx_max: MOST_DESCRIPTORS },
            table: None,
            features: BTreeSet::new(),
            next_irq: 50,
            refuses: false,
        };
        Self(Rc::new(RefCell::new(state)))
    }

    /// From now on every change is refused, or taken again.
    pub fn refuse(&self, refuses: bool) {
        self.0.borrow_mut().refuses = refuses;
    }

    /// Sets the lengths of the rings and the table behind the back of what is tested.
    pub fn force_queues(&self, rx: u32, table: Option<&[u32]>) {
        let mut state = self.0.borrow_mut();
        state.rings.rx = rx;
        state.table = table.map(<[u32]>::to_vec);
    }

    /// Switches a feature behind the back of what is tested.
    pub fn force_feature(&self, interface: &str, feature: Feature, on: bool) {
        self.0.borrow_mut().switch(interface, feature, on);
    }

    /// Sets the card behind the back of what is tested.
    pub fn force(&self, channels: u32, hash: FlowHash, cores: &[&str]) {
        let mut state = self.0.borrow_mut();
        state.channels.combined = channels;
        state.hashes.values_mut().for_each(|value| *value = hash);
        state.request_interrupts();
        for (queue, cores) in (0..channels).zip(cores) {
            let number = state.next_irq - channels + queue;
            write(&state.root, &format!("proc/irq/{number}/smp_affinity_list"), cores);
        }
    }
}

impl State {
    fn check(&self) -> io::Result<()> {
        match self.refuses {
            true => Err(io::Error::from_raw_os_error(libc::EINVAL)),
            false => Ok(()),
        }
    }

    fn switch(&mut self, interface: &str, feature: Feature, on: bool) {
        let feature = (interface.to_owned(), feature);
        if on {
            self.features.insert(feature);
        } else {
            self.features.remove(&feature);
        }
    }

    /// As drivers do when their channels change: all interrupts go, and come with other numbers and
    /// without the cores that they were given.
    fn request_interrupts(&mut self) {
        let list = self.root.join("sys/class/net/wan/device/msi_irqs");
        for old in fs::read_dir(&list).into_iter().flatten().flatten() {
            fs::remove_file(old.path()).unwrap();
        }
        let queues = (0..self.channels.combined).map(|queue| format!("wan-TxRx-{queue}"));
        for name in std::iter::once("wan".to_owned()).chain(queues) {
            let number = self.next_irq;
            self.next_irq += 1;
            write(&list, &number.to_string(), "msix\n");
            write(&self.root, &format!("sys/kernel/irq/{number}/actions"), &name);
            write(&self.root, &format!("proc/irq/{number}/smp_affinity_list"), DEFAULT_CORES);
        }
    }
}

impl Ethtool for Nic {
    fn channels(&self, _: &str) -> io::Result<Channels> {
        let channels = self.0.borrow().channels;
        if channels.combined_max == 0 {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        Ok(channels)
    }

    fn set_channels(&self, _: &str, channels: Channels) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        state.check()?;
        let most = state.channels.combined_max;
        let taken = channels.rx == 0 && channels.tx == 0 && (1..=most).contains(&channels.combined);
        // As the kernel does (ethtool_set_channels): a table that somebody has set is kept whole.
        let highest = state.table.as_ref().and_then(|table| table.iter().max().copied());
        if !taken || highest.is_some_and(|queue| queue >= channels.combined) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        state.channels = channels;
        state.request_interrupts();
        Ok(())
    }

    fn flow_hash(&self, _: &str, flow: Flow) -> io::Result<FlowHash> {
        let hash = self.0.borrow().hashes.get(&flow).copied();
        hash.ok_or_else(|| io::Error::from_raw_os_error(libc::EOPNOTSUPP))
    }

    fn set_flow_hash(&self, _: &str, flow: Flow, hash: FlowHash) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        state.check()?;
        state.hashes.insert(flow, hash);
        Ok(())
    }

    fn rings(&self, _: &str) -> io::Result<Rings> {
        let state = self.0.borrow();
        let known = state.channels.combined_max > 0;
        known.then_some(state.rings).ok_or_else(|| io::Error::from_raw_os_error(libc::EOPNOTSUPP))
    }

    fn set_rings(&self, _: &str, rings: Rings) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        state.check()?;
        state.rings = rings;
        state.request_interrupts();
        Ok(())
    }

    fn table(&self, _: &str) -> io::Result<Table> {
        let state = self.0.borrow();
        let queues = state.channels.combined;
        if state.channels.combined_max == 0 {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        Ok(state.table.clone().map_or_else(|| Table::equal(ENTRIES, queues), Table))
    }

    fn set_table(&self, _: &str, spread: &Spread) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        state.check()?;
        state.table = match spread {
            Spread::Equal => None,
            Spread::Table(Table(table)) => {
                let queues = state.channels.combined;
                if table.len() != ENTRIES as usize || table.iter().any(|queue| *queue >= queues) {
                    return Err(io::Error::from_raw_os_error(libc::EINVAL));
                }
                Some(table.clone())
            }
        };
        Ok(())
    }

    fn feature(&self, interface: &str, feature: Feature) -> io::Result<bool> {
        Ok(self.0.borrow().features.contains(&(interface.to_owned(), feature)))
    }

    fn set_feature(&self, interface: &str, feature: Feature, on: bool) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        state.check()?;
        state.switch(interface, feature, on);
        Ok(())
    }
}

/// Three queues for three workers on cores 1 to 3, and all interrupts on core 0.
pub fn faultless_nic(root: &Path) -> Nic {
    let nic = Nic::new(root, 3);
    nic.force(3, FlowHash::WITH_PORTS, &["0", "0", "0"]);
    nic.force_queues(1024, None);
    nic.force_feature("wan", Feature::Gro, true);
    write(root, "sys/class/net/wan/threaded", "1\n");
    nic
}
