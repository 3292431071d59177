//! `stoqctl cert show`: whose a certificate is, how long it is valid, and whether both of its
//! signatures lead to the root.

use std::fmt::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use hypermesh_api::{BundleReply, path};
use serde::Serialize;
use stoq_identity::{CertificateInfo, Expected, Kind, PeerIdentity, Policy, Role, VerifyError};
use stoq_mesh::Bundle;

use super::{Root, read_certificates, short};
use crate::failure::Failure;
use crate::hypermesh::{Way, connect};
use crate::mesh::show::{date, list};
use crate::output::answer;

/// A certificate, as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    /// What it is for: `node`, `operator (admin)`, `issuer`, `log` or `root`.
    kind: String,
    /// `stoq://MESH/NODE`; none for a root.
    id: Option<String>,
    subject: String,
    issuer: String,
    dns_names: Vec<String>,
    addresses: Vec<String>,
    not_before_s: u64,
    not_after_s: u64,
    serial: String,
    fingerprint: String,
    keys: String,
    classical: Verdict,
    alternative: Verdict,
}

/// What is known of a signature.
#[derive(Debug, Serialize)]
struct Verdict {
    /// Whether it leads to the root.
    verified: bool,
    /// The root, or why not.
    because: String,
}

/// Carries out the command. A certificate that does not verify is shown all the same, and ends it
/// with a refusal.
pub fn show(way: &Way, file: &Path, authority: &Path, json: bool) -> Result<(), Failure> {
    let root = Root::read(authority)?;
    let ders = read_certificates(file)?;
    if ders.is_empty() {
        let shown = file.display();
        return Err(Failure::Usage(format!("{shown}: expected a certificate in PEM, got none")));
    }
    let issuers = issuers(way, &ders);
    let now = SystemTime::now();
    let shown: Result<Vec<Shown>, Failure> =
        ders.iter().map(|der| examine(der, &root, &issuers, now)).collect();
    let shown = shown?;
    answer(json, &shown, |all| all.iter().map(render).collect::<Vec<_>>().join("\n"))?;
    match shown.iter().find(|one| !(one.classical.verified && one.alternative.verified)) {
        None => Ok(()),
        Some(bad) => Err(Failure::Refused(format!(
            "the certificate of {} does not verify under {}",
            bad.id.as_deref().unwrap_or(&bad.subject),
            authority.display()
        ))),
    }
}

/// The issuers that may stand between a certificate and the root: those in the file, and those that
/// hypermeshd knows if it answers. None is trusted for being known.
fn issuers(way: &Way, ders: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let is_issuer = |der: &&Vec<u8>| {
        CertificateInfo::read(der).is_ok_and(|info| info.kind == Some(Kind::Issuer))
    };
    let mut issuers: Vec<Vec<u8>> = ders.iter().filter(is_issuer).cloned().collect();
    let reply = connect(way).and_then(|mut client| {
        let reply: BundleReply = client.get(path::BUNDLE)?;
        Ok(reply)
    });
    // Without hypermeshd a file that holds the chain can still be checked; the verdict says what is
    // missing otherwise.
    if let Some(bundle) = reply.ok().and_then(|reply| Bundle::from_bytes(&reply.bundle.0).ok()) {
        issuers.extend(bundle.issuers.into_iter().map(|issuer| issuer.certificate));
    }
    issuers.sort();
    issuers.dedup();
    issuers
}

fn examine(
    der: &[u8],
    root: &Root,
    issuers: &[Vec<u8>],
    now: SystemTime,
) -> Result<Shown, Failure> {
    let info = CertificateInfo::read(der).map_err(|error| Failure::Usage(error.to_string()))?;
    let under = |policy| verify(der, &info, root, issuers, policy, now);
    let place = format!("root {}", short(&root.info.fingerprint));
    let classical = verdict(under(Policy::Classical)?, &place);
    let alternative = if classical.verified {
        verdict(under(Policy::Hybrid)?, &place)
    } else {
        let because = "not checked, because the classical chain does not hold".to_owned();
        Verdict { verified: false, because }
    };
    let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(Shown {
        kind: info.kind.map_or_else(|| "root".to_owned(), |kind| kind.to_string()),
        id: info.id.as_ref().map(ToString::to_string),
        not_before_s: seconds(info.not_before),
        not_after_s: seconds(info.not_after),
        fingerprint: short(&info.fingerprint),
        keys: short(&info.keys.fingerprint()),
        addresses: info.addresses.iter().map(ToString::to_string).collect(),
        dns_names: info.dns_names,
        subject: info.subject,
        issuer: info.issuer,
        serial: info.serial,
        classical,
        alternative,
    })
}

/// Verifies by the rules for what the certificate says that it is. The outer result is whether it
/// could be tried.
fn verify(
    der: &[u8],
    info: &CertificateInfo,
    root: &Root,
    issuers: &[Vec<u8>],
    policy: Policy,
    now: SystemTime,
) -> Result<Result<(), VerifyError>, Failure> {
    let verifier = match root.verifier(issuers, policy) {
        Ok(verifier) => verifier,
        // A root's own signature does not hold: nothing under it can.
        Err(failure) if info.kind.is_some() => return Err(failure),
        Err(failure) => return Ok(Err(untrusted(&failure.to_string()))),
    };
    let none: &[&[u8]] = &[];
    let leaf = |expected, role| verifier.verify_as(expected, der, none, role, now);
    let checked: Result<PeerIdentity, VerifyError> = match info.kind {
        None if der == root.der => return Ok(Ok(())),
        None => return Ok(Err(untrusted("it is another root"))),
        Some(Kind::Issuer) => verifier.verify_issuer(der, now),
        Some(Kind::Node) => leaf(Expected::Node, Role::Server),
        Some(Kind::Operator(_)) => leaf(Expected::Operator, Role::Client),
        Some(Kind::Log) => leaf(Expected::Log, Role::Client),
    };
    Ok(checked.map(drop))
}

fn untrusted(reason: &str) -> VerifyError {
    VerifyError::Untrusted { roots: 1, reason: reason.to_owned() }
}

fn verdict(checked: Result<(), VerifyError>, place: &str) -> Verdict {
    match checked {
        Ok(()) => Verdict { verified: true, because: place.to_owned() },
        Err(error) => Verdict { verified: false, because: error.to_string() },
    }
}

fn render(shown: &Shown) -> String {
    let mut text = format!("{}: {}\n", shown.kind, shown.id.as_deref().unwrap_or(&shown.subject));
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {name:12} {value}");
        }
    };
    line("names", &list(&shown.dns_names));
    line("addresses", &list(&shown.addresses));
    line("issued by", &shown.issuer);
    line("valid from", &date(shown.not_before_s));
    line("valid until", &date(shown.not_after_s));
    line("keys", &shown.keys);
    line("serial", &shown.serial);
    line("fingerprint", &shown.fingerprint);
    line("classical", &said(&shown.classical));
    line("alternative", &said(&shown.alternative));
    text
}

fn said(verdict: &Verdict) -> String {
    match verdict.verified {
        true => format!("verifies under {}", verdict.because),
        false => format!("DOES NOT VERIFY: {}", verdict.because),
    }
}
