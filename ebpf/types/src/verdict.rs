//! What became of a packet: the one source of the counters, of their labels and their help texts.

macro_rules! verdicts {
    ($($variant:ident $label:literal $help:literal)*) => {
        /// What the program did with a packet. Each is counted by CPU, at its own index.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Verdict { $(#[doc = $help] $variant,)* }

        impl Verdict {
            /// Every verdict, in the order of the documentation and of the counters.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The label in metrics and in `stoqctl status`.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// What it means, in one sentence for the operator.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }
        }
    };
}

verdicts! {
    Redirected "redirected" "A packet of STOQ went to the AF_XDP socket of its queue."
    NoSocket "no_socket" "A packet of STOQ went to the kernel's socket, because its queue has no AF_XDP socket."
    KernelJudges "kernel_judges" "A packet of STOQ with impossible IP or UDP headers went to the kernel, because the rule is off."
    Denied "denied" "The source address is on the deny list."
    BadHeader "bad_header" "The IPv4 checksum was wrong, or the IP and UDP lengths did not fit the packet."
    NotQuic "not_quic" "The UDP payload cannot be QUIC: too short, cut off, or without the fixed bit."
    SmallInitial "small_initial" "A client's first packet came in a datagram of less than 1200 bytes."
    InitialSource "initial_source" "A source prefix sent more Initial packets than one may."
    InitialTotal "initial_total" "All sources together sent more Initial packets to a CPU than it takes."
    UnknownVersion "unknown_version" "Packets of unknown QUIC versions came beyond their rate."
    Forged "forged" "A connection ID was not issued by this host."
    ResetRate "reset_rate" "What may be a peer's stateless reset came beyond its rate."
    OldGeneration "old_generation" "Packets for an earlier run of the daemon came beyond their rate."
}

/// How many verdicts there are.
pub const VERDICTS: usize = Verdict::ALL.len();

impl Verdict {
    /// Whether the packet was dropped; all others were delivered.
    #[must_use]
    pub const fn is_drop(self) -> bool {
        !matches!(self, Self::Redirected | Self::NoSocket | Self::KernelJudges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_differ_and_are_valid_and_indices_are_in_order() {
        for (index, verdict) in Verdict::ALL.iter().enumerate() {
            assert_eq!(*verdict as usize, index);
            assert!(verdict.label().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
            let same = Verdict::ALL.iter().filter(|other| other.label() == verdict.label());
            assert_eq!(same.count(), 1, "{verdict:?}");
        }
    }
}
