//! Waiting for an event with a deadline, never for a time. Used by all that starts something.

use crate::{Error, Result};
use std::thread;
use std::time::{Duration, Instant};

/// How often an event that nothing announces is looked for: fine enough that a wait adds less than
/// one such step, and cheap on a machine whose cores are being measured.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Calls `look` until it returns `Ok`, and gives that value.
///
/// # Errors
/// [`Error::Timeout`] with what `look` saw last, when `timeout` has passed.
pub fn until<T>(
    what: &str,
    timeout: Duration,
    mut look: impl FnMut() -> std::result::Result<T, String>,
) -> Result<T> {
    let begin = Instant::now();
    loop {
        let last = match look() {
            Ok(value) => return Ok(value),
            Err(seen) => seen,
        };
        if begin.elapsed() >= timeout {
            return Err(Error::Timeout { what: what.to_owned(), waited: timeout, last });
        }
        thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_value_once_it_is_there() {
        let mut looks = 0;
        let value = until("third look", Duration::from_secs(5), || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err(format!("look {looks}")) }
        });
        assert_eq!(value.unwrap(), 3);
    }

    #[test]
    fn says_what_it_saw_last() {
        let failed = until::<()>("never", Duration::ZERO, || Err("nothing yet".to_owned()));
        assert!(failed.unwrap_err().to_string().contains("nothing yet"));
    }
}
