//! Notices that a path has become smaller: full-size packets vanish while small ones pass
//! (RFC 8899 §4.3). quiche finds the path MTU once and does not look again by itself.

/// Lost packets, with nothing much acknowledged in between, that make a black hole: TCP inside has
/// retransmitted twice by then, and chance loss of 5 % brings four in a row once in 160,000.
const LOST_MIN: u64 = 4;

/// What a connection has had acknowledged and lost since it last made progress.
#[derive(Debug, Default)]
pub(crate) struct BlackHole {
    acked_bytes: u64,
    lost_bytes: u64,
    lost_packets: u64,
}

impl BlackHole {
    /// Looks at the totals of a connection. Says whether the path seems to carry packets of
    /// `base` bytes and no larger ones; it then starts to count anew.
    pub fn check(
        &mut self,
        acked_bytes: u64,
        lost_bytes: u64,
        lost_packets: u64,
        base: u64,
    ) -> bool {
        let acked = acked_bytes.saturating_sub(self.acked_bytes);
        let lost = lost_bytes.saturating_sub(self.lost_bytes);
        let packets = lost_packets.saturating_sub(self.lost_packets);
        let large = lost > packets * base;
        let hole = packets >= LOST_MIN && large && acked < lost;
        if hole || acked >= lost {
            *self = Self { acked_bytes, lost_bytes, lost_packets };
        }
        hole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 1200;

    #[test]
    fn large_losses_with_small_answers_are_a_black_hole() {
        let mut hole = BlackHole::default();
        assert!(!hole.check(1_000_000, 0, 0, BASE));
        // Each look: one lost packet of 1440 bytes, and a few small ones that pass.
        for lost in 1..LOST_MIN {
            assert!(!hole.check(1_000_000 + lost * 200, lost * 1440, lost, BASE));
        }
        assert!(hole.check(1_001_000, LOST_MIN * 1440, LOST_MIN, BASE));
        assert!(!hole.check(1_001_200, (LOST_MIN + 1) * 1440, LOST_MIN + 1, BASE));
    }

    #[test]
    fn chance_loss_is_none() {
        let mut hole = BlackHole::default();
        for round in 1..1000 {
            assert!(!hole.check(round * 95 * 1440, round * 5 * 1440, round * 5, BASE));
        }
    }

    #[test]
    fn lost_small_packets_are_none() {
        let mut hole = BlackHole::default();
        assert!(!hole.check(0, 100 * 90, 100, BASE));
    }
}
