//! What certificates cost: to issue, to verify, and to prove possession, beside classical-only.
//!
//! `cargo bench -p stoq-trustchain --bench certificates`
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a benchmark")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use stoq_identity::{Label, Options, Policy, PrivateKeys, Role, Verifier, possession_body};
use stoq_trustchain::{
    Authority, Dates, ISSUER_VALIDITY, LEAF_VALIDITY, Prefixes, ROOT_VALIDITY, Subject,
};

/// How long each line is measured.
const MEASURE: Duration = Duration::from_secs(2);

fn measure(name: &str, mut run: impl FnMut()) {
    run();
    let mut times_us = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < MEASURE {
        let start = Instant::now();
        run();
        times_us.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times_us.sort_by(f64::total_cmp);
    let median = times_us[times_us.len() / 2];
    let p99 = times_us[times_us.len() * 99 / 100];
    println!("certificates/{name:<32} median {median:9.1} us   p99 {p99:9.1} us");
}

fn main() {
    let now = SystemTime::now();
    let keys = || Arc::new(PrivateKeys::generate().unwrap());
    let root = Authority::found("bench", keys(), Dates::of(now, ROOT_VALIDITY)).unwrap();
    let prefixes = Prefixes::of(root.mesh(), None);
    let issuer_keys = keys();
    let subject = Subject::Issuer { node: "edge-a".to_owned(), prefixes };
    let dates = Dates::of(now, ISSUER_VALIDITY);
    let certificate = root.issue(&subject, issuer_keys.public(), dates).unwrap();
    let issuer = Authority::open(&certificate, issuer_keys).unwrap();
    let node = keys();
    let subject = Subject::Node { node: "edge-b".to_owned(), addresses: Vec::new() };
    let dates = Dates::of(now, LEAF_VALIDITY);
    let leaf = issuer.issue(&subject, node.public(), dates).unwrap();
    println!("certificates/leaf size {} bytes, issuer {} bytes", leaf.len(), certificate.len());

    measure("keys/hybrid", || drop(black_box(PrivateKeys::generate().unwrap())));
    measure("issue/hybrid", || {
        black_box(issuer.issue(&subject, node.public(), dates).unwrap());
    });
    let message = [0x30; 1000];
    measure("sign/classical-only", || {
        black_box(node.sign_classical(&message).unwrap());
    });
    for policy in [Policy::Classical, Policy::Hybrid] {
        let options = Options { policy, ..Options::default() };
        let known = [&certificate];
        let verifier = Verifier::with(&[root.certificate()], root.mesh(), &known, options).unwrap();
        let none: &[&[u8]] = &[];
        measure(&format!("verify/{policy}"), || {
            black_box(verifier.verify(&leaf, none, Role::Client, now).unwrap());
        });
    }
    let body = possession_body(Role::Client, &[1; 32], &[2; 32], &[3; 32]);
    measure("possession/sign", || {
        black_box(node.sign(&Label::POSSESSION, &body).unwrap());
    });
    let signature = node.sign(&Label::POSSESSION, &body).unwrap();
    for policy in [Policy::Classical, Policy::Hybrid] {
        measure(&format!("possession/verify/{policy}"), || {
            node.public().verify(&Label::POSSESSION, &body, &signature, policy).unwrap();
        });
    }
}
