//! What somebody with the file in his hands could do to it, and how it is found.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::sync::OnceLock;

use proptest::prelude::*;
use stoq_audit::{
    Chain, Entry, Event, Finding, Head, Line, LineError, Options, Outcome, RecoverError, Report,
    VerifyError, verify,
};
use stoq_identity::{Policy, PrivateKeys, PublicKeys};

/// Entries of the log under attack.
const ENTRIES: u64 = 6;

struct Fixture {
    keys: PrivateKeys,
    public: [PublicKeys; 1],
    lines: Vec<Line>,
    last: Head,
}

fn event(n: u64) -> Event {
    let result = if n.is_multiple_of(3) {
        Outcome::Refused("viewers only look".into())
    } else {
        Outcome::Done
    };
    Event {
        at_s: 1_800_000_000 + n,
        actor: "operator alice".to_owned(),
        action: "revoke".to_owned(),
        subject: format!("node edge-{n}"),
        result,
    }
}

/// A log with a head behind every entry.
fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let keys = PrivateKeys::generate().unwrap();
        let (mut chain, mut lines) = (Chain::new(), Vec::new());
        let mut last = None;
        for n in 1..=ENTRIES {
            lines.push(Line::Entry(chain.append(event(n))));
            let head = chain.head(1_800_000_000 + n, &keys).unwrap();
            lines.push(Line::Head(head.clone()));
            last = Some(head);
        }
        assert_eq!((chain.number(), chain.unsigned()), (ENTRIES, 0));
        Fixture { public: [keys.public().clone()], keys, lines, last: last.unwrap() }
    })
}

fn text(lines: &[Line]) -> String {
    lines.iter().map(Line::to_text).collect()
}

fn check_with(lines: &str, known: &[Head], unsigned_max: u64) -> Result<Report, Finding> {
    let keys = &fixture().public;
    let options = Options { keys, policy: Policy::Hybrid, known, unsigned_max };
    verify(lines.as_bytes(), &options).map_err(|error| match error {
        VerifyError::Finding { finding, .. } => finding,
        VerifyError::Io(error) => panic!("{error}"),
    })
}

fn check(lines: &[Line]) -> Result<Report, Finding> {
    check_with(&text(lines), &[], 0)
}

/// The entries anew, as somebody without the keys can compute them.
fn recompute(lines: &mut [Line], edit: impl Fn(&mut Event)) {
    let mut chain = Chain::new();
    for line in lines {
        let Line::Entry(entry) = line else { continue };
        let Entry { at_s, actor, action, subject, result, .. } = entry.clone();
        let mut event = Event { at_s, actor, action, subject, result };
        edit(&mut event);
        *entry = chain.append(event);
    }
}

#[test]
fn an_untouched_log_verifies() {
    let fixture = fixture();
    let report = check(&fixture.lines).unwrap();
    let expected = Report { entries: ENTRIES, heads: ENTRIES, unsigned: 0, known: 0 };
    assert_eq!(report, expected);
    let known = check_with(&text(&fixture.lines), std::slice::from_ref(&fixture.last), 0).unwrap();
    assert_eq!(known.known, 1);
    assert_eq!(check(&[]).unwrap(), Report::default());
}

#[test]
fn people_can_read_it_line_by_line() {
    let text = text(&fixture().lines[..1]);
    assert!(text.starts_with(r#"{"entry":{"number":1,"at_s":1800000001,"actor":"operator alice""#));
    assert_eq!(text.matches('\n').count(), 1);
}

#[test]
fn an_edit_an_insertion_and_a_removal_are_found() {
    let mut edited = fixture().lines.clone();
    if let Line::Entry(entry) = &mut edited[4] {
        entry.actor = "operator bob".to_owned();
    }
    assert_eq!(check(&edited), Err(Finding::Edited { number: 3 }));

    let mut removed = fixture().lines.clone();
    removed.drain(4..6);
    assert_eq!(check(&removed), Err(Finding::Number { expected: 3, got: 4 }));

    let mut inserted = fixture().lines.clone();
    inserted.insert(4, inserted[2].clone());
    assert_eq!(check(&inserted), Err(Finding::Number { expected: 3, got: 2 }));

    let mut swapped = fixture().lines.clone();
    swapped.swap(2, 4);
    assert_eq!(check(&swapped), Err(Finding::Number { expected: 2, got: 3 }));

    // An entry of its own in place of one, with its own hash in order.
    let mut replaced = fixture().lines.clone();
    let mut chain = Chain::new();
    for n in 1..=2 {
        let _ = chain.append(event(10 * n));
    }
    replaced[4] = Line::Entry(chain.append(event(3)));
    assert_eq!(check(&replaced), Err(Finding::Previous { number: 3 }));
}

#[test]
fn a_chain_that_is_computed_again_does_not_fit_the_heads() {
    let edit = |event: &mut Event| {
        if event.subject == "node edge-3" {
            event.subject = "node edge-9".to_owned();
        }
    };
    let mut lines = fixture().lines.clone();
    recompute(&mut lines, edit);
    assert_eq!(check(&lines), Err(Finding::Recomputed { number: 3 }));
    // Without the heads in the file: too much is unsigned, and a head that was kept does not fit.
    lines.retain(|line| matches!(line, Line::Entry(_)));
    assert_eq!(check(&lines), Err(Finding::Unsigned { got: ENTRIES, most: 0 }));
    let known = [fixture().last.clone()];
    let found = check_with(&text(&lines), &known, ENTRIES);
    assert_eq!(found, Err(Finding::Recomputed { number: ENTRIES }));
    // Signed again with other keys.
    let other = PrivateKeys::generate().unwrap();
    let mut chain = Chain::new();
    let mut forged: Vec<Line> = (1..=2).map(|n| Line::Entry(chain.append(event(n)))).collect();
    forged.push(Line::Head(chain.head(0, &other).unwrap()));
    assert!(matches!(check(&forged), Err(Finding::Head { number: 2, .. })));
    // The same, under the name of the log's keys.
    if let Some(Line::Head(head)) = forged.last_mut() {
        head.keys = fixture().public[0].fingerprint();
    }
    assert!(matches!(check(&forged), Err(Finding::Head { number: 2, .. })));
}

#[test]
fn a_tail_that_was_cut_is_found_by_a_head_that_was_kept() {
    let fixture = fixture();
    for left in 0..ENTRIES {
        let lines = &fixture.lines[..2 * left as usize];
        assert!(check(lines).is_ok(), "the file alone does not tell");
        let known = [fixture.last.clone()];
        let found = check_with(&text(lines), &known, 0);
        assert_eq!(found, Err(Finding::Cut { entries: left, known: ENTRIES }));
    }
    let forged = Head { number: 99, ..fixture.last.clone() };
    let found = check_with(&text(&fixture.lines), &[forged], 0);
    assert!(matches!(found, Err(Finding::Head { number: 99, .. })), "and by no forged one");
}

#[test]
fn heads_that_are_moved_or_missing_are_found() {
    let mut moved = fixture().lines.clone();
    moved.swap(1, 3);
    assert_eq!(check(&moved), Err(Finding::HeadNumber { expected: 1, got: 2 }));
    let mut missing = fixture().lines.clone();
    missing.pop();
    assert_eq!(check(&missing), Err(Finding::Unsigned { got: 1, most: 0 }));
    assert_eq!(check_with(&text(&missing), &[], 1).unwrap().unsigned, 1);
}

#[test]
fn a_torn_last_line_is_named_and_cut_only_when_no_head_covers_it() {
    let whole = text(&fixture().lines[..4]);
    let next = fixture().lines[4].to_text();
    for end in 1..next.len() {
        let torn = whole.clone() + &next[..end];
        let found = check_with(&torn, &[], 0);
        assert_eq!(found, Err(Finding::Line(LineError::Torn { got: end })));
        let recovered = Chain::recover(torn.as_bytes(), &[2]).unwrap();
        assert_eq!((recovered.bytes, recovered.chain.number()), (whole.len() as u64, 2));
        let named = recovered.torn.unwrap();
        assert!(named.may_be_cut && named.line == 5, "{named}");
        let covered = Chain::recover(torn.as_bytes(), &[2, 3]).unwrap().torn.unwrap();
        assert!(!covered.may_be_cut && covered.to_string().contains("backup"), "{covered}");
    }
    // What goes on from there is one log.
    let mut chain = Chain::recover(whole.as_bytes(), &[]).unwrap().chain;
    let more = Line::Entry(chain.append(event(9))).to_text();
    let head = Line::Head(chain.head(1, &fixture().keys).unwrap()).to_text();
    assert_eq!(check_with(&(whole + &more + &head), &[], 0).unwrap().entries, 3);
}

#[test]
fn damage_before_the_last_line_is_no_crash() {
    let mut lines: Vec<String> = fixture().lines.iter().map(Line::to_text).collect();
    lines[2] = "\n".to_owned();
    let error = Chain::recover(lines.concat().as_bytes(), &[]).unwrap_err();
    assert!(matches!(error, RecoverError::Damaged { line: 3, .. }), "{error}");
    let mut edited = fixture().lines.clone();
    recompute(&mut edited[..4], |event| event.at_s += 1);
    let error = Chain::recover(text(&edited).as_bytes(), &[]).unwrap_err();
    assert!(matches!(error, RecoverError::Broken { line: 2 }), "{error}");
}

#[test]
fn long_and_odd_texts_are_cut_and_stay_on_their_line() {
    let mut chain = Chain::new();
    let odd = "\u{0}\n\"é€".repeat(400);
    let entry = chain.append(Event {
        at_s: u64::MAX,
        actor: odd.clone(),
        action: odd.clone(),
        subject: odd.clone(),
        result: Outcome::Refused(odd),
    });
    assert!(entry.actor.len() <= stoq_audit::NAME_MAX && entry.actor.ends_with('…'));
    let line = Line::Entry(entry).to_text();
    assert!(line.len() < stoq_audit::LINE_MAX_BYTES, "{}", line.len());
    assert_eq!(line.matches('\n').count(), 1);
    assert_eq!(check_with(&line, &[], 1).unwrap().entries, 1);
    let endless = "x".repeat(3 * stoq_audit::LINE_MAX_BYTES);
    assert_eq!(check_with(&endless, &[], 0), Err(Finding::Line(LineError::Long)));
}

proptest! {
    #[test]
    fn no_changed_byte_goes_unnoticed(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let mut bytes = text(&fixture().lines).into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let options = Options {
            keys: &fixture().public, policy: Policy::Hybrid, known: &[], unsigned_max: 0,
        };
        // The time of a head and its keys' name are signed, the rest is in the chain.
        prop_assert!(verify(&bytes[..], &options).is_err(), "byte {}", at);
    }
}
