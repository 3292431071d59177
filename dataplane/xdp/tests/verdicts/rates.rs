//! Rules with a rate: what passes, what is dropped when it is used up, and what it does not touch.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use stoq::cid::{CidInfo, RESET_LEN};
use stoq_xdp::{InitialRates, Loaded, Rate, Rules, Verdict};

use crate::case::{PORT, V4, V6, difference, load, settings};
use crate::frame::Packet;
use crate::payload::{GENERATION, HANDSHAKE, Host, INITIAL, long, made_up_cid, short, versioned};

/// A rate that gives three at once and no more within a test.
const THREE: Rate = Rate::new(1, 3);

/// Sources beyond the 65,536 that are remembered.
const SOURCES: u32 = 80_000;

/// A rate that no test uses up.
const PLENTY: Rate = Rate::new(1_000_000, 1_000_000);

/// Loads the program with these rules, and keeps the test on one CPU, because rates are by CPU.
fn load_on_one_cpu(rules: Rules) -> Option<Loaded> {
    let here = Pid::from_raw(0);
    let allowed = sched_getaffinity(here).unwrap();
    let cpu = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu).unwrap()).unwrap();
    let mut one = CpuSet::new();
    one.set(cpu).unwrap();
    sched_setaffinity(here, &one).unwrap();
    load(&settings(rules))
}

/// Runs a frame so many times and returns what was counted.
fn count(loaded: &mut Loaded, frame: &[u8], times: u32) -> Vec<(Verdict, u64)> {
    let before = loaded.counters().unwrap();
    loaded.run(frame, times).unwrap();
    difference(&before, &loaded.counters().unwrap())
}

/// Runs a frame until it is dropped.
fn use_up(loaded: &mut Loaded, frame: &[u8], verdict: Verdict) {
    let dropped = (0..100).any(|_| count(loaded, frame, 1) == [(verdict, 1)]);
    assert!(dropped, "{verdict:?} never came");
}

fn from(source: impl Into<IpAddr>, payload: Vec<u8>) -> Vec<u8> {
    let source = source.into();
    let ours = if source.is_ipv4() { V4 } else { V6 };
    Packet::new(source, ours.parse().unwrap(), PORT, payload).frame()
}

fn v4(payload: Vec<u8>) -> Vec<u8> {
    from(Ipv4Addr::new(203, 0, 113, 5), payload)
}

fn opening() -> Vec<u8> {
    long(INITIAL, &made_up_cid(), 1200)
}

/// Three pass, seven do not.
fn three_of_ten(verdict: Verdict) -> Vec<(Verdict, u64)> {
    vec![(Verdict::NoSocket, 3), (verdict, 7)]
}

#[test]
fn each_rate_lets_its_burst_through_and_nothing_else_is_touched() {
    let host = Host::new();
    let rules = Rules {
        version: Some(THREE),
        forged: Some(THREE),
        old_generation: Some(THREE),
        ..Rules::default()
    };
    let Some(mut loaded) = load_on_one_cpu(rules) else { return };
    let version = v4(versioned(0xc0, 7, &[1; 8], &[2; 8], 1200));
    let negotiation = v4(versioned(0x80, 0, &host.cid(), &[2; 8], 40));
    let reset = v4(short([0x5c; 12], RESET_LEN));
    let earlier = v4(short(host.cid_of_earlier_run(), 100));
    let handshake = v4(long(HANDSHAKE, &host.cid_of_earlier_run(), 100));
    assert_eq!(count(&mut loaded, &version, 10), three_of_ten(Verdict::UnknownVersion));
    assert_eq!(count(&mut loaded, &negotiation, 2), [(Verdict::UnknownVersion, 2)]);
    assert_eq!(count(&mut loaded, &reset, 10), three_of_ten(Verdict::ResetRate));
    assert_eq!(count(&mut loaded, &earlier, 10), three_of_ten(Verdict::OldGeneration));
    assert_eq!(count(&mut loaded, &handshake, 2), [(Verdict::OldGeneration, 2)]);
    let established = v4(short(host.cid(), 100));
    assert_eq!(count(&mut loaded, &established, 1_000), [(Verdict::NoSocket, 1_000)]);

    let rules = Rules { version: None, old_generation: None, ..rules };
    loaded.apply(&settings(rules)).unwrap();
    for frame in [&version, &negotiation, &earlier, &handshake] {
        assert_eq!(count(&mut loaded, frame, 9), [(Verdict::NoSocket, 9)]);
    }
}

#[test]
fn a_prefix_that_floods_is_limited_alone() {
    let rules =
        Rules { initial: Some(InitialRates { source: THREE, total: PLENTY }), ..Rules::default() };
    let Some(mut loaded) = load_on_one_cpu(rules) else { return };
    let v6 = |net: u16, host: u16| Ipv6Addr::new(0x2001, 0xdb8, 1, net, 0, 0, 0, host);
    let limited = three_of_ten(Verdict::InitialSource);
    let spent = [(Verdict::InitialSource, 1)];
    assert_eq!(count(&mut loaded, &from(Ipv4Addr::new(10, 0, 0, 1), opening()), 10), limited);
    assert_eq!(count(&mut loaded, &from(Ipv4Addr::new(10, 0, 0, 2), opening()), 10), limited);
    assert_eq!(count(&mut loaded, &from(v6(1, 1), opening()), 10), limited);
    assert_eq!(count(&mut loaded, &from(v6(1, 2), opening()), 1), spent, "the same /64");
    assert_eq!(count(&mut loaded, &from(v6(2, 1), opening()), 10), limited);

    // What is no opening packet is not limited, from whomever it comes.
    let host = Host::new();
    for payload in [short(host.cid(), 100), long(INITIAL, &host.cid(), 1200)] {
        let frame = from(Ipv4Addr::new(10, 0, 0, 1), payload);
        assert_eq!(count(&mut loaded, &frame, 10), [(Verdict::NoSocket, 10)]);
    }
    let rules = Rules { initial: None, ..rules };
    loaded.apply(&settings(rules)).unwrap();
    let frame = from(Ipv4Addr::new(10, 0, 0, 1), opening());
    assert_eq!(count(&mut loaded, &frame, 10), [(Verdict::NoSocket, 10)]);
}

#[test]
fn one_source_cannot_use_up_what_all_have() {
    let total = Rate::new(1, 5);
    let rules = Rules { initial: Some(InitialRates { source: THREE, total }), ..Rules::default() };
    let Some(mut loaded) = load_on_one_cpu(rules) else { return };
    let flooding = from(Ipv4Addr::new(10, 0, 0, 1), opening());
    assert_eq!(count(&mut loaded, &flooding, 10), three_of_ten(Verdict::InitialSource));
    for last in 2..4 {
        let other = from(Ipv4Addr::new(10, 0, 0, last), opening());
        assert_eq!(count(&mut loaded, &other, 1), [(Verdict::NoSocket, 1)]);
    }
    let late = from(Ipv4Addr::new(10, 0, 0, 4), opening());
    assert_eq!(count(&mut loaded, &late, 1), [(Verdict::InitialTotal, 1)]);
    assert_eq!(count(&mut loaded, &flooding, 1), [(Verdict::InitialTotal, 1)]);
}

#[test]
fn a_rate_that_was_used_up_comes_back_with_time() {
    let rules = Rules { version: Some(Rate::new(50, 3)), ..Rules::default() };
    let Some(mut loaded) = load_on_one_cpu(rules) else { return };
    let version = v4(versioned(0xc0, 7, &[1; 8], &[2; 8], 1200));
    let dropped = [(Verdict::UnknownVersion, 1)];
    use_up(&mut loaded, &version, Verdict::UnknownVersion);
    let started = Instant::now();
    while count(&mut loaded, &version, 1) == dropped {
        assert!(started.elapsed() < Duration::from_secs(10), "one should come every 20 ms");
    }
}

#[test]
fn more_sources_than_the_table_holds_make_room_for_each_other() {
    let rules =
        Rules { initial: Some(InitialRates { source: THREE, total: PLENTY }), ..Rules::default() };
    let Some(mut loaded) = load_on_one_cpu(rules) else { return };
    let before = loaded.counters().unwrap();
    for number in 0..SOURCES {
        let source = Ipv4Addr::from_bits(0x0a00_0000 + number);
        loaded.run(&from(source, opening()), 1).unwrap();
    }
    let counted = difference(&before, &loaded.counters().unwrap());
    assert_eq!(counted, [(Verdict::NoSocket, u64::from(SOURCES))]);
}

/// The program and the protocol's own code agree on every connection ID.
#[test]
fn connection_ids_are_judged_as_the_protocol_judges_them() {
    let rules = Rules { old_generation: Some(Rate::new(1, 1)), ..Rules::default() };
    let Some(mut loaded) = load_on_one_cpu(rules) else { return };
    let host = Host::new();
    let earlier = v4(short(host.cid_of_earlier_run(), 100));
    use_up(&mut loaded, &earlier, Verdict::OldGeneration);
    let mut seen = [0; 3];
    for number in 0..3_000_u32 {
        let generation = GENERATION.wrapping_add((number % 3) as u16);
        let cid = host.current.issue(number as u8, generation, number.wrapping_mul(0x9e37_79b9));
        let mut cid = *cid.as_bytes();
        if number % 4 == 0 {
            cid[number as usize / 4 % 12] ^= 1 << (number / 48 % 8);
        }
        let (index, expected) = match host.current.check(&cid, GENERATION) {
            Ok(CidInfo::Current { .. }) => (0, Verdict::NoSocket),
            Ok(CidInfo::OldGeneration { .. }) => (1, Verdict::OldGeneration),
            Err(_) => (2, Verdict::Forged),
        };
        seen[index] += 1;
        assert_eq!(count(&mut loaded, &v4(short(cid, 100)), 1), [(expected, 1)], "{cid:02x?}");
    }
    assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
}
