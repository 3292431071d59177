//! The maps of the program, and the difference between what is in them and what should be.
//!
//! Owns the map descriptors and a copy of what was written, so that only changes are written again.
//! Called by the program's handles.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use aya::Ebpf;
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, XskMap};
use stoq_xdp_types::{Address, PORT_WORDS, QUEUES_MAX, Verdict, map};

use crate::error::XdpError;
use crate::pod::{ConfigValue, CoreValue};
use crate::settings::{Checked, Prefix};
use crate::{Counters, Settings};

/// What the maps hold beside a key that is a member of a set.
const MEMBER: u8 = 1;

/// Every map that user space reads or writes.
pub(crate) struct Maps {
    config: Array<MapData, ConfigValue>,
    ports: Array<MapData, u64>,
    addresses: HashMap<MapData, Address, u8>,
    deny_v4: LpmTrie<MapData, u32, u8>,
    deny_v6: LpmTrie<MapData, Address, u8>,
    cores: PerCpuArray<MapData, CoreValue>,
    sockets: XskMap<MapData>,
    written: Written,
}

/// What is in the maps now.
struct Written {
    ports: Vec<u64>,
    addresses: BTreeSet<Address>,
    deny: BTreeSet<Prefix>,
}

impl Maps {
    /// Takes the maps of a loaded object.
    pub(crate) fn take(ebpf: &mut Ebpf) -> Result<Self, XdpError> {
        Ok(Self {
            config: take(ebpf, map::CONFIG)?,
            ports: take(ebpf, map::PORTS)?,
            addresses: take(ebpf, map::ADDRESSES)?,
            deny_v4: take(ebpf, map::DENY_V4)?,
            deny_v6: take(ebpf, map::DENY_V6)?,
            cores: take(ebpf, map::CORES)?,
            sockets: take(ebpf, map::SOCKETS)?,
            written: Written {
                ports: vec![0; PORT_WORDS as usize],
                addresses: BTreeSet::new(),
                deny: BTreeSet::new(),
            },
        })
    }

    /// Makes the maps be as in `settings`. The rules come first and the ports last, so that no packet
    /// of a new port passes before the rules know it.
    pub(crate) fn apply(&mut self, settings: &Settings) -> Result<(), XdpError> {
        let wanted = settings.checked()?;
        self.apply_deny(&wanted)?;
        let config = ConfigValue(wanted.config);
        self.config.set(0, config, 0).map_err(failed(map::CONFIG, "write"))?;
        self.apply_addresses(wanted.addresses)?;
        self.apply_ports(&wanted.ports)
    }

    fn apply_deny(&mut self, wanted: &Checked) -> Result<(), XdpError> {
        let written = self.written.deny.clone();
        for prefix in written.difference(&wanted.deny) {
            self.allow(prefix)?;
            self.written.deny.remove(prefix);
        }
        for prefix in wanted.deny.difference(&written) {
            self.refuse(prefix)?;
            self.written.deny.insert(*prefix);
        }
        Ok(())
    }

    fn refuse(&mut self, (ip, len): &Prefix) -> Result<(), XdpError> {
        match ip {
            IpAddr::V4(_) => self
                .deny_v4
                .insert(&v4_key(*ip, *len), MEMBER, 0)
                .map_err(failed(map::DENY_V4, "add to")),
            IpAddr::V6(_) => self
                .deny_v6
                .insert(&v6_key(*ip, *len), MEMBER, 0)
                .map_err(failed(map::DENY_V6, "add to")),
        }
    }

    fn allow(&mut self, (ip, len): &Prefix) -> Result<(), XdpError> {
        match ip {
            IpAddr::V4(_) => {
                self.deny_v4.remove(&v4_key(*ip, *len)).map_err(failed(map::DENY_V4, "remove from"))
            }
            IpAddr::V6(_) => {
                self.deny_v6.remove(&v6_key(*ip, *len)).map_err(failed(map::DENY_V6, "remove from"))
            }
        }
    }

    fn apply_addresses(&mut self, wanted: BTreeSet<Address>) -> Result<(), XdpError> {
        let written = self.written.addresses.clone();
        for address in written.difference(&wanted) {
            self.addresses.remove(address).map_err(failed(map::ADDRESSES, "remove from"))?;
            self.written.addresses.remove(address);
        }
        for address in wanted.difference(&written) {
            self.addresses.insert(address, MEMBER, 0).map_err(failed(map::ADDRESSES, "add to"))?;
            self.written.addresses.insert(*address);
        }
        Ok(())
    }

    fn apply_ports(&mut self, wanted: &BTreeSet<u16>) -> Result<(), XdpError> {
        let mut words = vec![0_u64; PORT_WORDS as usize];
        for port in wanted {
            words[usize::from(port >> 6)] |= 1 << (port & 63);
        }
        for (index, word) in words.iter().enumerate() {
            if self.written.ports[index] != *word {
                self.ports.set(index as u32, word, 0).map_err(failed(map::PORTS, "write"))?;
                self.written.ports[index] = *word;
            }
        }
        Ok(())
    }

    pub(crate) fn set_socket(&mut self, queue: u32, fd: BorrowedFd<'_>) -> Result<(), XdpError> {
        check_queue(queue)?;
        self.sockets.set(queue, fd, 0).map_err(failed(map::SOCKETS, "add to"))
    }

    /// Takes a queue's socket out; there need not be one.
    pub(crate) fn clear_socket(&mut self, queue: u32) -> Result<(), XdpError> {
        check_queue(queue)?;
        match self.sockets.unset(queue) {
            Err(MapError::KeyNotFound) => Ok(()),
            result => result.map_err(failed(map::SOCKETS, "remove from")),
        }
    }

    /// The counters, summed over the CPUs.
    pub(crate) fn counters(&self) -> Result<Counters, XdpError> {
        let cores = self.cores.get(&0, 0).map_err(failed(map::CORES, "read"))?;
        let mut sums = Counters::default();
        for CoreValue(core) in cores.iter() {
            for (verdict, packets) in Verdict::ALL.iter().zip(core.packets) {
                sums.add(*verdict, packets);
            }
        }
        Ok(sums)
    }
}

fn v4_key(ip: IpAddr, len: u8) -> Key<u32> {
    let [_, low] = stoq_xdp_types::address(ip);
    Key::new(len.into(), (low >> 32) as u32)
}

fn v6_key(ip: IpAddr, len: u8) -> Key<Address> {
    Key::new(len.into(), stoq_xdp_types::address(ip))
}

fn check_queue(queue: u32) -> Result<(), XdpError> {
    if queue < QUEUES_MAX { Ok(()) } else { Err(XdpError::Queue { queue, most: QUEUES_MAX }) }
}

fn take<M>(ebpf: &mut Ebpf, map: &'static str) -> Result<M, XdpError>
where
    M: TryFrom<Map, Error = MapError>,
{
    let found = ebpf.take_map(map);
    let found = found.ok_or(XdpError::Map { map, task: "find", reason: "none".to_owned() })?;
    M::try_from(found).map_err(failed(map, "open"))
}

fn failed(map: &'static str, task: &'static str) -> impl FnOnce(MapError) -> XdpError {
    move |error| XdpError::Map { map, task, reason: with_causes(&error) }
}

/// An error with what caused it: the loader's own texts leave out what the kernel said.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
