//! What a received message becomes: its datagrams, one by one, with where they came from.
//!
//! The kernel joins packets of one 4-tuple, whatever connections they belong to, so a train may mix
//! connections; here it is split again, for both ports.

use stoq_telemetry::{DropReason, Drops};

use crate::RxMeta;
use crate::msg::{decode_control, decode_name};
use crate::sockets::Bound;
use crate::sys::RecvMessage;

use std::net::SocketAddr;

/// Calls `handler` for each datagram of `message` and returns how many there were. A truncated
/// message, or one without a sender, is counted and left out.
pub(crate) fn deliver(
    message: RecvMessage<'_>,
    bound: &Bound,
    drops: &Drops,
    handler: &mut dyn FnMut(&mut [u8], &RxMeta),
) -> usize {
    let from = decode_name(message.name);
    let truncated = message.flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0;
    let Some(from) = from.filter(|_| !truncated) else {
        drops.count(DropReason::PortReceive);
        return 0;
    };
    let control = decode_control(message.control);
    let to = control.to.unwrap_or(bound.local.ip());
    let to = SocketAddr::new(to, bound.local.port());
    let meta = RxMeta { from, to, socket: bound.id, ecn: control.ecn };
    each(message.payload, control.segment, &meta, handler)
}

fn each(
    payload: &mut [u8],
    segment: Option<usize>,
    meta: &RxMeta,
    handler: &mut dyn FnMut(&mut [u8], &RxMeta),
) -> usize {
    let segment = segment.filter(|size| (1..payload.len()).contains(size));
    let Some(segment) = segment else {
        handler(payload, meta);
        return 1;
    };
    let datagrams = payload.chunks_mut(segment);
    let count = datagrams.len();
    datagrams.for_each(|datagram| handler(datagram, meta));
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Socket;

    fn split(len: usize, segment: Option<usize>) -> Vec<usize> {
        let any = ([127, 0, 0, 1], 1).into();
        let meta = RxMeta { from: any, to: any, socket: Socket::Dial, ecn: 0 };
        let mut lens = Vec::new();
        let count = each(&mut vec![0; len], segment, &meta, &mut |d, _| lens.push(d.len()));
        assert_eq!(count, lens.len());
        lens
    }

    #[test]
    fn a_train_is_split_and_its_last_datagram_may_be_short() {
        assert_eq!(split(250, Some(100)), [100, 100, 50]);
        assert_eq!(split(200, Some(100)), [100, 100]);
    }

    #[test]
    fn a_lone_datagram_stays_whole_whatever_size_is_claimed() {
        for segment in [None, Some(0), Some(100), Some(1000)] {
            assert_eq!(split(100, segment), [100], "{segment:?}");
        }
        assert_eq!(split(0, None), [0]);
    }
}
