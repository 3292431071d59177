//! The program in the kernel: loaded, and attached.
//!
//! Owns the descriptors of the program, its maps and its link. There is nothing to undo by hand: the
//! kernel detaches and unloads when the last descriptor is closed, which the end of the process does
//! as well.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use aya::programs::{TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use nix::net::if_::if_nametoindex;
use stoq_xdp_types::PROGRAM;

use crate::error::XdpError;
use crate::link::{self, Place};
use crate::maps::{Maps, with_causes};
use crate::{Counters, Settings, occupant};

/// The program as it was compiled by `cargo xtask ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../ebpf/stoq.bpf.o");

/// Lines of the verifier's log that are told: its last one is the reason, those before it the place.
const VERIFIER_LINES_MAX: usize = 8;

/// Most characters of the line before them.
const FIRST_LINE_MAX: usize = 200;

/// The program in the kernel, on no interface: what tests and benchmarks run packets through.
pub struct Loaded {
    ebpf: Ebpf,
    maps: Maps,
}

/// What the program did with a packet that it was run with.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// The action, as the kernel numbers them (`enum xdp_action`).
    pub action: u32,
    /// The mean time of one run.
    pub time: Duration,
}

impl Loaded {
    /// Loads the program and tells it `settings`.
    ///
    /// # Errors
    /// When the kernel does not take it, or the settings break a bound.
    pub fn new(settings: &Settings) -> Result<Self, XdpError> {
        // The object asks for no type of the running kernel, whose own types take long to read.
        let ebpf = EbpfLoader::new().btf(None).load(OBJECT);
        let mut ebpf = ebpf.map_err(|error| XdpError::Load { reason: with_causes(&error) })?;
        xdp(&mut ebpf)?.load().map_err(|error| XdpError::Load { reason: closing(&error) })?;
        let mut maps = Maps::take(&mut ebpf)?;
        maps.apply(settings)?;
        Ok(Self { ebpf, maps })
    }

    /// Runs the program `repeat` times with this frame, by BPF_PROG_TEST_RUN.
    ///
    /// # Errors
    /// When the kernel refuses: a frame has 14 bytes at least.
    pub fn run(&mut self, frame: &[u8], repeat: u32) -> Result<Trial, XdpError> {
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
        let result = xdp(&mut self.ebpf)?.test_run(options);
        let result = result.map_err(|error| XdpError::Load { reason: with_causes(&error) })?;
        Ok(Trial { action: result.return_value, time: result.duration })
    }

    /// As [`Program::set_socket`].
    ///
    /// # Errors
    /// As there.
    pub fn set_socket(&mut self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), XdpError> {
        self.maps.set_socket(queue, socket)
    }

    /// As [`Program::clear_socket`].
    ///
    /// # Errors
    /// As there.
    pub fn clear_socket(&mut self, queue: u32) -> Result<(), XdpError> {
        self.maps.clear_socket(queue)
    }

    /// As [`Program::apply`].
    ///
    /// # Errors
    /// As there.
    pub fn apply(&mut self, settings: &Settings) -> Result<(), XdpError> {
        self.maps.apply(settings)
    }

    /// As [`Program::counters`].
    ///
    /// # Errors
    /// As there.
    pub fn counters(&self) -> Result<Counters, XdpError> {
        self.maps.counters()
    }

    fn attach(&mut self, ifindex: u32, place: Place) -> Result<OwnedFd, String> {
        let program = xdp(&mut self.ebpf).map_err(|error| error.to_string())?;
        let program = program.fd().map_err(|error| with_causes(&error))?;
        link::create(program.as_fd(), ifindex, place).map_err(|error| error.to_string())
    }
}

/// The end of an error's text: what the verifier says at last, not how it came there.
fn closing(error: &dyn std::error::Error) -> String {
    let text = with_causes(error);
    let lines: Vec<&str> = text.lines().collect();
    let (first, last) = lines.split_at(lines.len().min(1));
    let last = &last[last.len().saturating_sub(VERIFIER_LINES_MAX)..];
    let first: String = first.concat().chars().take(FIRST_LINE_MAX).collect();
    [&[first.as_str()], last].concat().join("; ")
}

fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, XdpError> {
    let missing = || XdpError::Load { reason: "an object without the program".to_owned() };
    ebpf.program_mut(PROGRAM).and_then(|program| program.try_into().ok()).ok_or_else(missing)
}

/// How the program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// In the driver: a frame that is dropped or redirected costs the kernel nothing.
    Native,
    /// In the kernel, after it made a packet of the frame: works everywhere, and costs more.
    Generic,
}

/// The program, attached to an interface for as long as this lives.
///
/// It is attached by a link of the kernel, which goes with this process, however that ends.
pub struct Program {
    loaded: Loaded,
    /// Closed, it detaches.
    _link: OwnedFd,
    attached: Attached,
    native_refusal: Option<String>,
    ifindex: u32,
}

impl Program {
    /// Loads the program, tells it `settings` and attaches it to `interface`: in the driver, or, where
    /// that is not possible, in the generic mode.
    ///
    /// # Errors
    /// When there is no such interface, a bound is broken, the kernel refuses, or another program is
    /// attached already, which stays where it is.
    pub fn attach(interface: &str, settings: &Settings) -> Result<Self, XdpError> {
        let ifindex = if_nametoindex(interface)
            .map_err(|source| XdpError::Interface { interface: interface.to_owned(), source })?;
        let mut loaded = Loaded::new(settings)?;
        let native = match loaded.attach(ifindex, Place::Driver) {
            Ok(link) => return Ok(Self::new(loaded, link, ifindex, None)),
            Err(reason) => reason,
        };
        refuse_if_occupied(interface, ifindex)?;
        let generic = match loaded.attach(ifindex, Place::Generic) {
            Ok(link) => return Ok(Self::new(loaded, link, ifindex, Some(native))),
            Err(reason) => reason,
        };
        refuse_if_occupied(interface, ifindex)?;
        Err(XdpError::Attach { interface: interface.to_owned(), native, generic })
    }

    fn new(loaded: Loaded, link: OwnedFd, ifindex: u32, native_refusal: Option<String>) -> Self {
        let attached = if native_refusal.is_some() { Attached::Generic } else { Attached::Native };
        Self { loaded, _link: link, attached, native_refusal, ifindex }
    }

    /// How it is attached.
    #[must_use]
    pub fn attached(&self) -> Attached {
        self.attached
    }

    /// Why the driver did not take it, when it is attached in the generic mode.
    #[must_use]
    pub fn native_refusal(&self) -> Option<&str> {
        self.native_refusal.as_deref()
    }

    /// The interface's index. It stays what it was when the interface is renamed; when that is deleted,
    /// the program is detached for good, and one attached to its successor has another index.
    #[must_use]
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Makes the packets that arrive by this queue go to `socket`, which is an AF_XDP socket bound to the
    /// same queue of the same interface. The kernel holds the socket by itself from then on.
    ///
    /// # Errors
    /// When the queue is [`QUEUES_MAX`](stoq_xdp_types::QUEUES_MAX) or above, or the kernel refuses.
    pub fn set_socket(&mut self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), XdpError> {
        self.loaded.set_socket(queue, socket)
    }

    /// Makes the packets that arrive by this queue go to the kernel's own socket again.
    ///
    /// # Errors
    /// When the queue is out of bounds, or the kernel refuses.
    pub fn clear_socket(&mut self, queue: u32) -> Result<(), XdpError> {
        self.loaded.clear_socket(queue)
    }

    /// Makes the program work by `settings`: what is new in them is added, what is no longer in them is
    /// removed. Packets are decided on meanwhile; one that falls between two writes is judged by the
    /// one or by the other.
    ///
    /// # Errors
    /// When a bound is broken (then nothing is changed), or the kernel refuses.
    pub fn apply(&mut self, settings: &Settings) -> Result<(), XdpError> {
        self.loaded.apply(settings)
    }

    /// What became of the packets so far, all CPUs together.
    ///
    /// # Errors
    /// When the kernel refuses to tell.
    pub fn counters(&self) -> Result<Counters, XdpError> {
        self.loaded.counters()
    }
}

fn refuse_if_occupied(interface: &str, ifindex: u32) -> Result<(), XdpError> {
    let interface = interface.to_owned();
    match occupant::find(ifindex) {
        Ok(None) => Ok(()),
        Ok(Some(occupant)) => Err(XdpError::Occupied { interface, occupant }),
        Err(source) => Err(XdpError::Query { interface, source }),
    }
}
