//! The rules one by one, and a mesh whose sequencer is lost, restored from old backups and met again, by seed.
//!
//! A failing run prints its seed: `SEED=n cargo test -p hypermeshd --lib term`.

use super::*;

const fn place(term: u64, height: u64, hash: u8) -> Place {
    Place { term, height, state_hash: Some([hash; 32]) }
}

#[test]
fn a_later_term_counts_whatever_its_height_and_within_one_a_ledger_only_grows() {
    let own = place(5, 10, 1);
    for (offered, offer) in [
        (place(5, 10, 1), Offer::Same),
        (place(5, 11, 2), Offer::Same),
        (place(5, 9, 2), Offer::Behind),
        (place(5, 10, 2), Offer::Forked),
        (place(6, 3, 2), Offer::Later),
        (place(4, 99, 2), Offer::Earlier),
        // A sequencer of an older release says neither term nor hash.
        (Place { term: 0, height: 99, state_hash: None }, Offer::Earlier),
    ] {
        assert_eq!(judge(&own, &offered), offer, "{offered:?}");
    }
    let silent = Place { term: 0, height: 10, state_hash: None };
    assert_eq!(judge(&place(0, 10, 1), &silent), Offer::Same);
}

#[test]
fn terms_and_numbers_rise_even_if_the_clock_was_set_back() {
    assert_eq!((next(0, 1_800_000_000), next(1_800_000_000, 5)), (1_800_000_000, 1_800_000_001));
    assert_eq!(next(TERM_MAX, u64::MAX), TERM_MAX);
    assert!(number(1_800_000_000, 0) > number(1_799_999_999, TERM_STEP - 1));
    assert_eq!(number(0, 7), 7, "a mesh that was never restored counts its heights");
    assert!(number(TERM_MAX, u64::from(u32::MAX)) < u64::MAX);
}

#[test]
fn a_survey_ends_with_the_last_answer_or_in_time() {
    let at = Duration::from_secs;
    let all = || vec!["edge-b".to_owned(), "edge-c".to_owned()];
    let mut survey = Survey::default();
    assert!(survey.is_over(0, at(0)) && !survey.is_over(2, at(9999)), "stoqd does not run");
    survey.begin(at(100));
    survey.begin(at(200));
    assert!(!survey.is_over(2, at(219)) && survey.is_over(2, at(220)));
    survey.heard("edge-b".to_owned(), at(110));
    assert_eq!(survey.waiting(all()), ["edge-c"]);
    assert!(!survey.is_over(1, at(139)) && survey.is_over(1, at(140)));
}

/// A ledger as its entries; equal ones come to the same hash.
#[derive(Clone, Debug, Default, PartialEq)]
struct Book {
    term: u64,
    entries: Vec<u32>,
}

impl Book {
    fn place(&self) -> Place {
        let mut state_hash = [0; 32];
        for (at, entry) in self.entries.iter().enumerate() {
            state_hash[at % 28] ^=
                entry.to_be_bytes()[3].rotate_left(u32::try_from(at).unwrap() % 8);
            state_hash[28..].copy_from_slice(&entry.to_be_bytes());
        }
        Place { term: self.term, height: self.entries.len() as u64, state_hash: Some(state_hash) }
    }
}

#[derive(Clone, Debug)]
struct Sequencer {
    book: Book,
    is_superseded: bool,
}

struct World {
    rng: fastrand::Rng,
    now_s: u64,
    entry: u32,
    /// The last is the one that was meant to be; those before may come back.
    sequencers: Vec<Sequencer>,
    members: Vec<Book>,
    backup: Book,
}

impl World {
    fn order(&mut self, which: usize) {
        self.entry += 1;
        let sequencer = &mut self.sequencers[which];
        if !sequencer.is_superseded {
            sequencer.book.entries.push(self.entry);
        }
    }

    /// A member reaches a sequencer, as follow does.
    fn follow(&mut self, member: usize, which: usize) {
        let (sequencer, own) = (&mut self.sequencers[which], &mut self.members[member]);
        if sequencer.is_superseded {
            return;
        }
        let before = own.clone();
        match judge(&own.place(), &sequencer.book.place()) {
            Offer::Same => {
                assert!(sequencer.book.entries.starts_with(&own.entries), "a fork of one term");
                own.clone_from(&sequencer.book);
            }
            Offer::Later => own.clone_from(&sequencer.book),
            Offer::Earlier => sequencer.is_superseded = true,
            offer => panic!("{offer:?} in a world without broken disks"),
        }
        assert!(own.term >= before.term, "a term fell");
    }

    /// The sequencer is lost and restored from the backup; some members can be reached.
    fn restore(&mut self) {
        self.now_s += self.rng.u64(..3);
        let mut book = self.backup.clone();
        let mut best = book.place();
        for member in &self.members {
            if self.rng.bool() {
                continue;
            }
            let (own, offered) = (book.place(), member.place());
            let is_further = match judge(&own, &offered) {
                Offer::Later => true,
                Offer::Same => offered.height > own.height,
                _ => false,
            };
            if is_further {
                book.clone_from(member);
            }
            if (offered.term, offered.height) > (best.term, best.height) {
                best = offered;
            }
        }
        assert_eq!(book.place(), best, "what a member that was reached knew is lost");
        let newest = self.sequencers.iter().map(|sequencer| sequencer.book.term).max();
        // Two restores of one backup within a second would be of one term.
        self.now_s = self.now_s.max(newest.unwrap_or_default() + 1);
        book.term = next(book.term, self.now_s);
        self.sequencers.push(Sequencer { book, is_superseded: false });
    }

    fn step(&mut self) {
        let last = self.sequencers.len() - 1;
        let any = self.rng.usize(..=last);
        let member = self.rng.usize(..self.members.len());
        match self.rng.u8(..20) {
            0..8 => self.order(last),
            8..10 => self.order(any),
            10..15 => self.follow(member, last),
            15..18 => self.follow(member, any),
            18 => self.backup.clone_from(&self.sequencers[last].book),
            _ => self.restore(),
        }
    }
}

#[test]
fn whatever_is_restored_and_comes_back_all_end_with_the_last_sequencer_and_the_others_stop() {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..300).collect::<Vec<u64>>(),
    };
    for seed in seeds {
        let mut world = World {
            rng: fastrand::Rng::with_seed(seed),
            now_s: 1_800_000_000,
            entry: 0,
            sequencers: vec![Sequencer { book: Book::default(), is_superseded: false }],
            members: vec![Book::default(); 4],
            backup: Book::default(),
        };
        println!("SEED={seed}");
        for _ in 0..300 {
            world.step();
        }
        let last = world.sequencers.len() - 1;
        world.order(last);
        for member in 0..world.members.len() {
            world.follow(member, last);
            assert_eq!(world.members[member], world.sequencers[last].book);
            for which in 0..last {
                world.follow(member, which);
                assert!(world.sequencers[which].is_superseded);
            }
        }
        assert!(!world.sequencers[last].is_superseded);
    }
}
