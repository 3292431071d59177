//! The types of the maps' values, as the kernel copies them.
//!
//! Owns the `unsafe` of this crate. Called by `maps`.
#![allow(unsafe_code, reason = "that a type is plain bytes can only be promised")]

use stoq_xdp_types::{Config, Core, KeySlot, Limit};

/// A [`Config`] in its map.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct ConfigValue(pub(crate) Config);

/// A [`Core`] in its map.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct CoreValue(pub(crate) Core);

// Words only: what follows would be wrong with padding between them.
const _: () = {
    assert!(size_of::<KeySlot>() == 3 * 8 && size_of::<Limit>() == 2 * 8);
    assert!(size_of::<Config>() == 8 * (2 + 2 * 3 + 2 + stoq_xdp_types::LIMITS * 2));
    assert!(size_of::<Core>() == 8 * (stoq_xdp_types::VERDICTS + stoq_xdp_types::LIMITS));
};

// SAFETY: it consists of 64-bit words without padding, and any bits are a value of it.
unsafe impl aya::Pod for ConfigValue {}

// SAFETY: as above.
unsafe impl aya::Pod for CoreValue {}
