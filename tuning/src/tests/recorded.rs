//! A network card below another root directory: what its driver answers, and the files that change
//! with it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::write;
use crate::{Channels, Ethtool, Flow, FlowHash};

/// The cores that a driver gives an interrupt that it requests (`/proc/irq/default_smp_affinity`).
pub const DEFAULT_CORES: &str = "0-3";

/// The interface `wan`. Clones are the same card.
#[derive(Clone, Debug)]
pub struct Nic(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    root: PathBuf,
    channels: Channels,
    hashes: BTreeMap<Flow, FlowHash>,
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
            next_irq: 50,
            refuses: false,
        };
        Self(Rc::new(RefCell::new(state)))
    }

    /// From now on every change is refused, or taken again.
    pub fn refuse(&self, refuses: bool) {
        self.0.borrow_mut().refuses = refuses;
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
        if !taken {
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
}

/// Three queues for three workers on cores 1 to 3, and all interrupts on core 0.
pub fn faultless_nic(root: &Path) -> Nic {
    let nic = Nic::new(root, 3);
    nic.force(3, FlowHash::WITH_PORTS, &["0", "0", "0"]);
    write(root, "sys/class/net/wan/threaded", "1\n");
    nic
}
