//! One sequencer and its followers, with disks that fail and hosts that crash at any moment:
//! nothing that was acknowledged is lost, and all come to the same state.
//!
//! A failing run prints its seed: `SEED=n cargo test -p hypermesh-consensus --test simulation`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod script;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use hypermesh_consensus::{
    Entry, FollowError, Follower, Journal, JournalError, Ledger, Sequencer, Single, SubmitError,
    replay,
};
use script::Script;

/// Runs, each with its own seed.
const RUNS: u64 = 200;
/// Things that happen in a run.
const STEPS: u32 = 400;
const FOLLOWERS: usize = 3;

/// What a write does.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// Nothing is written (the disk is full).
    Refuse,
    /// It is written, and reported as failed.
    Lie,
    /// It is written, and the host dies before anybody is told.
    Crash,
}

/// A host's disk: survives the host.
#[derive(Default)]
struct Store {
    snapshot: Option<Vec<u8>>,
    entries: BTreeMap<u64, Entry>,
    next: Option<Fault>,
    is_down: bool,
}

#[derive(Clone, Default)]
struct Disk(Rc<RefCell<Store>>);

impl Journal for Disk {
    fn append(
        &mut self,
        height: u64,
        command: &[u8],
        state_hash: &[u8; 32],
    ) -> Result<(), JournalError> {
        let mut store = self.0.borrow_mut();
        let fault = store.next.take().unwrap_or(Fault::None);
        if fault != Fault::Refuse {
            let entry = Entry { height, command: command.to_vec(), state_hash: *state_hash };
            store.entries.insert(height, entry);
        }
        store.is_down = fault == Fault::Crash;
        let reason = "as the simulation has it".to_owned();
        if fault == Fault::None { Ok(()) } else { Err(JournalError { height, reason }) }
    }
}

impl Disk {
    fn recover(&self) -> Ledger {
        let mut store = self.0.borrow_mut();
        store.is_down = false;
        let entries: Vec<Entry> = store.entries.values().cloned().collect();
        replay(store.snapshot.as_deref(), entries).unwrap()
    }

    fn fail_next(&self, rng: &mut fastrand::Rng) {
        let fault = match rng.u8(..12) {
            0 => Fault::Refuse,
            1 => Fault::Lie,
            2 => Fault::Crash,
            _ => Fault::None,
        };
        self.0.borrow_mut().next = Some(fault);
    }

    /// Writes a snapshot, then trims the journal, and may die in between.
    fn trim(&self, ledger: &Ledger, rng: &mut fastrand::Rng) {
        let mut store = self.0.borrow_mut();
        store.snapshot = Some(ledger.snapshot());
        let up_to = rng.u64(..=ledger.height());
        store.entries.retain(|height, _| *height > up_to);
    }

    fn is_down(&self) -> bool {
        self.0.borrow().is_down
    }
}

/// Prints the seed when the run fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the simulation failed with SEED={}", self.0);
        }
    }
}

struct Simulation {
    script: Script,
    disk: Disk,
    sequencer: Single<Disk>,
    /// Every entry up to the sequencer's height, as followers can ask for it.
    truth: Vec<Entry>,
    acknowledged: u64,
    followers: Vec<(Disk, Follower<Disk>)>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let disk = Disk::default();
        let host = || {
            let disk = Disk::default();
            (disk.clone(), Follower::new(Ledger::default(), disk))
        };
        Self {
            script: Script::new(seed),
            sequencer: Single::new(Ledger::default(), disk.clone()),
            disk,
            truth: Vec::new(),
            acknowledged: 0,
            followers: (0..FOLLOWERS).map(|_| host()).collect(),
        }
    }

    fn submit(&mut self) {
        let command = self.script.next(self.sequencer.ledger());
        let before = self.sequencer.ledger().clone();
        self.disk.fail_next(&mut self.script.rng);
        match self.sequencer.submit(command.clone()) {
            Ok(receipt) if receipt.height > before.height() => {
                assert_eq!(receipt.height, before.height() + 1);
                self.acknowledged = receipt.height;
                self.learn();
            }
            Ok(_) | Err(SubmitError::Rejected(_)) => self.assert_unchanged(&before),
            Err(SubmitError::Journal(_)) => {
                self.assert_unchanged(&before);
                if self.disk.is_down() {
                    self.restart();
                }
            }
            Err(SubmitError::Command(error)) => panic!("{error}"),
        }
        self.disk.0.borrow_mut().next = None;
    }

    fn assert_unchanged(&self, before: &Ledger) {
        assert_eq!(self.sequencer.ledger().hash(), before.hash());
        assert_eq!(self.sequencer.ledger().snapshot(), before.snapshot());
    }

    /// Takes note of what is in the journal up to the sequencer's height.
    fn learn(&mut self) {
        let store = self.disk.0.borrow();
        let known = self.truth.len() as u64;
        for height in known + 1..=self.sequencer.ledger().height() {
            self.truth.push(store.entries[&height].clone());
        }
    }

    fn restart(&mut self) {
        let ledger = self.disk.recover();
        let height = ledger.height();
        assert!(height >= self.acknowledged, "acknowledged, and lost");
        // One that was written and not acknowledged may be there as well.
        assert!(height <= self.truth.len() as u64 + 1);
        for (height, entry) in &self.disk.0.borrow().entries {
            let known = self.truth.get(*height as usize - 1);
            assert!(known.is_none_or(|known| known == entry), "entry {height} was changed");
        }
        self.sequencer = Single::new(ledger, self.disk.clone());
        self.learn();
        assert_eq!(self.sequencer.ledger().height(), self.truth.len() as u64);
        let last = self.truth.last().map(|entry| entry.state_hash);
        assert!(last.is_none_or(|hash| hash == self.sequencer.ledger().hash()));
    }

    /// A follower asks for entries from somewhere on, and its disk may fail meanwhile.
    fn follow(&mut self) {
        let rng = &mut self.script.rng;
        let (disk, follower) = &mut self.followers[rng.usize(..FOLLOWERS)];
        let from = (follower.ledger().height() as usize).saturating_sub(rng.usize(..3));
        for entry in self.truth.iter().skip(from + rng.usize(..2)).take(rng.usize(..12)) {
            disk.fail_next(rng);
            let (before, expected) = (follower.ledger().hash(), follower.ledger().height() + 1);
            match follower.take(entry) {
                Ok(Some(_)) => assert_eq!(follower.ledger().hash(), entry.state_hash),
                Ok(None) => assert!(entry.height < expected),
                Err(FollowError::Gap { .. }) => assert!(entry.height > expected),
                Err(FollowError::Journal(_)) => assert_eq!(follower.ledger().hash(), before),
                Err(FollowError::Parted { .. }) => panic!("the ledgers have parted"),
            }
            disk.0.borrow_mut().next = None;
            if disk.is_down() {
                *follower = Follower::new(disk.recover(), disk.clone());
            }
        }
    }

    fn step(&mut self) {
        match self.script.rng.u8(..16) {
            0..9 => self.submit(),
            9..14 => self.follow(),
            14 => self.disk.trim(self.sequencer.ledger(), &mut self.script.rng),
            _ if self.script.rng.bool() => self.restart(),
            _ => {
                let (disk, follower) = &mut self.followers[self.script.rng.usize(..FOLLOWERS)];
                if self.script.rng.bool() {
                    disk.trim(follower.ledger(), &mut self.script.rng);
                }
                *follower = Follower::new(disk.recover(), disk.clone());
            }
        }
    }

    /// Everybody catches up without faults.
    fn settle(&mut self) {
        self.restart();
        for (_, follower) in &mut self.followers {
            for entry in &self.truth {
                follower.take(entry).unwrap();
            }
            assert_eq!(follower.ledger().hash(), self.sequencer.ledger().hash());
            assert_eq!(follower.ledger().snapshot(), self.sequencer.ledger().snapshot());
        }
        let afresh = replay(None, self.truth.clone()).unwrap();
        assert_eq!(afresh.hash(), self.sequencer.ledger().hash());
    }
}

fn simulate(seed: u64) -> u64 {
    let _printed = Seed(seed);
    let mut simulation = Simulation::new(seed);
    for _ in 0..STEPS {
        simulation.step();
    }
    simulation.settle();
    simulation.sequencer.ledger().height()
}

#[test]
fn nothing_acknowledged_is_lost_and_all_come_to_the_same_state() {
    if let Some(seed) = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        simulate(seed);
        return;
    }
    let heights: u64 = (0..RUNS).map(simulate).sum();
    assert!(heights > 20 * RUNS, "the runs do something: {heights} commands");
}

#[test]
fn a_follower_whose_state_is_another_says_so_and_stays_as_it_is() {
    let mut script = Script::new(1);
    let mut sequencer = Single::new(Ledger::default(), Disk::default());
    let mut follower = Follower::new(Ledger::default(), Disk::default());
    while sequencer.ledger().height() < 20 {
        let command = script.next(sequencer.ledger());
        let _ = sequencer.submit(command);
    }
    let entries: Vec<Entry> = sequencer.journal().0.borrow().entries.values().cloned().collect();
    for entry in &entries[..10] {
        follower.take(entry).unwrap();
    }
    let before = follower.ledger().hash();
    let mut other = entries[10].clone();
    other.state_hash[0] ^= 1;
    for _ in 0..2 {
        let error = follower.take(&other).unwrap_err();
        assert!(matches!(error, FollowError::Parted { height: 11, .. }), "{error}");
        assert_eq!(follower.ledger().hash(), before);
    }
    let gap = follower.take(&entries[11]).unwrap_err();
    assert_eq!(gap, FollowError::Gap { expected: 11, got: 12 });
    for entry in &entries {
        follower.take(entry).unwrap();
    }
    assert_eq!(follower.ledger().hash(), sequencer.ledger().hash());
}
