//! Ends of streams that are yet to be said.
//!
//! quiche forgets a stream once all its bytes are acknowledged in both directions, even if the end (a
//! FIN without bytes) has only been queued: an acknowledgement between the two would have the peer wait
//! for the end for ever. So an end is given to quiche right before the packet that carries it. A
//! connection owns this, and asks it before each packet.
//!
//! What this cannot mend (quiche 0.30, issue 2525 of its repository): an end that leaves alone within a
//! round trip of the last byte, while the peer has ended already, and whose packet is lost. Its stream is
//! forgotten with the acknowledgement of the bytes, and the end is not repeated.

use crate::buffers::Buffers;

/// Urgency of a stream that ends: before all others, whose packets would come between.
const URGENT: u8 = 0;

/// Streams whose end waits: at most those that the connection has.
#[derive(Default)]
pub(crate) struct Ends(Vec<u64>);

impl Ends {
    /// The stream with this number has nothing more to send.
    pub fn push(&mut self, stream: u64) {
        self.0.push(stream);
    }

    /// The stream with this number is broken off: there is no end to say.
    pub fn forget(&mut self, stream: u64) {
        self.0.retain(|other| *other != stream);
    }

    /// Gives quiche one end, if it can leave at once. Returns whether it did; what else is sent must not
    /// take its place in the packet.
    pub fn say(&mut self, quic: &mut quiche::Connection<Buffers>) -> bool {
        let leaves = |stream: &u64| quic.stream_capacity(*stream) != Ok(0);
        let Some(at) = self.0.iter().position(leaves) else { return false };
        let stream = self.0.swap_remove(at);
        // Either is refused only for a stream that the peer has broken off.
        let _urgent = quic.stream_priority(stream, URGENT, true);
        quic.stream_send(stream, &[], true).is_ok()
    }
}
