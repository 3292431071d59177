//! What one figure of the tier benchmark is about, and its name:
//! `1000/rtt20-loss1/stoq-uring/tcp8` is the wire's rate, what the path does besides, the subject and
//! the load.

use crate::bed::Shape;
use crate::measure::iperf;
use std::fmt;
use std::str::FromStr;

/// Streams of the load that has several.
const STREAMS: u32 = 8;

/// What the path does besides its rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// Round-trip time in milliseconds, by the relay; 0 is the bridge.
    pub rtt_ms: u32,
    /// Packets lost in each direction, in percent.
    pub loss_percent: u32,
}

/// What is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Nothing but ping.
    Idle,
    /// One TCP stream.
    Tcp,
    /// Eight TCP streams.
    Tcp8,
    /// UDP at the rate of the wire.
    Udp,
}

impl Load {
    /// All of them, in the order of a run.
    pub const ALL: [Self; 4] = [Self::Idle, Self::Tcp, Self::Tcp8, Self::Udp];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Tcp => "tcp",
            Self::Tcp8 => "tcp8",
            Self::Udp => "udp",
        }
    }

    /// What iperf3 sends; nothing for [`Load::Idle`].
    pub(super) fn sent(self, shape: Shape) -> Option<iperf::Load> {
        match (self, shape) {
            (Self::Idle, _) => None,
            (Self::Tcp, _) => Some(iperf::Load::Tcp),
            (Self::Tcp8, _) => Some(iperf::Load::TcpStreams(STREAMS)),
            (Self::Udp, Shape::Mbit(mbit)) => Some(iperf::Load::Udp(mbit)),
            (Self::Udp, Shape::Unshaped) => Some(iperf::Load::Udp(0)),
        }
    }
}

impl FromStr for Load {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|load| load.name() == text);
        found.ok_or_else(|| format!("expected idle, tcp, tcp8 or udp, got `{text}`"))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.rtt_ms, self.loss_percent) {
            (0, 0) => f.write_str("clean"),
            (0, loss) => write!(f, "loss{loss}"),
            (rtt, 0) => write!(f, "rtt{rtt}"),
            (rtt, loss) => write!(f, "rtt{rtt}-loss{loss}"),
        }
    }
}

impl FromStr for Path {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut path = Self::default();
        let words = text.split('-').filter(|word| *word != "clean");
        for word in words {
            let digits = word.trim_start_matches(char::is_alphabetic);
            match (word.strip_suffix(digits), digits.parse()) {
                (Some("rtt"), Ok(ms @ 0..=200)) => path.rtt_ms = ms,
                (Some("loss"), Ok(percent @ 0..=50)) => path.loss_percent = percent,
                _ => {
                    return Err(format!(
                        "expected `clean`, or `rtt` with up to 200 ms and `loss` with up to 50 % as in \
                         rtt20-loss1, got `{text}`"
                    ));
                }
            }
        }
        Ok(path)
    }
}

/// The name of a row; `subject` is the name of what carries.
#[must_use]
pub fn name(shape: Shape, path: Path, subject: &str, load: Load) -> String {
    format!("{shape}/{path}/{subject}/{}", load.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_and_written_alike() {
        for text in ["clean", "loss1", "rtt20", "rtt20-loss5"] {
            assert_eq!(text.parse::<Path>().unwrap().to_string(), text);
        }
        for wrong in ["rtt", "loss51", "rtt20,loss1", "rtt-5", "lag20"] {
            assert!(wrong.parse::<Path>().unwrap_err().contains(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_name_goes_from_the_general_to_the_particular() {
        let path = Path { rtt_ms: 20, loss_percent: 1 };
        let name = name(Shape::Mbit(1000), path, "none", Load::Tcp8);
        assert_eq!(name, "1000/rtt20-loss1/none/tcp8");
    }

    #[test]
    fn udp_is_offered_at_the_rate_of_the_wire() {
        assert_eq!(Load::Udp.sent(Shape::Mbit(100)), Some(iperf::Load::Udp(100)));
        assert_eq!(Load::Idle.sent(Shape::Mbit(100)), None);
        assert!("tcp4".parse::<Load>().is_err());
    }
}
