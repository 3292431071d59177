//! What is written to the audit log of those who were refused. Every refusal is counted by its reason;
//! written are those that an operator may have to act on, and so many in a minute, so that nobody fills the
//! disk by being refused. What was left out is written as one entry with its counts. Owned by the app; a
//! pure function of the calls and their times.

use std::collections::BTreeMap;
use std::time::Duration;

use hypermesh_api::ErrorCode;

use crate::caller::Caller;

/// The span over which refusals are counted.
pub const SPAN: Duration = Duration::from_secs(60);

/// Most refusals written in a span (about 20 kB).
const WRITTEN_MAX: u32 = 60;

/// Refusals of the current span.
#[derive(Debug, Default)]
pub struct Refusals {
    began: Duration,
    written: u32,
    left_out: BTreeMap<&'static str, u64>,
}

impl Refusals {
    /// Whether a refusal at `now` (since the start) is written; otherwise it is counted for the entry at
    /// the end of the span.
    pub fn admit(&mut self, code: ErrorCode, now: Duration) -> bool {
        let span_is_over = now.saturating_sub(self.began) >= SPAN;
        // What was left out is taken before a new span begins.
        if span_is_over && self.left_out.is_empty() {
            (self.began, self.written) = (now, 0);
        }
        self.written += 1;
        if self.written <= WRITTEN_MAX {
            return true;
        }
        *self.left_out.entry(code.label()).or_default() += 1;
        false
    }

    /// What was left out, once the span is over: one entry's text.
    pub fn left_out(&mut self, now: Duration) -> Option<String> {
        if now.saturating_sub(self.began) < SPAN || self.left_out.is_empty() {
            return None;
        }
        let left_out = std::mem::take(&mut self.left_out);
        (self.began, self.written) = (now, 0);
        let counts: Vec<_> =
            left_out.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        Some(format!("not written one by one: {}", counts.join(", ")))
    }
}

/// Whether a refusal says something about who came, not about the state of this daemon.
#[must_use]
pub const fn is_of_caller(caller: &Caller, code: ErrorCode) -> bool {
    let is_known =
        matches!(caller, Caller::Local { .. } | Caller::Operator { .. } | Caller::Node { .. });
    match code {
        // Followers are told so where a snapshot has taken the place of commands, and whoever asks too
        // early.
        ErrorCode::NotFound
        | ErrorCode::Uninitialised
        | ErrorCode::Initialised
        | ErrorCode::Unavailable
        | ErrorCode::Storage
        | ErrorCode::Internal => !is_known,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_becomes_one_entry_with_its_counts() {
        let mut refusals = Refusals::default();
        let at = Duration::from_secs;
        let written = (0..1000).filter(|_| refusals.admit(ErrorCode::Busy, at(1))).count();
        assert_eq!(written, WRITTEN_MAX as usize);
        assert!(!refusals.admit(ErrorCode::Forbidden, at(2)));
        assert_eq!(refusals.left_out(at(59)), None, "the span is not over");
        let entry = refusals.left_out(at(61)).unwrap();
        assert_eq!(entry, "not written one by one: 940 busy, 1 forbidden");
        assert_eq!(refusals.left_out(at(500)), None);
        assert!(refusals.admit(ErrorCode::Busy, at(62)), "a new span");
    }

    #[test]
    fn nothing_that_was_left_out_is_lost_if_nobody_asks_in_time() {
        let mut refusals = Refusals::default();
        let at = Duration::from_secs;
        for second in [1, 100] {
            for _ in 0..100 {
                refusals.admit(ErrorCode::Busy, at(second));
            }
        }
        assert_eq!(refusals.left_out(at(120)).unwrap(), "not written one by one: 140 busy");
    }

    #[test]
    fn what_says_nothing_of_the_caller_is_not_written_of_those_who_are_known() {
        let (root, node) = (Caller::Local { uid: 0 }, Caller::Node { name: "edge-b".into() });
        let stranger = Caller::Anonymous { address: [192, 0, 2, 1].into() };
        for known in [&root, &node] {
            assert!(!is_of_caller(known, ErrorCode::NotFound));
            assert!(is_of_caller(known, ErrorCode::Forbidden));
        }
        assert!(is_of_caller(&stranger, ErrorCode::NotFound));
    }
}
