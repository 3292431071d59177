//! Why packets are dropped, and the counters of it: the one source of the metrics' names, of
//! their help texts, and of the table in the operations guide.
//!
//! Every worker has its own [`Drops`] and is the only one to write it, so counting is a plain
//! load and store, without a locked instruction; readers see a value that is at most a little old.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! drop_reasons {
    ($($variant:ident $label:literal $help:literal)*) => {
        /// Why a packet was dropped. The label is the value of `reason` in `stoq_drops_total`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum DropReason { $(#[doc = $help] $variant,)* }

        impl DropReason {
            /// Every reason, in the order of the documentation.
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

drop_reasons! {
    NoRoute "no_route" "No peer's allowed_ips cover the destination of a packet from the site."
    LinkDown "link_down" "The peer that owns the destination has no connection now."
    SourceNotAllowed "source_not_allowed" "A peer sent from an address outside its allowed_ips."
    MalformedInner "malformed_inner" "A packet in the tunnel was truncated or no valid IPv4 or IPv6 packet."
    TooBig "too_big" "A packet was larger than the path to the peer carries; ICMP too big was sent."
    QueueFull "queue_full" "The queue towards a link was full."
    CodelDrop "codel" "CoDel dropped a packet that had waited too long in the queue of a link."
    FragmentInvalid "fragment_invalid" "A tunnel fragment did not fit the packet it claimed to belong to."
    FragmentTimeout "fragment_timeout" "A fragmented packet was not complete in time, or had to make room for newer ones."
    SliceInvalid "slice_invalid" "A slice of a super-packet did not fit the super-packet it claimed to belong to."
    SliceIncomplete "slice_incomplete" "A super-packet lacked a slice: the packets that the slice had a part in are lost."
    ContextUnknown "context_unknown" "A datagram carried a context that this version does not know."
    RecoveryInvalid "recovery_invalid" "A datagram of recovery was cut off, or asked for more than one may."
    RecoveryLate "recovery_late" "A numbered packet came twice, or after it had been given up."
    DeviceWrite "device_write" "The kernel refused a packet written to the tunnel device."
    DeviceRead "device_read" "A packet read from the tunnel device was malformed."
    OuterMalformed "outer_malformed" "A UDP packet was no QUIC packet."
    OuterOversized "outer_oversized" "A UDP packet was larger than any that this host asks for."
    NotOpened "not_opened" "A packet of a connection could not be opened: altered, repeated, or too late."
    CidUnknown "cid_unknown" "A packet named a connection that does not exist (any more)."
    CidForged "cid_forged" "A connection ID failed its keyed check."
    CidOldGeneration "cid_old_generation" "A packet was for an earlier run of this daemon; a stateless reset answered it if allowed."
    VersionUnknown "version_unknown" "A packet asked for a QUIC version that is not spoken here."
    HandshakeBudget "handshake_budget" "A handshake packet arrived beyond the budget of handshake work, or of Retry."
    ConnectionLimit "connection_limit" "A handshake arrived while the table of connections was full."
    RetryInvalid "retry_invalid" "An Initial packet carried a retry token that is forged, expired or from another address."
    HandshakeFailed "handshake_failed" "A handshake failed: TLS alert, unknown ALPN or no common algorithm."
    CertificateRefused "certificate_refused" "A peer's certificate was foreign, expired, not yet valid or not for this mesh."
    ProofRefused "proof_refused" "A peer did not prove that it holds both keys of its certificate on this connection."
    PolicyMismatch "policy_mismatch" "A peer's `policy` of identity differs: one end wants proofs, the other none."
    Revoked "revoked" "A peer's keys or name are in the revocation set: its link was cut, or its handshake refused."
    LogProofRefused "log_proof_refused" "A peer's certificate is not proven to be in its issuer's log, and the grace period is over."
    RevocationsRefused "revocations_refused" "A revocation set was forged, of another mesh, or older than the one in force."
    LogForked "log_forked" "Two different heads of one certificate log, equally large, were shown: its issuer is not to be trusted."
    MeshQueueFull "mesh_queue_full" "What a peer said of the mesh came faster than it is taken in; the next connection brings it again."
    PushRefused "push_refused" "The control plane pushed something that its bounds or its signatures do not allow."
    PeerUnknown "peer_unknown" "An authenticated node is not among the configured peers."
    ControlInvalid "control_invalid" "A peer broke the rules of the control stream."
    TierExcess "tier_excess" "A peer told its tier more often than it may; it was not listened to."
    StreamUnknown "stream_unknown" "A peer opened a stream to a service that is not configured here."
    StreamNotAllowed "stream_not_allowed" "A peer opened a stream to a service that it may not use."
    StreamLimit "stream_limit" "A peer opened a stream beyond the most that a worker has, or has with one peer."
    StreamLocal "stream_local" "A stream was broken off because the socket of its service cannot be reached, or failed."
    StreamInvalid "stream_invalid" "A stream did not begin as the protocol says."
    HandoverFull "handover_full" "The ring towards the worker that owns the connection was full."
    RingFull "ring_full" "The xdp port's rings were full when a UDP packet arrived: the worker did not keep up."
    PortSend "port_send" "The kernel refused to send a UDP packet."
    PortReceive "port_receive" "A received UDP packet was truncated or its control data invalid."
}

/// The counters of one worker, one for each [`DropReason`].
#[derive(Debug)]
pub struct Drops([AtomicU64; DropReason::ALL.len()]);

impl Default for Drops {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Drops {
    /// Counts one dropped packet. Only the owning worker may call it.
    pub fn count(&self, reason: DropReason) {
        self.count_many(reason, 1);
    }

    /// Counts `packets` dropped packets. Only the owning worker may call it.
    pub fn count_many(&self, reason: DropReason, packets: u64) {
        let counter = &self.0[reason as usize];
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(packets), Ordering::Relaxed);
    }

    /// Packets dropped for this reason since the start.
    #[must_use]
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_reason_counts_for_itself() {
        let drops = Drops::default();
        drops.count(DropReason::NoRoute);
        drops.count_many(DropReason::PortSend, 3);
        assert_eq!(drops.get(DropReason::NoRoute), 1);
        assert_eq!(drops.get(DropReason::PortSend), 3);
        assert_eq!(drops.get(DropReason::TooBig), 0);
    }

    #[test]
    fn labels_are_unique_and_valid_label_values() {
        let labels: HashSet<_> = DropReason::ALL.iter().map(|r| r.label()).collect();
        assert_eq!(labels.len(), DropReason::ALL.len());
        assert!(labels.iter().all(|l| l.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }
}
