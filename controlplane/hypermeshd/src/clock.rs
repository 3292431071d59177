//! The one place where the daemon reads the wall clock. Everything below it takes the time as an
//! argument; tests move the clock of the whole process.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now, in seconds since 1970 UTC; 0 on a host whose clock is before that.
#[must_use]
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Now, as the certificate code takes it.
#[must_use]
pub fn system_time() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(now_s())
}
