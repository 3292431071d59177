//! A row of the table, and how it is run in the kernel.

use std::os::fd::AsFd;

use stoq_xdp::{Counters, Loaded, Rules, Settings, Verdict};

use crate::payload::Host;
use crate::socket::af_xdp;

/// `XDP_DROP`, `XDP_PASS` and `XDP_REDIRECT` of `enum xdp_action`.
const DROP: u32 = 1;
const PASS: u32 = 2;
const REDIRECT: u32 = 4;

/// The addresses and the port of the host, as in [`settings`].
pub const V4: &str = "192.0.2.1";
pub const V6: &str = "2001:db8::1";
pub const PORT: u16 = 9292;

/// What is to become of a packet.
#[derive(Clone, Copy, Debug)]
pub enum Expected {
    /// It is none of STOQ's: it passes, and nothing is counted.
    Foreign,
    /// It passes to the kernel, for it to judge.
    KernelJudges,
    /// It goes to the AF_XDP socket; without one to the kernel's.
    Delivered,
    /// It is dropped.
    Dropped(Verdict),
}

/// One packet, under rules, and what is to become of it.
pub struct Case {
    pub name: String,
    pub rules: Rules,
    pub frame: Vec<u8>,
    pub expected: Expected,
}

/// What the host of all cases is told.
pub fn settings(rules: Rules) -> Settings {
    Settings {
        ports: vec![PORT, 40_001, 65_535],
        addresses: [V4, V6].map(|text| text.parse().unwrap()).to_vec(),
        deny: [("198.51.100.0", 24), ("2001:db8:bad::", 48)]
            .map(|(text, len)| (text.parse().unwrap(), len))
            .to_vec(),
        rules,
        connection_ids: Some(Host::new().check()),
    }
}

/// Loads the program for these settings, or says why the test is skipped.
pub fn load(settings: &Settings) -> Option<Loaded> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: needs root to load a program");
        return None;
    }
    Some(Loaded::new(settings).unwrap())
}

/// Runs a case, without an AF_XDP socket and with one.
pub fn run(loaded: &mut Loaded, case: &Case) -> Result<(), String> {
    loaded.apply(&settings(case.rules)).unwrap();
    let (without, with) = match case.expected {
        Expected::Foreign => ((PASS, None), (PASS, None)),
        Expected::KernelJudges => {
            let both = (PASS, Some(Verdict::KernelJudges));
            (both, both)
        }
        Expected::Delivered => {
            ((PASS, Some(Verdict::NoSocket)), (REDIRECT, Some(Verdict::Redirected)))
        }
        Expected::Dropped(verdict) => ((DROP, Some(verdict)), (DROP, Some(verdict))),
    };
    loaded.clear_socket(0).unwrap();
    check(loaded, case, "without a socket", without)?;
    let socket = af_xdp();
    loaded.set_socket(0, socket.as_fd()).unwrap();
    check(loaded, case, "with a socket", with)
}

fn check(
    loaded: &mut Loaded,
    case: &Case,
    how: &str,
    (action, verdict): (u32, Option<Verdict>),
) -> Result<(), String> {
    let before = loaded.counters().unwrap();
    let trial = loaded.run(&case.frame, 1).unwrap();
    let counted = difference(&before, &loaded.counters().unwrap());
    let expected: Vec<_> = verdict.into_iter().map(|verdict| (verdict, 1)).collect();
    if (trial.action, &counted) == (action, &expected) {
        return Ok(());
    }
    Err(format!(
        "{} ({how}): expected action {action} and {expected:?}, got action {} and {counted:?}",
        case.name, trial.action
    ))
}

/// The counters that moved, and how far.
pub fn difference(before: &Counters, after: &Counters) -> Vec<(Verdict, u64)> {
    let moved = after.iter().map(|(verdict, packets)| (verdict, packets - before.get(verdict)));
    moved.filter(|(_, packets)| *packets != 0).collect()
}
