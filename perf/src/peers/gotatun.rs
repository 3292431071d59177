//! gotatun: WireGuard in user space, configured over its control socket in the cross-platform
//! protocol of <https://www.wireguard.com/xplatform/>, which `wg` speaks too.

use super::{Crate, Running, START, binary, target};
use crate::bed::{Bed, Family, Side};
use crate::process::Process;
use crate::{Error, Result};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

pub(super) const CRATES: [Crate; 1] =
    [Crate { name: "gotatun-cli", version: "0.10.2", program: "gotatun" }];

/// Keys for a bed that exists for minutes: an X25519 private key of one repeated byte, and the public
/// key that belongs to it. They protect nothing.
const KEYS: [(&str, &str); 2] = [
    (
        "1111111111111111111111111111111111111111111111111111111111111111",
        "7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13",
    ),
    (
        "2222222222222222222222222222222222222222222222222222222222222222",
        "0faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf2678570f20",
    ),
];

/// The usual UDP port of WireGuard.
pub const PORT: u16 = 51820;

/// WireGuard's usual MTU: 1500 less 40 (IPv6), 8 (UDP) and 32 (its own header and tag).
const MTU: u16 = 1420;

pub(super) fn start(bed: &Bed) -> Result<Running> {
    let processes = [Side::B, Side::A].map(|side| Ok((side, start_edge(bed, side)?)));
    let processes = processes.into_iter().collect::<Result<_>>()?;
    Ok(Running { target: target(), processes })
}

fn start_edge(bed: &Bed, side: Side) -> Result<Process> {
    // The control sockets of all namespaces are in one folder, so the name is unique on the host.
    let device = format!("gt{}{}", side.letter(), std::process::id());
    let namespace = &bed.edge(side).namespace;
    let mut command = namespace.command(binary("gotatun"));
    command.args(["--foreground", "--disable-drop-privileges", &device]);
    let log = bed.folder().join(format!("gotatun-{}.log", side.letter()));
    let mut process = Process::spawn_command(command, &binary("gotatun"), &log)?;
    let mut socket = process.wait_alive("gotatun's control socket", START, |_| {
        UnixStream::connect(socket_path(&device)).map_err(|error| error.to_string())
    })?;
    configure(&mut socket, side)?;
    namespace.ip(&format!("addr add {}/24 dev {device}", side.tunnel(Family::V4)))?;
    namespace.ip(&format!("link set {device} mtu {MTU} up"))?;
    Ok(process)
}

fn socket_path(device: &str) -> PathBuf {
    format!("/var/run/wireguard/{device}.sock").into()
}

fn configure(socket: &mut UnixStream, side: Side) -> Result<()> {
    let [a, b] = KEYS;
    let (own, peer) = if side == Side::A { (a, b) } else { (b, a) };
    let other = side.other();
    let request = format!(
        "set=1\nprivate_key={}\nlisten_port={PORT}\npublic_key={}\nendpoint=[{}]:{PORT}\nallowed_ip={}/32\n\n",
        own.0,
        peer.1,
        other.wan(Family::V6),
        other.tunnel(Family::V4)
    );
    let talk = |socket: &mut UnixStream| {
        socket.set_read_timeout(Some(START))?;
        socket.write_all(request.as_bytes())?;
        socket.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = talk(socket).map_err(Error::io("configure gotatun"))?;
    if answer.contains("errno=0") {
        return Ok(());
    }
    Err(Error::Output { what: "gotatun".to_owned(), expected: "errno=0".to_owned(), got: answer })
}
