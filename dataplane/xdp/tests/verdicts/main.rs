//! What the program decides, run in the kernel by BPF_PROG_TEST_RUN. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod case;
mod frame;
mod payload;
mod rates;
mod socket;
mod table;
