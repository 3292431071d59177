//! What the wire between the edges does to packets: rate, loss, blackhole, MTU, and edges that change
//! their address. Methods of [`Bed`], called by tests and benchmarks while traffic runs.

use super::{Bed, Family, Side, WAN, bridge_port, give_addresses};
use crate::Result;
use crate::process;
use std::fmt;
use std::process::Command;
use std::str::FromStr;

/// The queue before the bottleneck, as a cheap switch has it.
const QUEUE: &str = "512k";

/// The rate of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// As fast as the machine passes frames.
    Unshaped,
    /// So many Mbit/s in each direction, by a token bucket at the bridge.
    Mbit(u32),
}

impl Shape {
    /// The smallest burst that still gives the full rate; a larger one passes trains at memory
    /// speed, as no cable does, and misleads every estimate of bandwidth.
    fn burst(mbit: u32) -> &'static str {
        match mbit {
            0..=250 => "6k",
            251..=1250 => "32k",
            _ => "64k",
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unshaped => f.write_str("none"),
            Self::Mbit(mbit) => write!(f, "{mbit}"),
        }
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "none" => Ok(Self::Unshaped),
            rate => match rate.parse() {
                Ok(mbit @ 1..=100_000) => Ok(Self::Mbit(mbit)),
                _ => {
                    Err(format!("expected `none` or a rate in Mbit/s of 1 to 100000, got `{rate}`"))
                }
            },
        }
    }
}

impl Bed {
    /// Sets the rate of the wire, in both directions.
    ///
    /// # Errors
    /// [`crate::Error::Command`] when `tc` refuses.
    pub fn shape(&self, shape: Shape) -> Result<()> {
        for side in [Side::A, Side::B] {
            let device = bridge_port(side);
            let is_shaped =
                self.middle.run("tc", ["qdisc", "show", "dev", &device])?.contains("tbf");
            match shape {
                Shape::Unshaped if is_shaped => self.tc(&format!("qdisc del dev {device} root"))?,
                Shape::Unshaped => {}
                Shape::Mbit(mbit) => self.tc(&format!(
                    "qdisc replace dev {device} root tbf rate {mbit}mbit burst {} limit {QUEUE}",
                    Shape::burst(mbit)
                ))?,
            }
        }
        Ok(())
    }

    /// Drops `percent` of the packets at random, in both directions; zero ends it.
    ///
    /// # Errors
    /// [`crate::Error::Command`] when `nft` refuses.
    pub fn lose(&self, percent: f64) -> Result<()> {
        self.drop_at_ingress(
            "loss",
            (percent > 0.0).then(|| format!("numgen random mod 100000 < {:.0}", percent * 1000.0)),
        )
    }

    /// Lets nothing pass, without taking a link down: neither edge is told.
    ///
    /// # Errors
    /// [`crate::Error::Command`] when `nft` refuses.
    pub fn blackhole(&self, is_on: bool) -> Result<()> {
        self.drop_at_ingress("blackhole", is_on.then(String::new))
    }

    /// Drops what matches `rule` as it enters the bridge, by a table of this name.
    fn drop_at_ingress(&self, table: &str, rule: Option<String>) -> Result<()> {
        let mut ruleset = format!("table netdev {table}\ndelete table netdev {table}\n");
        if let Some(rule) = rule {
            let hook = |device: String| {
                format!(
                    "chain {device} {{ type filter hook ingress device {device} priority 0; {rule} drop; }}\n"
                )
            };
            let chains = hook(bridge_port(Side::A)) + &hook(bridge_port(Side::B));
            ruleset +=
                &format!("table netdev {table} {{ {chains} }}\n").replace("chain m-", "chain m_");
        }
        self.middle.nft(&ruleset).map(drop)
    }

    /// Sets the MTU of the wire behind the edges, which are not told: larger packets vanish.
    ///
    /// # Errors
    /// [`crate::Error::Command`] when the kernel refuses.
    pub fn middle_mtu(&self, mtu: u16) -> Result<()> {
        for side in [Side::A, Side::B] {
            self.middle.ip(&format!("link set {} mtu {mtu}", bridge_port(side)))?;
        }
        Ok(())
    }

    /// Takes an edge's device away, as when a driver is unloaded.
    ///
    /// # Errors
    /// [`crate::Error::Command`] when the kernel refuses.
    pub fn unplug(&self, side: Side) -> Result<()> {
        self.edge(side).namespace.ip(&format!("link del {WAN}")).map(drop)
    }

    /// Gives an edge that was unplugged a new device of the same name, with the same addresses.
    ///
    /// # Errors
    /// [`crate::Error::Command`] when the kernel refuses.
    pub fn replug(&self, side: Side) -> Result<()> {
        self.edge(side).plug_into(&self.middle)
    }

    /// Moves the edges' addresses to a VLAN on the wire, so that every packet is tagged.
    ///
    /// # Errors
    /// [`crate::Error::Command`] when the kernel refuses.
    pub fn tag(&self, vlan: u16) -> Result<()> {
        for side in [Side::A, Side::B] {
            let namespace = &self.edge(side).namespace;
            namespace.ip(&format!("link add link {WAN} name {WAN}.{vlan} type vlan id {vlan}"))?;
            namespace.ip(&format!("addr flush dev {WAN} scope global"))?;
            let addresses = [side.wan(Family::V4), side.wan(Family::V6)];
            give_addresses(namespace, &format!("{WAN}.{vlan}"), addresses)?;
        }
        Ok(())
    }

    /// Sets the MTU of the whole wire, edges included.
    ///
    /// # Errors
    /// [`crate::Error::Command`] when the kernel refuses.
    pub fn mtu(&self, mtu: u16) -> Result<()> {
        self.middle_mtu(mtu)?;
        for side in [Side::A, Side::B] {
            self.edge(side).namespace.ip(&format!("link set {WAN} mtu {mtu}"))?;
        }
        Ok(())
    }

    /// Gives an edge another address on the wire and takes the old one away.
    ///
    /// # Errors
    /// [`crate::Error::Command`] when the kernel refuses.
    pub fn move_edge(&self, side: Side, family: Family) -> Result<()> {
        let length = match family {
            Family::V4 => 24,
            Family::V6 => 64,
        };
        let namespace = &self.edge(side).namespace;
        let (new, old) = (side.wan_moved(family), side.wan(family));
        // An IPv4 secondary address goes with its primary one unless it is promoted.
        namespace.sysctl("net.ipv4.conf.all.promote_secondaries", "1")?;
        namespace.ip(&format!("addr add {new}/{length} dev {WAN} nodad"))?;
        namespace.ip(&format!("addr del {old}/{length} dev {WAN}")).map(drop)
    }

    /// Takes an edge's addresses of one family away, so that only the other is left.
    ///
    /// # Errors
    /// [`crate::Error::Command`] when the kernel refuses.
    pub fn only(&self, family: Family) -> Result<()> {
        for side in [Side::A, Side::B] {
            let namespace = &self.edge(side).namespace;
            match family {
                Family::V4 => {
                    namespace.ip(&format!("addr del {}/64 dev {WAN}", side.wan(Family::V6)))?
                }
                Family::V6 => {
                    namespace.ip(&format!("addr del {}/24 dev {WAN}", side.wan(Family::V4)))?
                }
            };
        }
        Ok(())
    }

    fn tc(&self, words: &str) -> Result<()> {
        let mut command = Command::new("tc");
        command.args(["-n", self.middle.name()]).args(words.split_whitespace());
        process::run(&mut command).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_read_and_written_alike() {
        for text in ["none", "100", "1000", "2500"] {
            assert_eq!(text.parse::<Shape>().unwrap().to_string(), text);
        }
        assert!("0".parse::<Shape>().is_err());
        assert!("fast".parse::<Shape>().unwrap_err().contains("fast"));
    }
}
