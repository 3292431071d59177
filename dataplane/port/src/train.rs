//! The transmit buffer: datagrams laid one behind the other, grouped into GSO trains.
//!
//! A train is a run of datagrams to one destination, all of one size but the last, which may be
//! shorter: what one send call with `UDP_SEGMENT` carries. The worker writes datagrams into the
//! buffer's slots; the buffer is then moved, never copied, to whoever sends it, who takes the
//! [`Piece`]s in order and gives the buffer back. Pure: it knows no sockets.

use crate::TxMeta;

/// Size of a transmit buffer: one train of full-size datagrams as large as the kernel takes.
pub(crate) const BUFFER_LEN: usize = 65_536;

/// Least room that a slot lends: a datagram at an MTU of 1500.
pub(crate) const SLOT_LEN: usize = 1_500;

/// Most bytes of a train: an IP packet holds 65,535, with room for the headers that the kernel
/// adds (IPv6 with extension headers, UDP).
pub(crate) const TRAIN_BYTES: usize = 65_000;

/// Most datagrams of a train: the kernel's UDP_MAX_SEGMENTS before 6.9.
pub(crate) const TRAIN_SEGMENTS: usize = 64;

/// Most trains in a buffer: twice what full-size datagrams without GSO need, so that a buffer of
/// acknowledgements is handed over before it holds a whole burst back.
pub(crate) const TRAINS_MAX: usize = 128;

/// A run of datagrams that one call sends.
#[derive(Clone, Copy, Debug)]
struct Train {
    meta: TxMeta,
    start: usize,
    len: usize,
    /// Size of every datagram but the last.
    segment: usize,
    count: usize,
    /// A shorter datagram has ended it.
    closed: bool,
    /// The kernel refused it whole: send its datagrams one at a time.
    split: bool,
}

/// What one message of a send call carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    /// Where it goes.
    pub(crate) meta: &'a TxMeta,
    /// The datagrams, one behind the other.
    pub(crate) payload: &'a [u8],
    /// The size of each but the last, if there is more than one.
    pub(crate) segment: Option<u16>,
}

/// A place in a buffer, between pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    train: usize,
    /// Bytes of that train that are done; only a split train stops inside.
    offset: usize,
}

impl Cursor {
    /// Whether it is at the first datagram of a train.
    pub(crate) fn is_start(self) -> bool {
        self.offset == 0
    }
}

/// One transmit buffer and what was committed to it.
pub(crate) struct TxBuffer {
    bytes: Box<[u8]>,
    used: usize,
    trains: Vec<Train>,
    datagrams: usize,
    /// Where its sender is.
    pub(crate) cursor: Cursor,
    /// What its sender has to tell when it gives the buffer back.
    pub(crate) report: Report,
}

/// What a sender tells about a buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Datagrams that the kernel refused.
    pub(crate) refused: u64,
    /// The kernel took datagrams one at a time that it had refused as a train.
    pub(crate) gso_refused: bool,
}

impl TxBuffer {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; BUFFER_LEN].into_boxed_slice(),
            used: 0,
            trains: Vec::with_capacity(TRAINS_MAX),
            datagrams: 0,
            cursor: Cursor::default(),
            report: Report::default(),
        }
    }

    /// Makes it empty again.
    pub(crate) fn clear(&mut self) {
        self.used = 0;
        self.trains.clear();
        self.datagrams = 0;
        self.cursor = Cursor::default();
        self.report = Report::default();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.trains.is_empty()
    }

    /// Datagrams committed.
    pub(crate) fn datagrams(&self) -> usize {
        self.datagrams
    }

    /// Whether a slot is left.
    pub(crate) fn has_room(&self) -> bool {
        self.used + SLOT_LEN <= BUFFER_LEN && self.trains.len() < TRAINS_MAX
    }

    /// Room for the next datagram, at least [`SLOT_LEN`] bytes, or `None` when the buffer is full.
    pub(crate) fn slot(&mut self) -> Option<&mut [u8]> {
        if self.has_room() { Some(&mut self.bytes[self.used..]) } else { None }
    }

    /// The datagram in the last slot has `len` bytes; joins it to the last train if it fits there
    /// and the train has fewer than `segments_max` datagrams. An empty one, or one longer than the
    /// slot was, is left out.
    pub(crate) fn commit(&mut self, len: usize, meta: &TxMeta, segments_max: usize) {
        if len == 0 || len > BUFFER_LEN - self.used || self.trains.len() >= TRAINS_MAX {
            debug_assert!(len == 0, "committed {len} bytes, more than the slot that was lent");
            return;
        }
        let start = self.used;
        self.used += len;
        self.datagrams += 1;
        let limit = segments_max.min(TRAIN_SEGMENTS);
        if let Some(train) = self.trains.last_mut().filter(|t| t.takes(len, meta, limit)) {
            train.len += len;
            train.count += 1;
            train.closed = len < train.segment;
            return;
        }
        let (segment, meta) = (len, *meta);
        self.trains.push(Train {
            meta,
            start,
            len,
            segment,
            count: 1,
            closed: false,
            split: false,
        });
    }

    /// The piece at `cursor` and the place behind it, or `None` at the end.
    pub(crate) fn piece(&self, cursor: Cursor) -> Option<(Piece<'_>, Cursor)> {
        let train = self.trains.get(cursor.train)?;
        let next_train = Cursor { train: cursor.train + 1, offset: 0 };
        let (len, next) = if train.split {
            let end = cursor.offset + train.segment;
            let inside = Cursor { offset: end, ..cursor };
            let rest = train.len - cursor.offset;
            (train.segment.min(rest), if end < train.len { inside } else { next_train })
        } else {
            (train.len, next_train)
        };
        let start = train.start + cursor.offset;
        let joined = !train.split && train.count > 1;
        let piece = Piece {
            meta: &train.meta,
            payload: &self.bytes[start..start + len],
            segment: u16::try_from(train.segment).ok().filter(|_| joined),
        };
        Some((piece, next))
    }

    /// Datagrams in the piece at `cursor`.
    pub(crate) fn piece_datagrams(&self, cursor: Cursor) -> u64 {
        self.trains.get(cursor.train).map_or(0, |t| if t.split { 1 } else { t.count as u64 })
    }

    /// Whether the train at `cursor` is being sent one datagram at a time.
    pub(crate) fn is_split(&self, cursor: Cursor) -> bool {
        self.trains.get(cursor.train).is_some_and(|train| train.split)
    }

    /// Lets the train at `cursor` be sent one datagram at a time; `false` if it is one already.
    pub(crate) fn split(&mut self, cursor: Cursor) -> bool {
        let Some(train) = self.trains.get_mut(cursor.train) else { return false };
        let was_joined = !train.split && train.count > 1;
        train.split = true;
        was_joined
    }
}

impl Train {
    fn takes(&self, len: usize, meta: &TxMeta, segments_max: usize) -> bool {
        !self.closed
            && len <= self.segment
            && self.count < segments_max
            && self.len + len <= TRAIN_BYTES
            && self.meta == *meta
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Socket;
    use proptest::prelude::*;

    fn meta(port: u16) -> TxMeta {
        TxMeta { to: ([192, 0, 2, 1], port).into(), from: None, socket: Socket::Dial }
    }

    /// Commits datagrams of these lengths, each filled with its number.
    fn buffer(lens: &[(usize, u16)], segments_max: usize) -> TxBuffer {
        let mut buffer = TxBuffer::new();
        for (number, (len, port)) in lens.iter().enumerate() {
            let Some(slot) = buffer.slot() else { break };
            slot[..*len].fill(number as u8);
            buffer.commit(*len, &meta(*port), segments_max);
        }
        buffer
    }

    fn pieces(buffer: &TxBuffer) -> Vec<Piece<'_>> {
        let mut cursor = Cursor::default();
        let mut all = Vec::new();
        while let Some((piece, next)) = buffer.piece(cursor) {
            all.push(piece);
            cursor = next;
        }
        all
    }

    fn shape(buffer: &TxBuffer) -> Vec<(usize, Option<u16>)> {
        pieces(buffer).iter().map(|p| (p.payload.len(), p.segment)).collect()
    }

    #[test]
    fn equal_datagrams_make_one_train() {
        assert_eq!(shape(&buffer(&[(1350, 1); 40], 64)), [(54_000, Some(1350))]);
    }

    #[test]
    fn a_shorter_datagram_ends_the_train() {
        let buffer = buffer(&[(1350, 1), (1350, 1), (40, 1), (40, 1)], 64);
        assert_eq!(shape(&buffer), [(2740, Some(1350)), (40, None)]);
    }

    #[test]
    fn a_longer_datagram_starts_a_train_in_the_same_buffer() {
        let buffer = buffer(&[(40, 1), (1350, 1), (1350, 1)], 64);
        assert_eq!(shape(&buffer), [(40, None), (2700, Some(1350))]);
    }

    #[test]
    fn another_destination_starts_a_train() {
        let buffer = buffer(&[(100, 1), (100, 2), (100, 2), (100, 1)], 64);
        assert_eq!(shape(&buffer), [(100, None), (200, Some(100)), (100, None)]);
    }

    #[test]
    fn a_train_has_no_more_segments_than_the_kernel_takes() {
        let buffer = buffer(&[(100, 1); 65], 1000);
        assert_eq!(shape(&buffer), [(6400, Some(100)), (100, None)]);
    }

    #[test]
    fn a_train_has_no_more_bytes_than_a_packet_holds() {
        let buffer = buffer(&[(1500, 1); 43], 64);
        assert_eq!(shape(&buffer), [(64_500, Some(1500))]);
    }

    #[test]
    fn without_segmentation_each_datagram_is_alone() {
        assert_eq!(shape(&buffer(&[(100, 1); 3], 1)), [(100, None); 3]);
    }

    #[test]
    fn a_full_buffer_lends_no_slot_until_it_is_cleared() {
        let mut full = buffer(&[(40, 1); 200], 1);
        assert_eq!(full.datagrams(), TRAINS_MAX);
        assert!(full.slot().is_none());
        full.clear();
        assert!(full.is_empty() && full.slot().is_some_and(|slot| slot.len() == BUFFER_LEN));
    }

    #[test]
    fn an_empty_datagram_is_left_out() {
        assert!(buffer(&[(0, 1)], 64).is_empty());
    }

    #[test]
    fn a_split_train_comes_one_datagram_at_a_time() {
        let mut buffer = buffer(&[(100, 1), (100, 1), (30, 1), (500, 2)], 64);
        assert!(buffer.split(Cursor::default()));
        assert!(!buffer.split(Cursor::default()));
        assert_eq!(shape(&buffer), [(100, None), (100, None), (30, None), (500, None)]);
    }

    proptest! {
        #[test]
        fn what_was_committed_comes_out_in_order(
            lens in proptest::collection::vec((1usize..1500, 1u16..3), 0..300),
            segments_max in 1usize..80,
            split in proptest::collection::vec(any::<bool>(), TRAINS_MAX),
        ) {
            let mut buffer = buffer(&lens, segments_max);
            for (train, _) in split.iter().enumerate().filter(|(_, split)| **split) {
                buffer.split(Cursor { train, offset: 0 });
            }
            let mut number = 0;
            for piece in pieces(&buffer) {
                let segment = piece.segment.map_or(piece.payload.len(), usize::from);
                prop_assert!(piece.payload.len() <= TRAIN_BYTES);
                prop_assert!(piece.payload.len().div_ceil(segment) <= segments_max.min(64));
                for datagram in piece.payload.chunks(segment) {
                    prop_assert_eq!((datagram.len(), piece.meta.to.port()), lens[number]);
                    prop_assert!(datagram.iter().all(|byte| *byte == number as u8));
                    number += 1;
                }
            }
            prop_assert_eq!(number, buffer.datagrams());
        }
    }
}
