//! Which capabilities it takes: tried on threads that give up all others.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::thread;

use caps::{CapSet, Capability};
use stoq_xdp::{Program, Settings, XdpError};

use crate::bed::with_veth;

/// Runs `job` with these capabilities and no others.
fn with_only<T: Send>(capabilities: &[Capability], job: impl FnOnce() -> T + Send) -> T {
    let keep: HashSet<Capability> = capabilities.iter().copied().collect();
    let thread = thread::scope(|scope| {
        let limited = scope.spawn(|| {
            caps::set(None, CapSet::Effective, &keep).unwrap();
            caps::set(None, CapSet::Permitted, &keep).unwrap();
            job()
        });
        limited.join()
    });
    thread.unwrap()
}

fn attach() -> Result<Program, XdpError> {
    Program::attach("wan", &Settings::default())
}

/// What the crate's documentation says: these three, and none of them is too much.
#[test]
fn three_capabilities_are_enough_and_each_is_needed() {
    const ALL: [Capability; 3] =
        [Capability::CAP_NET_ADMIN, Capability::CAP_BPF, Capability::CAP_PERFMON];
    with_veth(1500, |_| {
        with_only(&ALL, attach).map(|_| ()).unwrap();
        for missing in ALL {
            let others: Vec<_> = ALL.into_iter().filter(|one| *one != missing).collect();
            let error = with_only(&others, attach).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("not permitted") || error.contains("denied"), "{error}");
            assert!(error.contains(&missing.to_string()), "{error}");
        }
    });
}

/// Once it is attached, its descriptors are enough to tell it something.
#[test]
fn an_attached_program_needs_none() {
    with_veth(1500, |_| {
        let mut program = attach().unwrap();
        let settings = Settings { ports: vec![9292], ..Settings::default() };
        let socket = crate::socket::af_xdp();
        with_only(&[], || {
            program.apply(&settings).unwrap();
            program.counters().unwrap();
            program.set_socket(0, socket.as_fd()).unwrap();
            program.clear_socket(0).unwrap();
        });
    });
}

/// Without CAP_SYS_ADMIN the kernel does not tell the name of another's program.
#[test]
fn without_more_privilege_another_program_is_told_by_its_number() {
    let capabilities = [Capability::CAP_NET_ADMIN, Capability::CAP_BPF, Capability::CAP_PERFMON];
    with_veth(1500, move |_| {
        let _first = attach().unwrap();
        let error = with_only(&capabilities, attach).map(|_| ()).unwrap_err();
        let XdpError::Occupied { occupant, .. } = &error else { panic!("{error}") };
        assert_eq!(occupant.name, None);
        assert!(error.to_string().contains(&format!("program id {}", occupant.id)), "{error}");
    });
}
