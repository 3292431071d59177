//! Recovery on a simulated path: seeded, in simulated time, so that every run of a seed is the same.

use super::nack::{NUMBERED, REPEATED, Range};
use super::receiver::{HELD_BYTES_MAX, SLOTS_MAX};
use super::sender::COPIES_BYTES_MAX;
use super::*;
use fastrand::Rng;

const RTT: Duration = Duration::from_millis(20);

/// Seeds of each simulation.
const SEEDS: u64 = 20;

/// What a path does to datagrams of both directions, as parts of one.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    loss: f64,
    reordered: f64,
    duplicated: f64,
    /// Loss of the direction that carries NACKs.
    nacks_lost: f64,
}

/// A sender and a receiver with a path between them.
struct World {
    ends: [Recovery; 2],
    faults: Faults,
    random: Rng,
    now: Instant,
    /// What is on its way to each end.
    on_way: [Vec<(Instant, Vec<u8>)>; 2],
    drops: Drops,
    delivered: Vec<u32>,
    /// How long each delivered payload took.
    took: Vec<Duration>,
    sent_at: Vec<Instant>,
}

impl World {
    fn new(faults: Faults, seed: u64) -> Self {
        let end = || {
            let mut end = Recovery::new(RTT, RTT / 10);
            let start = Instant::now();
            for reading in 1..=3 {
                let now = start + Duration::from_secs(reading);
                end.look(reading * 1000, reading * 100, now);
            }
            assert_eq!(end.overhead(), HEADER_LEN);
            end
        };
        Self {
            ends: [end(), end()],
            faults,
            random: Rng::with_seed(seed),
            now: Instant::now(),
            on_way: [Vec::new(), Vec::new()],
            drops: Drops::default(),
            delivered: Vec::new(),
            took: Vec::new(),
            sent_at: Vec::new(),
        }
    }

    fn put(&mut self, to: usize, datagram: &PacketBuf) {
        let faults = self.faults;
        let loss = if to == 1 { faults.loss } else { faults.nacks_lost };
        let copies = 1 + usize::from(self.random.f64() < faults.duplicated);
        for _ in 0..copies {
            if self.random.f64() < loss {
                continue;
            }
            let late = self.random.f64() < faults.reordered;
            let late = if late { RTT.mul_f64(self.random.f64()) } else { Duration::ZERO };
            self.on_way[to].push((self.now + RTT / 2 + late, datagram.as_slice().to_vec()));
        }
    }

    fn step(&mut self) {
        self.now += Duration::from_micros(100);
        for to in [0, 1] {
            let now = self.now;
            // A stable order: what was sent first comes first, unless it is late.
            let due: Vec<_> = self.on_way[to].extract_if(.., |sent| sent.0 <= now).collect();
            for (_, bytes) in due {
                let datagram = PacketBuf::from_slice(&bytes);
                let passed = self.ends[to].receive(datagram, now, &self.drops);
                assert!(passed.is_none(), "everything is numbered");
            }
            self.ends[to].handle_timeout(now);
        }
        self.take();
        if let Some(nack) = self.ends[1].next_nack(self.now) {
            self.put(0, &nack);
        }
        while let Some(again) = self.ends[0].next_repeat(1400, self.now) {
            self.put(1, &again);
        }
        self.bounds();
    }

    fn take(&mut self) {
        while let Some(payload) = self.ends[1].poll() {
            let number = u32::from_be_bytes(*payload.as_slice().first_chunk().unwrap());
            self.took.push(self.now - self.sent_at[number as usize]);
            self.delivered.push(number);
        }
    }

    fn bounds(&self) {
        let (slots, bytes) = self.ends[1].receiver.held();
        assert!(slots <= SLOTS_MAX && bytes <= HELD_BYTES_MAX);
        assert!(self.ends[0].sender.bytes() <= COPIES_BYTES_MAX);
    }

    fn send(&mut self) {
        let number = self.sent_at.len() as u32;
        self.sent_at.push(self.now);
        let mut payload = number.to_be_bytes().to_vec();
        payload.resize(100, 0);
        let wrapped = self.ends[0].wrap(PacketBuf::from_slice(&payload), self.now);
        self.put(1, &wrapped);
    }

    /// Sends so many payloads, one each step, and waits until nothing is under way.
    fn run(&mut self, payloads: u32) {
        for _ in 0..payloads {
            self.send();
            self.step();
        }
        for _ in 0..1000 {
            self.step();
        }
        assert!(self.ends[1].poll_timeout().is_none(), "nothing is waited for");
        assert!(self.delivered.is_sorted_by(|a, b| a < b), "in order, and nothing twice");
    }
}

#[test]
fn what_is_lost_is_delivered_in_order_all_the_same() {
    for seed in 0..SEEDS {
        for (loss, missing) in [(0.01, 0.000_5), (0.05, 0.005)] {
            let mut world =
                World::new(Faults { loss, nacks_lost: loss, ..Faults::default() }, seed);
            world.run(4000);
            let lost = 1.0 - world.delivered.len() as f64 / 4000.0;
            assert!(lost <= missing, "seed {seed}: {lost} of 4000 at {loss}");
            let counts = world.ends[1].take_counts();
            assert!(counts.recovered as f64 > 4000.0 * loss * 0.5, "seed {seed}: {counts:?}");
            let longest = world.took.iter().max().unwrap();
            assert!(*longest < RTT * 2 + RTT / 4, "seed {seed}: {longest:?}");
        }
    }
}

#[test]
fn a_path_with_every_fault_keeps_order_and_bounds() {
    let faults = Faults { loss: 0.1, reordered: 0.1, duplicated: 0.1, nacks_lost: 0.3 };
    for seed in 0..SEEDS {
        let mut world = World::new(faults, seed);
        world.run(4000);
        let counts = world.ends[1].take_counts();
        let all = world.delivered.len() as u64 + counts.given_up;
        // The last ones may be lost without a later one that would show it.
        assert!((3980..=4000).contains(&all), "seed {seed}: {all}, {counts:?}");
        assert!(counts.given_up < 200, "seed {seed}: {counts:?}");
        assert!(
            world.drops.get(DropReason::RecoveryLate) > 0,
            "seed {seed}: duplicates are counted"
        );
    }
}

#[test]
fn without_any_nack_nothing_is_held_longer_than_a_round_trip_and_a_little() {
    let mut world = World::new(Faults { loss: 0.05, nacks_lost: 1.0, ..Faults::default() }, 3);
    world.run(4000);
    let counts = world.ends[1].take_counts();
    assert_eq!((counts.recovered, world.ends[0].take_counts().resent), (0, 0));
    assert!(counts.given_up > 100, "{counts:?}");
    let longest = *world.took.iter().max().unwrap();
    assert!(longest <= RTT * 2 + RTT / 4, "{longest:?}");
}

#[test]
fn numbers_wrap() {
    let mut world = World::new(Faults { loss: 0.05, ..Faults::default() }, 4);
    world.ends[0].sender = Sender::starting_at(u32::MAX - 1000);
    world.ends[1].receiver = Receiver::starting_at(u32::MAX - 1000);
    world.run(4000);
    assert!(world.delivered.len() > 3980, "{}", world.delivered.len());
}

#[test]
fn an_outage_ends_all_waiting() {
    let mut world = World::new(Faults::default(), 5);
    world.run(10);
    world.faults.loss = 1.0;
    for _ in 0..SLOTS_MAX + 100 {
        world.send();
    }
    world.faults.loss = 0.0;
    world.run(10);
    assert_eq!(world.delivered.len(), 20);
    assert_eq!(world.ends[1].take_counts().given_up, SLOTS_MAX as u64 + 100);
}

#[test]
fn hostile_nacks_get_no_more_than_two_repetitions_of_what_was_sent() {
    let mut world = World::new(Faults::default(), 6);
    for _ in 0..100 {
        world.send();
    }
    let mut random = Rng::with_seed(6);
    let (mut again, drops) = (0, Drops::default());
    for _ in 0..10_000 {
        let range = Range { first: random.u32(..) >> random.u32(0..32), count: random.u16(1..512) };
        world.ends[0].receive(nack::write(&[range, range]), world.now, &drops);
        while world.ends[0].next_repeat(1400, world.now).is_some() {
            again += 1;
        }
        world.bounds();
    }
    assert_eq!(again, 200, "each of the 100 twice");
    assert_eq!(drops.get(DropReason::RecoveryInvalid), 0);
}

#[test]
fn hostile_numbers_hold_no_more_than_the_bounds() {
    let mut random = Rng::with_seed(7);
    for seed in 0..SEEDS {
        let mut world = World::new(Faults::default(), seed);
        let mut delivered = 0;
        for _ in 0..20_000 {
            let near = random.u32(0..SLOTS_MAX as u32 + 10).wrapping_add(random.u32(0..30_000));
            let number = if random.u8(..) == 0 { random.u32(..) } else { near };
            let mut payload = PacketBuf::from_slice(&[0; 1400]);
            nack::number(&mut payload, number, random.choice([NUMBERED, REPEATED]).unwrap());
            world.ends[1].receive(payload, world.now, &world.drops);
            while world.ends[1].poll().is_some() {
                delivered += 1;
            }
            world.now += Duration::from_micros(5);
            let nack = world.ends[1].next_nack(world.now);
            assert!(nack.is_none_or(|nack| nack.len() < 1200));
            world.ends[1].handle_timeout(world.now);
            world.bounds();
        }
        assert!(delivered <= 20_000);
    }
}

#[test]
fn what_cannot_be_read_is_refused_and_counted() {
    let mut end = Recovery::new(RTT, RTT / 10);
    let too_many = nack::write(&[Range { first: 0, count: 1 }; nack::RANGES_MAX + 1]);
    let too_much = nack::write(&[Range { first: 0, count: 1025 }]);
    let nothing = nack::write(&[Range { first: 0, count: 0 }]);
    let bad: [&[u8]; 9] = [
        &[RECOVERY],
        &[RECOVERY, 0, 0, 0, 0],
        &[RECOVERY, 3, 0, 0, 0, 0, 0],
        &[RECOVERY, 255],
        &[RECOVERY, 2],
        &[RECOVERY, 2, 0, 0, 0, 0, 0],
        too_many.as_slice(),
        too_much.as_slice(),
        nothing.as_slice(),
    ];
    let drops = Drops::default();
    for (at, bytes) in bad.iter().enumerate() {
        assert!(end.receive(PacketBuf::from_slice(bytes), Instant::now(), &drops).is_none());
        assert_eq!(drops.get(DropReason::RecoveryInvalid), at as u64 + 1, "{bytes:?}");
    }
    // Other contexts are not touched; a longer form of the same number is the same.
    let packet = PacketBuf::from_slice(&[0, 0x45]);
    assert!(end.receive(packet, Instant::now(), &drops).is_some());
    let longer = PacketBuf::from_slice(&[0x40, RECOVERY, 0, 0, 0, 0, 0, b'x']);
    assert!(end.receive(longer, Instant::now(), &drops).is_none());
    assert_eq!(end.poll().unwrap().as_slice(), b"x");
}
