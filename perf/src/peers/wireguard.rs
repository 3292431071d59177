//! WireGuard in user space: gotatun, and wireguard-go of Debian. Both are configured over their control
//! socket in the cross-platform protocol of <https://www.wireguard.com/xplatform/>, which `wg` speaks too.

use super::{Running, START, target};
use crate::bed::{Bed, Family, Side};
use crate::process::Process;
use crate::{Error, Result};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

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

/// A program that speaks it.
pub(super) struct Program {
    /// Its path, or its name if it is in `PATH`.
    pub(super) path: PathBuf,
    /// What it is told before the name of the device.
    pub(super) words: &'static [&'static str],
}

pub(super) fn start(bed: &Bed, program: &Program) -> Result<Running> {
    let processes = [Side::B, Side::A].map(|side| Ok((side, start_edge(bed, program, side)?)));
    let processes = processes.into_iter().collect::<Result<_>>()?;
    Ok(Running { target: target(), processes })
}

fn start_edge(bed: &Bed, program: &Program, side: Side) -> Result<Process> {
    // The control sockets of all namespaces are in one folder, so the name is unique on the host.
    let device = format!("gt{}{}", side.letter(), std::process::id());
    let namespace = &bed.edge(side).namespace;
    let mut command = namespace.command(&program.path);
    command.args(program.words).arg(&device);
    let log = bed.folder().join(format!("wireguard-{}.log", side.letter()));
    let mut process = Process::spawn_command(command, &program.path, &log)?;
    let mut socket = process.wait_alive("a control socket of WireGuard", START, |_| {
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
    let answer = talk(socket).map_err(Error::io("configure WireGuard"))?;
    if answer.contains("errno=0") {
        return Ok(());
    }
    Err(Error::Output { what: "WireGuard".to_owned(), expected: "errno=0".to_owned(), got: answer })
}
