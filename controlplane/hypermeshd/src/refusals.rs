//! What is written to the audit log of those who were refused. Every refusal is counted by its reason;
//! written are those that an operator may have to act on, and so many in a span, so that nobody fills the
//! disk by being refused. What was left out is written as one entry with its counts. Spans grow while there
//! is something to leave out: whoever goes on for months gets some 5 MB a day, an entry with its signed head
//! being 3.5 kB. Owned by the app; a pure function of the calls and their times.

use std::collections::BTreeMap;
use std::time::Duration;

use hypermesh_api::ErrorCode;

use crate::caller::Caller;

/// The shortest span over which refusals are counted.
pub const SPAN: Duration = Duration::from_secs(60);

/// The longest: what an operator may have to wait for the counts of a flood that does not end.
const SPAN_MAX: Duration = Duration::from_secs(3600);

/// Most refusals written in a span.
const WRITTEN_MAX: u32 = 60;

/// Refusals of the current span.
#[derive(Debug)]
pub struct Refusals {
    began: Duration,
    span: Duration,
    written: u32,
    left_out: BTreeMap<&'static str, u64>,
}

impl Default for Refusals {
    fn default() -> Self {
        Self { began: Duration::ZERO, span: SPAN, written: 0, left_out: BTreeMap::new() }
    }
}

impl Refusals {
    /// Whether a refusal at `now` (since the start) is written; otherwise it is counted for the entry at
    /// the end of the span.
    pub fn admit(&mut self, code: ErrorCode, now: Duration) -> bool {
        // What was left out is taken before a new span begins.
        if self.is_over(now) && self.left_out.is_empty() {
            (self.began, self.span, self.written) = (now, SPAN, 0);
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
        if !self.is_over(now) || self.left_out.is_empty() {
            return None;
        }
        let left_out = std::mem::take(&mut self.left_out);
        let longer = (self.span * 2).min(SPAN_MAX);
        (self.began, self.span, self.written) = (now, longer, 0);
        let counts: Vec<_> =
            left_out.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        Some(format!("not written one by one: {}", counts.join(", ")))
    }

    fn is_over(&self, now: Duration) -> bool {
        now.saturating_sub(self.began) >= self.span
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
    fn a_flood_that_goes_on_is_written_ever_more_seldom_and_a_quiet_hour_ends_that() {
        let mut refusals = Refusals::default();
        // Twice as many as are written in the shortest span.
        let entries_of = |refusals: &mut Refusals, seconds: std::ops::Range<u64>| -> u32 {
            let each = seconds.map(Duration::from_secs).map(|now| {
                let refused = [ErrorCode::Busy; 2].map(|code| refusals.admit(code, now));
                let summary = refusals.left_out(now).is_some();
                refused.into_iter().chain([summary]).map(u32::from).sum::<u32>()
            });
            each.sum()
        };
        const DAY: u64 = 86_400;
        entries_of(&mut refusals, 0..DAY);
        let second_day = entries_of(&mut refusals, DAY..2 * DAY);
        assert!((24..=24 * (WRITTEN_MAX + 1)).contains(&second_day), "{second_day}");
        refusals.left_out(Duration::from_secs(2 * DAY + 3600));
        let later = 3 * DAY;
        let minute = entries_of(&mut refusals, later..later + 61);
        assert_eq!(minute, WRITTEN_MAX + 1, "a minute with its summary, as at first");
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
