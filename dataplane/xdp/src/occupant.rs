//! Which program is attached to an interface, by one rtnetlink request.
//!
//! Called when the kernel refuses to attach ours, to say whose is in the way.

use std::io;
use std::os::fd::AsRawFd;

use aya::programs::loaded_programs;
use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage, LinkXdp};
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType,
};

use crate::error::{Mode, Occupant};

/// Largest answer about one link: with all its statistics some 3 KiB.
const ANSWER_MAX: usize = 32 << 10;

/// Most programs that are looked through for a name: above what any host has loaded.
const PROGRAMS_MAX: usize = 4096;

/// The program on this interface, if there is one.
///
/// # Errors
/// When the kernel does not answer.
pub(crate) fn find(ifindex: u32) -> io::Result<Option<Occupant>> {
    let attributes = link(ifindex)?;
    let found = attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Xdp(xdp) => xdp.iter().find_map(mode_and_id),
        _ => None,
    });
    Ok(found.map(|(mode, id)| Occupant { id, name: name(id), mode }))
}

fn mode_and_id(attribute: &LinkXdp) -> Option<(Mode, u32)> {
    match attribute {
        LinkXdp::DrvProgId(id) => Some((Mode::Native, *id)),
        LinkXdp::SkbProgId(id) => Some((Mode::Generic, *id)),
        LinkXdp::HwProgId(id) => Some((Mode::Hardware, *id)),
        _ => None,
    }
}

fn name(id: u32) -> Option<String> {
    let programs = loaded_programs().take(PROGRAMS_MAX).map_while(Result::ok);
    let program = programs.filter(|program| program.id() == id).last()?;
    program.name_as_str().filter(|name| !name.is_empty()).map(ToOwned::to_owned)
}

fn link(ifindex: u32) -> io::Result<Vec<LinkAttribute>> {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetLink(message));
    request.header.flags = NLM_F_REQUEST;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);

    // The kernel answers within the system call, so there is nothing to wait for.
    let (family, kind) = (AddressFamily::Netlink, SockType::Raw);
    let protocol = SockProtocol::NetlinkRoute;
    let fd = socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol)?;
    socket::connect(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    socket::send(fd.as_raw_fd(), &bytes, MsgFlags::empty())?;
    let mut answer = vec![0; ANSWER_MAX];
    let len = socket::recv(fd.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT)?;
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer[..len])
        .map_err(io::Error::other)?;
    match message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => Ok(link.attributes),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        _ => Err(io::Error::other("an answer that is none")),
    }
}
