//! Tells quiche to keep datagrams in pooled packet buffers, so that sending one allocates nothing.

use std::sync::Arc;

use stoq_buffer::PacketBuf;

/// The buffers of every connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Buffers;

impl quiche::BufFactory for Buffers {
    type Buf = Arc<[u8]>;
    type DgramBuf = PacketBuf;

    fn buf_from_slice(buf: &[u8]) -> Self::Buf {
        Arc::from(buf)
    }

    fn dgram_buf_from_slice(buf: &[u8]) -> Self::DgramBuf {
        PacketBuf::from_slice(buf)
    }
}
