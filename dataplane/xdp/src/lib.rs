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
//! [`Program`] lives in the broker, which alone has the privilege that it needs.
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
