//! The service manager of the test bed: what one process stored, the next one holds.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::fs;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;
use stoq_perf::bed::Bed;
use stoq_perf::service::Manager;
use stoq_perf::wait;

const SOON: Duration = Duration::from_secs(30);

/// Says what it was given, and reads both files through it.
const SERVICE: &str =
    "test \"$LISTEN_PID\" = $$ && echo \"$LISTEN_FDS $LISTEN_FDNAMES $(cat <&3) $(cat <&4)\"";

#[test]
fn the_next_process_gets_what_the_last_one_stored() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("the_next_process_gets_what_the_last_one_stored: SKIPPED, namespaces need root");
        return;
    }
    let bed = Bed::new().unwrap();
    let path = bed.folder().join("notify.sock");
    let manager = Manager::start(&path).unwrap();
    let last = UnixDatagram::unbound().unwrap();
    last.connect(&path).unwrap();
    for name in ["tunnel", "wan"] {
        let file = bed.folder().join(name);
        fs::write(&file, format!("of-{name}")).unwrap();
        let file = fs::File::open(file).unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [file.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        let text = format!("FDSTORE=1\nFDNAME={name}");
        sendmsg(&last, &[IoSlice::new(text.as_bytes())], &mut control, SendFlags::empty()).unwrap();
    }
    wait::until("two descriptors stored", SOON, || match manager.stored() {
        stored if stored.len() == 2 => Ok(()),
        stored => Err(stored.join(" ")),
    })
    .unwrap();
    let log = bed.folder().join("service.log");
    let mut service =
        manager.spawn(&bed.a.namespace, &log, Path::new("sh"), ["-c", SERVICE]).unwrap();
    let status = service.wait_exit(SOON).unwrap();
    assert!(status.success(), "{status}: {}", service.log());
    assert_eq!(service.log(), "2 tunnel:wan of-tunnel of-wan\n");
}
