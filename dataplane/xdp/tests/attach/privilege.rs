//! Which capabilities it takes: tried on threads that give up all others.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::thread;

use caps::{CapSet, Capability};
use stoq_xdp::{Program, Settings, XdpError};

use crate::bed::with_veth;

/// Attaches, tells it something, and reads the counters, with these capabilities and no others.
fn attach_with(capabilities: &[Capability]) -> Result<(), XdpError> {
    let keep: HashSet<Capability> = capabilities.iter().copied().collect();
    let thread = thread::scope(|scope| {
        scope
            .spawn(|| {
                caps::set(None, CapSet::Effective, &keep).unwrap();
                caps::set(None, CapSet::Permitted, &keep).unwrap();
                let mut program = Program::attach("wan", &Settings::default())?;
                let settings = Settings { ports: vec![9292], ..Settings::default() };
                program.apply(&settings)?;
                program.counters()?;
                program.clear_socket(0)?;
                Ok(())
            })
            .join()
    });
    thread.unwrap()
}

#[test]
fn probe() {
    use Capability::*;
    with_veth(1500, |_| {
        for set in [
            vec![],
            vec![CAP_NET_ADMIN],
            vec![CAP_BPF],
            vec![CAP_NET_ADMIN, CAP_BPF],
            vec![CAP_NET_ADMIN, CAP_BPF, CAP_NET_RAW],
            vec![CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON],
            vec![CAP_NET_ADMIN, CAP_SYS_ADMIN],
        ] {
            println!("{set:?}: {:?}", attach_with(&set).map_err(|e| e.to_string()));
        }
    });
}
