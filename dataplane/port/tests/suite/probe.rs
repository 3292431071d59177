//! The probe chooses a port that works, in time, and says why it passed the others over.

use std::time::Instant;

use stoq_port::probe::select;
use stoq_port::{PortError, PortKind, PortOptions};

use crate::rig::PATIENCE;

#[test]
fn auto_chooses_a_port_and_names_the_others() {
    let start = Instant::now();
    let selection = select(None, &PortOptions::default()).unwrap();
    // 160 ms of trials; a busy machine may stretch the rest, and a probe that hangs never ends.
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    assert_ne!(selection.selected, PortKind::Xdp);
    assert_eq!(selection.mode, "gso+gro");
    let mut named: Vec<_> = selection.passed_over.iter().map(|(kind, _)| kind.label()).collect();
    named.push(selection.selected.label());
    named.sort_unstable();
    assert_eq!(named, ["mio", "uring"]);
    for (kind, reason) in &selection.passed_over {
        assert!(reason.contains("CPU-second"), "{kind}: {reason}");
    }
}

#[test]
fn a_wanted_port_is_taken_with_what_it_may_use() {
    let options = PortOptions { gso: false, multishot: false, ..PortOptions::default() };
    let mio = select(Some(PortKind::Mio), &options).unwrap();
    assert_eq!((mio.selected, &*mio.mode), (PortKind::Mio, "gro"));
    let uring = select(Some(PortKind::Uring), &options).unwrap();
    assert_eq!((uring.selected, &*uring.mode), (PortKind::Uring, "gro+single-shot"));
}

#[test]
fn the_xdp_port_is_not_tried_on_sockets_alone() {
    let refused = select(Some(PortKind::Xdp), &PortOptions::default());
    assert!(matches!(refused, Err(PortError::NotAlone)));
}
