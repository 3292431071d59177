//! What a port really uses of the kernel's help, for `stoqctl status`.

use std::fmt;

/// What a port really uses, after all that the kernel refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Trains are sent whole (UDP_SEGMENT).
    pub gso: bool,
    /// Trains are received whole (UDP_GRO).
    pub gro: bool,
    /// `xdp` only: packets go past the kernel's stack, and how. The rest of this is then about the
    /// port beneath.
    pub bypass: Option<BypassMode>,
    /// `uring` only: one receive entry for each packet, since the kernel has no multishot.
    pub single_shot: bool,
}

/// How packets go past the kernel's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BypassMode {
    /// The XDP program runs in the driver; otherwise behind the allocation of an skb.
    pub native: bool,
    /// The NIC reads and writes the frames itself.
    pub zero_copy: bool,
}

impl fmt::Display for BypassMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.native { "native" } else { "generic" })?;
        f.write_str(if self.zero_copy { "+zerocopy" } else { "+copy" })
    }
}

impl fmt::Display for Mode {
    /// The parts joined by `+`, as in `gso+gro` or `native+copy`; `plain` if there is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(bypass) = &self.bypass {
            return bypass.fmt(f);
        }
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
        let text = |gso, gro, single_shot| Mode { gso, gro, single_shot, bypass: None }.to_string();
        assert_eq!(text(true, true, false), "gso+gro");
        assert_eq!(text(false, true, true), "gro+single-shot");
        assert_eq!(text(false, false, false), "plain");
        let text = |native, zero_copy| {
            let bypass = Some(BypassMode { native, zero_copy });
            Mode { gso: true, gro: true, single_shot: false, bypass }.to_string()
        };
        assert_eq!(text(true, true), "native+zerocopy");
        assert_eq!(text(true, false), "native+copy");
        assert_eq!(text(false, false), "generic+copy");
    }
}
