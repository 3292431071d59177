//! Nothing that is said inside can be read on the wire.

use crate::{Fixture, SOON};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use stoq_perf::bed::{Family, Side};
use stoq_perf::process::Process;
use stoq_perf::wait;

crate::on_each_port!(no_plaintext_on_the_wire);

/// Sent inside the tunnel, and never to be seen outside.
const SECRET: &[u8] = b"the-words-that-only-the-two-sites-may-know";

/// Sent outside of it, to show that the capture would see it.
const PUBLIC: &[u8] = b"the-words-that-anyone-on-the-wire-may-read";

fn no_plaintext_on_the_wire(fixture: &Fixture) {
    let capture = fixture.bed.folder().join("wire.pcap");
    let tcpdump = start_capture(fixture, &capture);
    let _nodes = fixture.start();
    fixture.wait_for_sites(SOON);
    for family in Family::BOTH {
        say(fixture, Side::B.host(family));
    }
    shout(fixture);
    let seen = wait::until("the public words in the capture", SOON, || {
        let seen = fs::read(&capture).unwrap_or_default();
        if contains(&seen, PUBLIC) { Ok(seen) } else { Err(tcpdump.log()) }
    });
    let seen = seen.unwrap();
    assert!(!contains(&seen, SECRET), "plaintext on the wire");
}

fn start_capture(fixture: &Fixture, file: &Path) -> Process {
    let log = fixture.bed.folder().join("tcpdump.log");
    let file = file.to_string_lossy().into_owned();
    let words = ["-i", "m-a", "--immediate-mode", "-U", "-s", "0", "-Z", "root", "-w", &file];
    let mut tcpdump =
        Process::spawn(&fixture.bed.middle, &log, Path::new("tcpdump"), words).unwrap();
    tcpdump.wait_for_log("listening on", SOON).unwrap();
    tcpdump
}

/// Says it over TCP, many times, and waits until it was heard.
fn say(fixture: &Fixture, address: std::net::IpAddr) {
    let any = SocketAddr::new(address, 0);
    let listener = fixture.host(Side::B).enter(|| TcpListener::bind(any)).unwrap().unwrap();
    let target = listener.local_addr().unwrap();
    let mut speaker = fixture.host(Side::A).enter(|| TcpStream::connect(target)).unwrap().unwrap();
    let (mut listener, _) = listener.accept().unwrap();
    let speech = SECRET.repeat(100);
    speaker.write_all(&speech).unwrap();
    drop(speaker);
    let mut heard = Vec::new();
    listener.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, speech);
}

/// Says it over UDP on the wire, and waits until it was heard there.
fn shout(fixture: &Fixture) {
    let target = SocketAddr::new(Side::B.wan(Family::V4), 7777);
    let ear = fixture.bed.b.namespace.enter(|| UdpSocket::bind(target)).unwrap().unwrap();
    let mouth = fixture.bed.a.namespace.enter(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    mouth.send_to(PUBLIC, target).unwrap();
    ear.set_read_timeout(Some(SOON)).unwrap();
    let mut heard = [0; 100];
    let len = ear.recv(&mut heard).unwrap();
    assert_eq!(&heard[..len], PUBLIC);
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
