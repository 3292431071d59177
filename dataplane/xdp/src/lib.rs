//! The XDP program of STOQ: loads it, attaches it to the WAN interface, tells it what is STOQ's and what
//! to refuse, and reads what it counted.
//!
//! ```text
//!   Settings ──▶ Program::attach ─▶ the kernel: program, maps, link
//!                   │ set_socket     a queue's packets go to its AF_XDP socket
//!                   │ apply          ports, addresses, deny list, rules, connection ID keys
//!                   │ counters       packets by verdict
//!                   ▼
//!                 drop, or the end of the process: detached
//! ```
//!
//! The program is compiled apart (`cargo xtask ebpf`) and checked in as `ebpf/stoq.bpf.o`, so that this
//! crate builds without that compiler. What the program does is told to the operator in `docs/xdp.md`.
//!
//! [`Program`] lives in the broker, which alone has the privilege that it needs: CAP_NET_ADMIN, CAP_BPF
//! and CAP_PERFMON, and each of them (tried, see `tests/attach/privilege.rs`). The first two are for an
//! XDP program, its link and its maps. The third is because the verifier lets a program without it add
//! constants alone to the address of a packet, and the length of an IP header is none. They are needed
//! to attach; afterwards the open descriptors are enough for all the rest, on a host where BPF is
//! closed to others as well (`kernel.unprivileged_bpf_disabled`). With CAP_SYS_ADMIN on top an error
//! could tell the name of another's program, and not its number alone; that is not worth it. Beside the
//! system calls it reads `/sys/kernel/btf/vmlinux` to load, if it may, and
//! `/sys/devices/system/cpu/possible` to count.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

mod counters;
mod error;
mod link;
mod maps;
mod occupant;
mod pod;
mod program;
mod settings;

pub use counters::Counters;
pub use error::{Mode, Occupant, XdpError};
pub use program::{Attached, Loaded, Program, Trial};
pub use settings::{CidCheck, CidKey, InitialRates, Rate, Rules, Settings};
pub use stoq_xdp_types::{ADDRESSES_MAX, DENY_MAX, PORTS_MAX, QUEUES_MAX, Verdict};
