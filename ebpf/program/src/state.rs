//! The maps, and all that is read from and written to them.
//!
//! Owns the `unsafe` of shared memory: what other CPUs write as well is one word at a time, and what
//! belongs to this CPU is written by it alone.
#![allow(unsafe_code, reason = "the values of maps are shared memory")]

use aya_ebpf::bindings::xdp_action::{XDP_PASS, XDP_REDIRECT};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, XskMap};
use stoq_xdp_types::{
    ADDRESSES_MAX, Address, Config, Core, DENY_MAX, Limit, LimitIndex, PORT_WORDS, QUEUES_MAX,
    Rule, SOURCES_MAX, Verdict,
};

use crate::network::Datagram;

#[map]
static CONFIG: Array<Config> = Array::with_max_entries(1, 0);
#[map]
static PORTS: Array<u64> = Array::with_max_entries(PORT_WORDS, 0);
#[map]
static ADDRESSES: HashMap<Address, u8> = HashMap::with_max_entries(ADDRESSES_MAX, 0);
#[map]
static DENY_V4: LpmTrie<u32, u8> = LpmTrie::with_max_entries(DENY_MAX, 0);
#[map]
static DENY_V6: LpmTrie<Address, u8> = LpmTrie::with_max_entries(DENY_MAX, 0);
#[map]
static SOURCES: LruHashMap<u64, u64> = LruHashMap::with_max_entries(SOURCES_MAX, 0);
#[map]
static CORES: PerCpuArray<Core> = PerCpuArray::with_max_entries(1, 0);
#[map]
static SOCKETS: XskMap = XskMap::with_max_entries(QUEUES_MAX, 0);

/// Whether a datagram goes to a port of STOQ on this host. What the host only forwards does not.
#[inline(always)]
pub fn is_ours(datagram: &Datagram) -> bool {
    let word = PORTS.get(u32::from(datagram.port >> 6)).copied().unwrap_or(0);
    if word >> (datagram.port & 63) & 1 == 0 {
        return false;
    }
    ADDRESSES.get_ptr(datagram.destination).is_some()
}

/// Whether the source is on the deny list.
#[inline(always)]
pub fn is_denied(datagram: &Datagram, config: &Config) -> bool {
    if datagram.is_v4 {
        let [_, low] = datagram.source;
        config.has(Rule::DenyV4) && DENY_V4.get(Key::new(32, (low >> 32) as u32)).is_some()
    } else {
        let key = V6Key { _before: 0, key: Key::new(128, datagram.source) };
        config.has(Rule::DenyV6) && DENY_V6.get(&key.key).is_some()
    }
}

/// A key whose address is on a boundary of eight bytes: the compiler may write to any address, but the
/// kernel takes only writes to the stack that are aligned.
#[repr(C, align(8))]
struct V6Key {
    _before: u32,
    key: Key<Address>,
}

/// What the loader has told.
#[inline(always)]
pub fn config() -> Option<&'static Config> {
    CONFIG.get(0)
}

/// The time since the start of the host in nanoseconds.
#[inline(always)]
pub fn now_ns() -> u64 {
    // SAFETY: it takes no argument.
    unsafe { bpf_ktime_get_ns() }
}

/// Takes one token of a source prefix, if it has one. Two CPUs that do so at once may give one token
/// twice; a lock would cost more than that.
#[inline(always)]
pub fn take_from_source(prefix: u64, limit: &Limit, now_ns: u64) -> bool {
    let Some(state) = SOURCES.get_ptr_mut(prefix) else {
        let Some(next) = limit.take(0, now_ns) else { return false };
        // It fails only while another CPU makes room: the packet is let through uncounted.
        let _ = SOURCES.insert(prefix, next, 0);
        return true;
    };
    // SAFETY: the kernel gave the address of one aligned word, which is valid while the program runs.
    let Some(next) = limit.take(unsafe { state.read_volatile() }, now_ns) else { return false };
    // SAFETY: as above.
    unsafe { state.write_volatile(next) };
    true
}

/// The counters and buckets of the CPU that runs this.
pub struct Cpu(&'static mut Core);

impl Cpu {
    /// Those of this CPU.
    #[inline(always)]
    pub fn this() -> Option<Self> {
        // SAFETY: the kernel gave this CPU's own value. A program is not interrupted by another
        // packet on its CPU, and it calls this once.
        CORES.get_ptr_mut(0).map(|core| Self(unsafe { &mut *core }))
    }

    /// Counts a packet and returns what is to become of it.
    #[inline(always)]
    pub fn count(&mut self, verdict: Verdict, action: u32) -> u32 {
        if let Some(packets) = self.0.packets.get_mut(verdict as usize) {
            *packets += 1;
        }
        action
    }

    /// Gives the packet to the AF_XDP socket of its queue; to the kernel's own when there is none.
    #[inline(always)]
    pub fn redirect(&mut self, queue: u32) -> u32 {
        match SOCKETS.redirect(queue, u64::from(XDP_PASS)) {
            Ok(_) => self.count(Verdict::Redirected, XDP_REDIRECT),
            Err(_) => self.count(Verdict::NoSocket, XDP_PASS),
        }
    }

    /// Takes a token of a bucket, or says the verdict.
    #[inline(always)]
    pub fn take(
        &mut self,
        index: LimitIndex,
        config: &Config,
        verdict: Verdict,
    ) -> Result<(), Verdict> {
        let next = self.ask(index, config, now_ns()).ok_or(verdict)?;
        self.set(index, next);
        Ok(())
    }

    /// The state of a bucket after a token was taken, which is not done yet.
    #[inline(always)]
    pub fn ask(&self, index: LimitIndex, config: &Config, now_ns: u64) -> Option<u64> {
        config.limits[index as usize].take(self.0.buckets[index as usize], now_ns)
    }

    /// Makes this the state of a bucket.
    #[inline(always)]
    pub fn set(&mut self, index: LimitIndex, state: u64) {
        self.0.buckets[index as usize] = state;
    }
}
