//! Tells the service manager that the daemon is well, as long as every worker answers.

use std::sync::Arc;

use anyhow::{Context, Result};

use super::shared::Shared;
use crate::manager;

/// Starts the thread, if the service manager wants to hear. It ends with the process, or when another
/// one carries the traffic.
pub(super) fn start(shared: Arc<Shared>) -> Result<()> {
    let Some(pause) = manager::watchdog() else { return Ok(()) };
    let thread = std::thread::Builder::new().name("watchdog".into());
    let watch = move || {
        // Its successor's life is that one's to tell.
        while !shared.has_left() {
            if shared.is_well() {
                manager::well();
            }
            std::thread::sleep(pause);
        }
    };
    thread.spawn(watch).context("starting the watchdog")?;
    Ok(())
}
