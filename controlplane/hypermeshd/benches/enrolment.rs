//! How many hosts an issuer enrols in a second: real HTTPS to a hypermeshd on loopback, a connection for each,
//! as hosts make it; each certificate signed, logged, and durable before it is answered. Hosts come from
//! several addresses, so that the limit for one source is not what is measured.
//!
//! `cargo bench -p hypermeshd --bench enrolment`
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a benchmark")]

#[path = "../tests/hosts/mod.rs"]
mod hosts;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hosts::{Host, PATIENCE};
use hypermesh_api::{
    Base64, BlockingClient, Client, ClientError, EnrolReply, EnrolRequest, TokenRole, path,
};
use hypermeshd::{clock, tls};
use rustls::pki_types::ServerName;
use stoq_identity::{Kind, NodeId, Policy, PrivateKeys};
use stoq_trustchain::{Enrolment, Request, RootFingerprint, Token, client_config};

/// Addresses that hosts come from, and hosts from each: below the limits of a minute, 60 of one source and
/// 1200 in all.
const SOURCES: u8 = 20;
const OF_EACH: u8 = 20;

/// Hosts that enrol at a time.
const AT_ONCE: u8 = 4;

/// A host that is ready to enrol: its keys are made and its token's proof.
struct Joiner {
    source: Ipv4Addr,
    root: [u8; 32],
    request: EnrolRequest,
}

fn joiner(host: &Host, source: Ipv4Addr, name: &str) -> Joiner {
    let token = Token::from_text(&host.token(name, TokenRole::Node, 3600)).unwrap();
    let keys = PrivateKeys::generate().unwrap();
    let id = NodeId::new(&token.mesh, name).unwrap();
    let request = Request::new(&keys, Kind::Node, &id, &token.hash().unwrap()).unwrap();
    let (request, at_s) = (request.to_bytes().unwrap(), clock::now_s());
    let enrolment = Enrolment { request: &request, endpoints: &[], at_s };
    let proof = Base64(token.prove(&enrolment).unwrap());
    let request = EnrolRequest { proof, request: Base64(request), endpoints: Vec::new(), at_s };
    Joiner { source, root: token.root, request }
}

/// A connection as a joiner makes it, whose server has to show the root's fingerprint.
fn connect(listen: SocketAddr, from: Ipv4Addr, root: [u8; 32]) -> BlockingClient {
    let verifier = Arc::new(RootFingerprint::new(root, Policy::Hybrid));
    let config = client_config(verifier, None, Arc::new(tls::Clock)).unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    BlockingClient::connect(async move {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let stream = socket.connect(listen).await.unwrap();
        let stream = connector.connect(ServerName::try_from("any").unwrap(), stream).await;
        let stream = stream.map_err(|error| ClientError::Broken(error.to_string()))?;
        Client::over(stream, PATIENCE).await
    })
    .unwrap()
}

/// Enrols all of them, and says how long each took.
fn enrol(listen: SocketAddr, joiners: Vec<Joiner>) -> Vec<Duration> {
    let one = |joiner: Joiner| {
        let begin = Instant::now();
        let mut client = connect(listen, joiner.source, joiner.root);
        client.post::<_, EnrolReply>(path::ENROL, &joiner.request).unwrap();
        begin.elapsed()
    };
    joiners.into_iter().map(one).collect()
}

fn report(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let ms = |at: usize| times[at.min(times.len() - 1)].as_secs_f64() * 1e3;
    let (median, p99) = (ms(times.len() / 2), ms(times.len() * 99 / 100));
    println!("enrolment/{name:<28} median {median:8.2} ms   p99 {p99:8.2} ms");
}

fn main() {
    let host = Host::start();
    host.found("lab", "edge-a");
    let mut shares: Vec<Vec<Joiner>> = (0..AT_ONCE).map(|_| Vec::new()).collect();
    for source in 0..SOURCES {
        let address = Ipv4Addr::new(127, 0, 0, 2 + source);
        for number in 0..OF_EACH {
            let name = format!("host-{source}-{number}");
            shares[usize::from(source % AT_ONCE)].push(joiner(&host, address, &name));
        }
    }
    let (listen, root) = (host.listen, shares[0][0].root);
    let handshake = || {
        let begin = Instant::now();
        drop(connect(listen, Ipv4Addr::LOCALHOST, root));
        begin.elapsed()
    };
    report("handshake alone", (0..200).map(|_| handshake()).collect());
    let begin = Instant::now();
    let threads = shares.into_iter().map(|share| std::thread::spawn(move || enrol(listen, share)));
    let threads: Vec<_> = threads.collect();
    let times: Vec<Duration> =
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let took = begin.elapsed().as_secs_f64();
    let hosts = times.len();
    report(&format!("handshake and enrolment, {AT_ONCE} at once"), times);
    println!("enrolment/rate {:.1} a second ({hosts} hosts in {took:.1} s)", hosts as f64 / took);
}
