//! nebula: a mesh VPN over Noise. One edge is the lighthouse that the other one knows by a static
//! address; AES-GCM, its default.

use super::{Running, START, target, write};
use crate::Result;
use crate::bed::{Bed, Family, Side};
use crate::process::{self, Process};
use std::path::Path;
use std::process::Command;

/// Its usual UDP port.
const PORT: u16 = 4242;

/// 1500 less 40 (IPv6), 8 (UDP) and 32 (its own header and tag). Its default of 1300 is for paths that
/// are not known.
const MTU: u16 = 1420;

pub(super) fn start(bed: &Bed) -> Result<Running> {
    let folder = bed.folder();
    make_keys(folder)?;
    let processes = [Side::B, Side::A].map(|side| Ok((side, start_edge(bed, side)?)));
    let processes = processes.into_iter().collect::<Result<_>>()?;
    Ok(Running { target: target(), processes })
}

/// A root, and a certificate for each edge; those of an earlier start are replaced.
fn make_keys(folder: &Path) -> Result<()> {
    let certificates = folder.join("nebula");
    if certificates.is_dir() {
        return Ok(());
    }
    std::fs::create_dir(&certificates).map_err(crate::Error::io("make a folder for nebula"))?;
    let cert = |words: &[&str]| {
        process::run(Command::new("nebula-cert").current_dir(&certificates).args(words)).map(drop)
    };
    cert(&["ca", "-name", "bed"])?;
    for side in [Side::A, Side::B] {
        let address = format!("{}/24", side.tunnel(Family::V4));
        cert(&["sign", "-name", side.node(), "-ip", &address])?;
    }
    Ok(())
}

fn start_edge(bed: &Bed, side: Side) -> Result<Process> {
    let (node, folder) = (side.node(), bed.folder().join("nebula"));
    let at = |file: &str| folder.join(file).display().to_string();
    let lighthouse = Side::B.tunnel(Family::V4);
    let (hosts, known) = match side {
        Side::A => (
            format!("[\"{lighthouse}\"]"),
            format!("{{ \"{lighthouse}\": [\"[{}]:{PORT}\"] }}", Side::B.wan(Family::V6)),
        ),
        Side::B => ("[]".to_owned(), "{}".to_owned()),
    };
    let config = format!(
        "pki: {{ ca: {}, cert: {}, key: {} }}\n\
         static_host_map: {known}\n\
         lighthouse: {{ am_lighthouse: {}, hosts: {hosts} }}\n\
         listen: {{ host: \"::\", port: {PORT} }}\n\
         tun: {{ dev: nebula0, mtu: {MTU} }}\n\
         firewall:\n  outbound: [{{ port: any, proto: any, host: any }}]\n  \
         inbound: [{{ port: any, proto: any, host: any }}]\n",
        at("ca.crt"),
        at(&format!("{node}.crt")),
        at(&format!("{node}.key")),
        side == Side::B
    );
    let file = write(bed, &format!("nebula-{node}.yml"), &config)?;
    let log = bed.folder().join(format!("nebula-{node}.log"));
    let words = [Path::new("-config"), &file];
    let program = Path::new("nebula");
    let mut process = Process::spawn(&bed.edge(side).namespace, &log, program, words)?;
    process.wait_for_log("Nebula interface is active", START)?;
    Ok(process)
}
