//! What a port really uses of the kernel's help, for `stoqctl status`.

use std::fmt;

/// What a port really uses, after all that the kernel refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Trains are sent whole (UDP_SEGMENT).
    pub gso: bool,
    /// Trains are received whole (UDP_GRO).
    pub gro: bool,
    /// `uring` only: one receive entry for each packet, since the kernel has no multishot.
    pub single_shot: bool,
}

impl fmt::Display for Mode {
    /// The parts joined by `+`, as in `gso+gro`; `plain` if there is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [(self.gso, "gso"), (self.gro, "gro"), (self.single_shot, "single-shot")];
        let mut used = parts.iter().filter(|(used, _)| *used).map(|(_, name)| name);
        f.write_str(used.next().unwrap_or(&"plain"))?;
        used.try_for_each(|name| write!(f, "+{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_reads_as_in_the_status() {
        let text = |gso, gro, single_shot| Mode { gso, gro, single_shot }.to_string();
        assert_eq!(text(true, true, false), "gso+gro");
        assert_eq!(text(false, true, true), "gro+single-shot");
        assert_eq!(text(false, false, false), "plain");
    }
}
