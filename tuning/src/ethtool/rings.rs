//! The rings of an interface, and the table that spreads its packets over its queues: two values with
//! their text form, which is what is shown and recorded.

use std::fmt;

/// Descriptors of the rings between the driver and the card, and the most that there can be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rings {
    /// Packets that wait to be taken from a receive queue.
    pub rx: u32,
    /// Packets that wait to be sent from a queue.
    pub tx: u32,
    /// The most of `rx`.
    pub rx_max: u32,
    /// The most of `tx`.
    pub tx_max: u32,
}

impl Rings {
    /// These rings with the lengths of a text such as `rx 512 tx 512`; `None` for any other.
    pub(crate) fn with(self, text: &str) -> Option<Self> {
        let (rx, tx) = text.strip_prefix("rx ")?.split_once(" tx ")?;
        Some(Self { rx: rx.parse().ok()?, tx: tx.parse().ok()?, ..self })
    }
}

impl fmt::Display for Rings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rx {} tx {}", self.rx, self.tx)
    }
}

/// Most entries of a table: more than any driver has (4096), and little memory.
pub(crate) const MAX_TABLE: usize = 16_384;

/// Receive queues by the lowest bits of a packet's hash: the indirection table of RSS.
///
/// Its text is `equal N` where queues 0 to N - 1 take turns, as drivers set it by themselves, and the
/// queues one by one otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table(pub Vec<u32>);

/// What a driver is asked to set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Its own: all queues take turns, also when their number changes later.
    Equal,
    /// This table.
    Table(Table),
}

impl Table {
    /// The table that drivers set by themselves.
    #[cfg(test)]
    pub(crate) fn equal(entries: u32, queues: u32) -> Self {
        Self((0..entries).map(|entry| entry % queues).collect())
    }

    /// The number of queues that take turns, if they do.
    pub(crate) fn turns(&self) -> Option<u32> {
        let queues = self.0.iter().max()? + 1;
        let in_turn = (0..queues).cycle().zip(&self.0).all(|(turn, entry)| turn == *entry);
        in_turn.then_some(queues)
    }
}

impl Spread {
    /// What a recorded text asks for; `None` for a text that is no table's.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(queues) = text.strip_prefix("equal ") {
            return queues.parse::<u32>().ok().map(|_| Self::Equal);
        }
        let queues: Option<Vec<u32>> = text.split(' ').map(|queue| queue.parse().ok()).collect();
        queues.filter(|queues| queues.len() <= MAX_TABLE).map(|queues| Self::Table(Table(queues)))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(queues) = self.turns() {
            return write!(f, "equal {queues}");
        }
        let queues: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&queues.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_read_as_they_are_written() {
        let most = Rings { rx: 256, tx: 128, rx_max: 4096, tx_max: 4096 };
        assert_eq!(most.to_string(), "rx 256 tx 128");
        assert_eq!(most.with(&most.to_string()), Some(most));
        for foreign in ["", "rx 1", "tx 1 rx 1", "rx -1 tx 1", "rx 1 tx 1 x", "rx 4294967296 tx 1"]
        {
            assert_eq!(most.with(foreign), None, "{foreign:?}");
        }
    }

    #[test]
    fn tables_are_read_as_they_are_written() {
        assert_eq!(Table::equal(8, 3).to_string(), "equal 3");
        assert_eq!(Spread::parse("equal 3"), Some(Spread::Equal));
        let uneven = Table(vec![0, 0, 1, 0]);
        assert_eq!(uneven.to_string(), "0 0 1 0");
        assert_eq!(Spread::parse("0 0 1 0"), Some(Spread::Table(uneven)));
        assert_eq!(Table(vec![0, 0]).to_string(), "equal 1");
        assert_eq!(Table(Vec::new()).turns(), None);
        let long = "0 ".repeat(MAX_TABLE) + "0";
        for foreign in ["", "equal", "equal x", "0  1", "-1", "0,1", &long] {
            assert_eq!(Spread::parse(foreign), None);
        }
    }
}
