//! OpenVPN between two ends over UDP: TLS with certificates that each end knows by their fingerprint,
//! AES-256-GCM, in user space (its kernel module is not what is compared here).

use super::{Running, START, target, write};
use crate::Result;
use crate::bed::{Bed, Family, Side};
use crate::process::{self, Process};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Its usual UDP port.
const PORT: u16 = 1194;

/// 1500 less 40 (IPv6), 8 (UDP) and 24 (its own header, packet number and tag), rounded down.
const MTU: u16 = 1420;

pub(super) fn start(bed: &Bed) -> Result<Running> {
    let (a, b) = (Identity::create(bed, Side::A)?, Identity::create(bed, Side::B)?);
    let server = start_edge(bed, Side::B, &b, &a)?;
    let mut client = start_edge(bed, Side::A, &a, &b)?;
    client.wait_for_log("Initialization Sequence Completed", START)?;
    Ok(Running { target: target(), processes: vec![(Side::B, server), (Side::A, client)] })
}

fn start_edge(bed: &Bed, side: Side, own: &Identity, peer: &Identity) -> Result<Process> {
    let (role, other) = match side {
        Side::A => ("tls-client", format!("remote {} {PORT}", Side::B.wan(Family::V6))),
        Side::B => ("tls-server\ndh none", String::new()),
    };
    let config = format!(
        "mode p2p\ndev tun-vpn\ndev-type tun\nproto udp6\nport {PORT}\n{role}\n{other}\n\
         ifconfig {} {}\ntun-mtu {MTU}\ncert {}\nkey {}\npeer-fingerprint {}\n\
         data-ciphers AES-256-GCM\ndisable-dco\nverb 3\n",
        side.tunnel(Family::V4),
        side.other().tunnel(Family::V4),
        own.certificate.display(),
        own.key.display(),
        peer.fingerprint
    );
    let file = write(bed, &format!("openvpn-{}.conf", side.letter()), &config)?;
    let log = bed.folder().join(format!("openvpn-{}.log", side.letter()));
    let words = [Path::new("--config"), &file];
    Process::spawn(&bed.edge(side).namespace, &log, Path::new("/usr/sbin/openvpn"), words)
}

/// A self-signed certificate and its key, in files.
struct Identity {
    certificate: PathBuf,
    key: PathBuf,
    fingerprint: String,
}

impl Identity {
    fn create(bed: &Bed, side: Side) -> Result<Self> {
        let at = |ending: &str| bed.folder().join(format!("openvpn-{}.{ending}", side.letter()));
        let (certificate, key) = (at("crt"), at("key"));
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let subject = format!("/CN={}", side.node());
        let mut request = Command::new("openssl");
        request.args(["req", "-x509", "-days", "2", "-subj", &subject]).args(curve);
        process::run(request.arg("-keyout").arg(&key).arg("-out").arg(&certificate))?;
        let mut print = Command::new("openssl");
        print.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(&certificate);
        let printed = process::run(&mut print)?;
        let fingerprint = printed.trim().rsplit('=').next().unwrap_or_default().to_owned();
        Ok(Self { certificate, key, fingerprint })
    }
}
