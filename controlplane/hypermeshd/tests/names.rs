//! The mesh's names, asked of a real daemon on port 53 of a loopback address.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod hosts;

use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use hosts::{Host, PATIENCE, read};
use hypermesh_api::{FoundReply, Members, NodeName, Status, TokenRole, path};

/// Whether this test may listen on port 53.
fn can_run() -> bool {
    let bound = UdpSocket::bind("127.92.0.1:53");
    if let Err(error) = &bound {
        eprintln!("skipped: port 53 needs CAP_NET_BIND_SERVICE: {error}");
    }
    bound.is_ok()
}

/// A query for the IPv6 addresses of a name (RFC 1035 §4.1), with a number of its own.
fn query(name: &str) -> Vec<u8> {
    let mut message = vec![0x53, 0x53, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 28, 0, 1]);
    message
}

/// The response code and the whole answer; none if nobody answers.
fn ask(host: &Host, name: &str) -> Option<(u8, Vec<u8>)> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect((host.names(), 53)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket.send(&query(name)).ok()?;
    let mut answer = [0; 1500];
    let length = socket.recv(&mut answer).ok()?;
    Some((answer[3] & 15, answer[..length].to_vec()))
}

/// Asks until the answer is as wanted.
fn wait(host: &Host, name: &str, wanted: impl Fn(u8, &[u8]) -> bool) {
    let begin = Instant::now();
    loop {
        let answer = ask(host, name);
        if answer.as_ref().is_some_and(|(code, answer)| wanted(*code, answer)) {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "{name}: {answer:?}");
        std::thread::yield_now();
    }
}

fn holds(answer: &[u8], address: Ipv6Addr) -> bool {
    answer.windows(16).any(|bytes| bytes == address.octets())
}

fn nth(founded: &FoundReply, n: u128) -> Ipv6Addr {
    Ipv6Addr::from_bits(founded.prefix.network().to_bits() + n)
}

fn metrics(host: &Host) -> String {
    let mut stream = TcpStream::connect(host.metrics).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_name_is_answered_from_joining_until_revocation_and_counted() {
    if !can_run() {
        return;
    }
    let (a, b) = (Host::start(), Host::start());
    let (_, founded) = a.found("lab", "edge-a");
    wait(&a, "edge-a.lab.internal", |code, answer| code == 0 && holds(answer, nth(&founded, 1)));
    wait(&a, "edge-b.lab.internal", |code, _| code == 3);
    b.join(&a.token("edge-b", TokenRole::Node, 600)).unwrap();
    for host in [&a, &b] {
        let second = |code, answer: &[u8]| code == 0 && holds(answer, nth(&founded, 2));
        wait(host, "edge-b.lab.internal", second);
    }
    let node = NodeName { node: "edge-b".into() };
    a.client().post::<_, hypermesh_api::Revoked>(path::REVOKE, &node).unwrap();
    wait(&a, "edge-b.lab.internal", |code, _| code == 3);
    let text = metrics(&a);
    let line = text.lines().find(|line| line.contains("dns_queries_total{outcome=\"zone\"}"));
    let count: u64 = line.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(count >= 4, "{text}");
    assert!(text.contains("hypermesh_dns_queries_total{outcome=\"rate_limited\"}"), "{text}");
}

#[test]
fn the_key_of_the_zones_is_secret_and_stays() {
    if !can_run() {
        return;
    }
    let mut host = Host::start();
    host.found("lab", "edge-a");
    wait(&host, "edge-a.lab.internal", |code, _| code == 0);
    let path = host.state().join("zone.pem");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let before = read(&path);
    host.kill();
    host.run();
    wait(&host, "edge-a.lab.internal", |code, _| code == 0);
    assert_eq!(read(&path), before);
}

#[test]
fn a_port_that_is_taken_is_a_warning_and_tried_again() {
    if !can_run() {
        return;
    }
    let host = Host::start();
    let other = UdpSocket::bind((host.names(), 53)).unwrap();
    host.found("lab", "edge-a");
    let warnings = |client: &mut hypermesh_api::BlockingClient| {
        let status: Status = client.get(path::STATUS).unwrap();
        status.warnings.into_iter().filter(|warning| warning.contains("names")).collect::<Vec<_>>()
    };
    let mut client = host.client();
    let begin = Instant::now();
    let said = loop {
        let said = warnings(&mut client);
        if !said.is_empty() {
            break said;
        }
        assert!(begin.elapsed() < PATIENCE, "no warning");
    };
    assert!(said[0].contains("port below 1024") && said[0].contains("53"), "{said:?}");
    // The mesh works all the same, and the next change tries again.
    assert_eq!(client.get::<Members>(path::MEMBERS).unwrap().members.len(), 1);
    drop(other);
    host.token("edge-b", TokenRole::Node, 600);
    wait(&host, "edge-a.lab.internal", |code, _| code == 0);
    while !warnings(&mut client).is_empty() {
        assert!(begin.elapsed() < PATIENCE, "the warning stays");
    }
}
