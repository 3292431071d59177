//! When a sender numbers its payloads: while the path loses packets, and not for a burst of loss or
//! when there is next to none, because the header takes room in every datagram. Called by
//! [`super::Recovery`] with the counts of the connection.

use std::time::{Duration, Instant};

/// Packets of one reading at least: two lost ones are more than 0.5 %.
const READING: u64 = 300;

/// And its least time, so that a queue which overflows once is one reading.
const SPAN: Duration = Duration::from_millis(250);

/// Lost packets in ten thousand from which a reading speaks for recovery: TCP with a round trip of
/// 20 ms gets some 20 Mbit/s there.
const ON_BP: u64 = 50;

/// And below which it speaks against it.
const OFF_BP: u64 = 10;

/// Readings in a row that switch it on, and off: it is dear to be without, and cheap to have.
const READINGS_ON: u32 = 2;
const READINGS_OFF: u32 = 20;

/// Readings of a path's loss.
#[derive(Debug, Default)]
pub(super) struct Policy {
    on: bool,
    /// Packets sent and lost at the last reading.
    then: (u64, u64),
    /// When that was.
    at: Option<Instant>,
    /// Readings in a row that speak for a change.
    agreeing: u32,
}

impl Policy {
    /// Whether payloads are to be numbered.
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Takes the connection's totals of packets sent, and of those lost.
    pub fn look(&mut self, sent: u64, lost: u64, now: Instant) {
        if self.at.is_some_and(|at| now.saturating_duration_since(at) < SPAN) {
            return;
        }
        let (sent_then, lost_then) = self.then;
        let packets = sent.saturating_sub(sent_then);
        if packets < READING {
            return;
        }
        self.then = (sent, lost);
        self.at = Some(now);
        let share_bp = lost.saturating_sub(lost_then) * 10_000 / packets;
        let (agrees, enough) = if self.on {
            (share_bp < OFF_BP, READINGS_OFF)
        } else {
            (share_bp >= ON_BP, READINGS_ON)
        };
        self.agreeing = if agrees { self.agreeing + 1 } else { 0 };
        if self.agreeing >= enough {
            self.on = !self.on;
            self.agreeing = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Readings of this loss until the policy changes, if it does within a thousand.
    fn until_change(policy: &mut Policy, loss: f64, rng: &mut fastrand::Rng) -> Option<u32> {
        let before = policy.is_on();
        let mut now = policy.at.unwrap();
        let (mut sent, mut lost) = policy.then;
        (1..=1000).find(|_| {
            sent += READING;
            lost += (0..READING).filter(|_| rng.f64() < loss).count() as u64;
            now += SPAN;
            policy.look(sent, lost, now);
            policy.is_on() != before
        })
    }

    #[test]
    fn it_follows_the_loss_and_not_a_burst() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut policy = Policy::default();
        // A queue that overflows once, with nothing before and after.
        policy.look(1000, 300, Instant::now());
        assert_eq!(until_change(&mut policy, 0.0, &mut rng), None);
        assert!(until_change(&mut policy, 0.01, &mut rng).is_some_and(|readings| readings < 20));
        assert_eq!(until_change(&mut policy, 0.01, &mut rng), None, "it flutters");
        assert_eq!(until_change(&mut policy, 0.0, &mut rng), Some(READINGS_OFF));
        assert_eq!(until_change(&mut policy, 0.0005, &mut rng), None, "it flutters");
    }
}
