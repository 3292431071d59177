//! The identity file that stoqd reads (certificate, keys, log proof), and the keys that this daemon
//! keeps beside it.

use std::time::{SystemTime, UNIX_EPOCH};

use hypermesh_api::ErrorCode;
use hypermesh_consensus::Ledger;
use stoq_identity::{CertificateInfo, KeyError, PrivateKeys};
use zeroize::Zeroizing;

use crate::files::{self, Dir};
use crate::pem;
use crate::refused::Refused;

/// From when to when the certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Unix seconds.
    pub not_before_s: u64,
    /// Unix seconds.
    pub not_after_s: u64,
    /// When it is due for renewal, Unix seconds: a point within a tenth of the life from two thirds
    /// on, another for each certificate, so that a mesh founded in one minute does not renew in one.
    pub renew_at_s: u64,
}

/// Keys from a file; none if there is no such file.
///
/// # Errors
/// When the file cannot be read or holds none.
pub fn keys(dir: &Dir, file: &'static str) -> Result<Option<PrivateKeys>, Refused> {
    let Some(text) = dir.read(file)? else { return Ok(None) };
    let damaged = |error: KeyError| {
        Refused::new(ErrorCode::Storage, format!("{}: {error}", dir.path(file).display()))
    };
    PrivateKeys::from_pem(&text).map(Some).map_err(damaged)
}

/// Keys from a file, made if there are none.
///
/// # Errors
/// When they can be neither read nor written.
pub fn keys_or_new(dir: &Dir, file: &'static str) -> Result<PrivateKeys, Refused> {
    if let Some(keys) = keys(dir, file)? {
        return Ok(keys);
    }
    let keys = PrivateKeys::generate().map_err(Refused::internal)?;
    dir.write(file, 0o600, keys.to_pem().as_bytes())?;
    Ok(keys)
}

/// Replaces the identity file in one step. The issuer's certificate stands behind the node's: a stoqd
/// that starts for the first time has no other source of it.
///
/// # Errors
/// When no issuer of the ledger issued the certificate, or the file cannot be written; the old one
/// stays then.
pub fn write(
    dir: &Dir,
    certificate: &[u8],
    keys: &PrivateKeys,
    proof: &[u8],
    ledger: &Ledger,
) -> Result<(), Refused> {
    let issuers: Vec<&[u8]> = ledger.issuers().map(|(_, i)| i.certificate.as_slice()).collect();
    let issuer = pem::certificate(crate::tls::issuer_of(certificate, &issuers)?);
    let certificate = pem::certificate(certificate);
    let proof = pem::section(pem::LOG_PROOF, proof);
    let keys = keys.to_pem();
    let text = Zeroizing::new([certificate.as_str(), &issuer, &keys, &proof].concat());
    Ok(dir.write(files::IDENTITY, 0o600, text.as_bytes())?)
}

/// How the certificate in the identity file stands; none if there is none.
///
/// # Errors
/// When the file cannot be read.
pub fn standing(dir: &Dir) -> Result<Option<Standing>, Refused> {
    let Some(text) = dir.read(files::IDENTITY)? else { return Ok(None) };
    let der = pem::first_certificate("the identity's certificate", &text)?;
    validity(&der).map(Some)
}

/// How a certificate stands.
///
/// # Errors
/// When it is none.
pub fn validity(der: &[u8]) -> Result<Standing, Refused> {
    let info = CertificateInfo::read(der).map_err(Refused::internal)?;
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (not_before_s, not_after_s) = (seconds(info.not_before), seconds(info.not_after));
    let life = not_after_s.saturating_sub(not_before_s);
    // From the serial number, so that a restart does not draw again.
    let draw = info.serial.bytes().fold(0_u64, |draw, byte| (draw * 31 + u64::from(byte)) % 997);
    let renew_at_s = not_before_s + life * 2 / 3 + (life / 10) * draw / 997;
    Ok(Standing { not_before_s, not_after_s, renew_at_s })
}
