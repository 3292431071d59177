//! What the program counted, summed over the CPUs.

use stoq_xdp_types::{VERDICTS, Verdict};

/// Packets by what became of them, since the program was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters([u64; VERDICTS]);

impl Counters {
    /// Packets that had this verdict.
    #[must_use]
    pub fn get(&self, verdict: Verdict) -> u64 {
        self.0[verdict as usize]
    }

    /// All of them, in the order of [`Verdict::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Verdict, u64)> + '_ {
        Verdict::ALL.iter().map(|verdict| (*verdict, self.get(*verdict)))
    }

    pub(crate) fn add(&mut self, verdict: Verdict, packets: u64) {
        self.0[verdict as usize] = self.0[verdict as usize].wrapping_add(packets);
    }
}
