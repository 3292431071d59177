//! The forwarding table: which peer owns an address.
//!
//! A [`Table`] is built once from the `allowed_ips` of all peers and never changed; a new one
//! replaces it whole. The trie is that of the crate `prefix-trie`, a tree bitmap. Each worker asks
//! through a [`Forwarder`] of its own: whose is the destination of a packet from the site, and may
//! a peer send from the source of a packet that it sent (reverse path).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

/// A network: an address with no host bits, and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix(IpNet);

/// Why something is no prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// It cannot be read.
    #[error("expected a prefix such as 10.2.0.0/16 or fd48::/32, got {0:?}: write ADDRESS/LENGTH")]
    Syntax(String),
    /// The length is larger than the address has bits.
    #[error("expected a prefix length of at most {most} for {address}, got {got}: lower it")]
    Length {
        /// The address.
        address: IpAddr,
        /// How many bits it has.
        most: u8,
        /// What was given.
        got: u8,
    },
    /// Bits beyond the length are set.
    #[error("expected no host bits, got {got}: write {right}, or {host} for the one host")]
    HostBits {
        /// What was given.
        got: IpNet,
        /// The network that it is in.
        right: Prefix,
        /// The address alone.
        host: Prefix,
    },
}

impl Prefix {
    /// The network of `length` bits at `address`.
    ///
    /// # Errors
    /// When the length is too large or host bits are set.
    pub fn new(address: IpAddr, length: u8) -> Result<Self, PrefixError> {
        let Ok(got) = IpNet::new(address, length) else {
            let most = if address.is_ipv4() { 32 } else { 128 };
            return Err(PrefixError::Length { address, most, got: length });
        };
        if got.network() != address {
            let (right, host) = (Self(got.trunc()), Self(IpNet::from(address)));
            return Err(PrefixError::HostBits { got, right, host });
        }
        Ok(Self(got))
    }

    /// The address of the network.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.0.addr()
    }

    /// The length in bits.
    #[must_use]
    pub fn length(self) -> u8 {
        self.0.prefix_len()
    }

    /// Whether `address` is in it.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Whether all of `other` is in it.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self.0.contains(&other.0)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let syntax = || PrefixError::Syntax(text.to_owned());
        let (address, length) = text.split_once('/').ok_or_else(syntax)?;
        let address = address.parse().map_err(|_| syntax())?;
        // A plus sign would be read as part of the number.
        if !length.bytes().all(|b| b.is_ascii_digit()) {
            return Err(syntax());
        }
        Self::new(address, length.parse().map_err(|_| syntax())?)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a table cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError<T: fmt::Display + fmt::Debug> {
    /// Two peers claim the same network.
    #[error(
        "expected {prefix} in the allowed_ips of one peer, got it in those of {first} and of \
             {second}: take it from one of them"
    )]
    Duplicate {
        /// The network.
        prefix: Prefix,
        /// Who had it first.
        first: T,
        /// Who claims it too.
        second: T,
    },
}

/// Which owner has which addresses; the longest prefix wins.
#[derive(Clone, Debug)]
pub struct Table<T> {
    v4: PrefixMap<Ipv4Net, T>,
    v6: PrefixMap<Ipv6Net, T>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { v4: PrefixMap::new(), v6: PrefixMap::new() }
    }
}

impl<T: Copy + PartialEq> Table<T> {
    /// Builds a table. The same network twice for one owner is one network.
    ///
    /// # Errors
    /// When two owners claim the same network.
    pub fn build(entries: impl IntoIterator<Item = (Prefix, T)>) -> Result<Self, TableError<T>>
    where
        T: fmt::Display + fmt::Debug,
    {
        let mut table = Self::default();
        for (prefix, owner) in entries {
            let before = match prefix.0 {
                IpNet::V4(net) => table.v4.insert(net, owner),
                IpNet::V6(net) => table.v6.insert(net, owner),
            };
            if let Some(first) = before.filter(|first| *first != owner) {
                return Err(TableError::Duplicate { prefix, first, second: owner });
            }
        }
        Ok(table)
    }

    /// The owner of the longest prefix that holds `address`.
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> Option<T> {
        match address {
            IpAddr::V4(v4) => self.lookup_v4(v4),
            IpAddr::V6(v6) => self.lookup_v6(v6),
        }
    }

    /// Whether `owner` may send from `source`: only from what would be sent to it.
    #[must_use]
    pub fn permits(&self, owner: T, source: IpAddr) -> bool {
        self.lookup(source) == Some(owner)
    }

    /// How many networks there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lookup_v4(&self, address: Ipv4Addr) -> Option<T> {
        self.v4.get_lpm(&Ipv4Net::from(address)).map(|(_, owner)| *owner)
    }

    fn lookup_v6(&self, address: Ipv6Addr) -> Option<T> {
        self.v6.get_lpm(&Ipv6Net::from(address)).map(|(_, owner)| *owner)
    }
}

/// Addresses that a worker remembers the owner of. A burst has few; a power of two, so that the
/// choice of a place is a mask. 64 of 40 bytes stay in the first-level cache.
const REMEMBERED: usize = 64;

/// The table as one worker asks it: with the answers for the addresses that it saw last, because a
/// walk through the trie costs more than all else that is done with a received packet here, and
/// packets of a burst have few addresses.
#[derive(Debug)]
pub struct Forwarder<T> {
    table: Arc<Table<T>>,
    remembered: [Option<(IpAddr, Option<T>)>; REMEMBERED],
}

impl<T: Copy + PartialEq> Forwarder<T> {
    /// Asks `table`.
    #[must_use]
    pub fn new(table: Arc<Table<T>>) -> Self {
        Self { table, remembered: [None; REMEMBERED] }
    }

    /// Asks `table` from now on, and forgets what the last one said.
    pub fn replace(&mut self, table: Arc<Table<T>>) {
        *self = Self::new(table);
    }

    /// As [`Table::lookup`].
    pub fn lookup(&mut self, address: IpAddr) -> Option<T> {
        let place = &mut self.remembered[place_of(address)];
        match place {
            Some((known, owner)) if *known == address => *owner,
            _ => {
                let owner = self.table.lookup(address);
                *place = Some((address, owner));
                owner
            }
        }
    }

    /// As [`Table::permits`].
    pub fn permits(&mut self, owner: T, source: IpAddr) -> bool {
        self.lookup(source) == Some(owner)
    }
}

/// Whoever chooses addresses that share a place only makes the trie be asked.
fn place_of(address: IpAddr) -> usize {
    let bits = match address {
        IpAddr::V4(v4) => v4.to_bits(),
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            (bits ^ bits >> 64) as u32
        }
    };
    ((bits ^ bits >> 8 ^ bits >> 16) as usize) % REMEMBERED
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    fn table(entries: &[(&str, u32)]) -> Table<u32> {
        Table::build(entries.iter().map(|(text, owner)| (prefix(text), *owner))).unwrap()
    }

    #[test]
    fn a_prefix_reads_and_prints_the_same() {
        for text in ["10.2.0.0/16", "0.0.0.0/0", "10.92.0.2/32", "fd48:4d00::/32", "::/0"] {
            assert_eq!(prefix(text).to_string(), text);
        }
    }

    #[test]
    fn host_bits_are_refused_with_the_right_prefix() {
        let error = "10.2.3.4/16".parse::<Prefix>().unwrap_err().to_string();
        assert!(error.contains("10.2.0.0/16") && error.contains("10.2.3.4/32"), "{error}");
        let error = "fd48::1/64".parse::<Prefix>().unwrap_err().to_string();
        assert!(error.contains("fd48::/64") && error.contains("fd48::1/128"), "{error}");
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/x", "a/8", "10.0/8"] {
            let refused = text.parse::<Prefix>();
            assert_eq!(refused, Err(PrefixError::Syntax(text.into())), "{text}");
        }
        assert!(matches!("10.0.0.0/33".parse::<Prefix>(), Err(PrefixError::Length { .. })));
        assert!(matches!("::/129".parse::<Prefix>(), Err(PrefixError::Length { .. })));
    }

    #[test]
    fn the_longest_prefix_wins_and_bounds_who_may_send() {
        let table = table(&[("10.0.0.0/8", 1), ("10.2.0.0/16", 2), ("fd48::/32", 1)]);
        assert_eq!(table.lookup("10.1.0.1".parse().unwrap()), Some(1));
        assert_eq!(table.lookup("10.2.0.1".parse().unwrap()), Some(2));
        assert_eq!(table.lookup("11.0.0.1".parse().unwrap()), None);
        assert_eq!(table.lookup("fd48::1".parse().unwrap()), Some(1));
        assert!(table.permits(2, "10.2.0.1".parse().unwrap()));
        assert!(!table.permits(1, "10.2.0.1".parse().unwrap()));
        assert!(!table.permits(1, "11.0.0.1".parse().unwrap()));
    }

    #[test]
    fn a_network_of_two_peers_is_refused_naming_both() {
        let net = prefix("10.2.0.0/16");
        let error = Table::build([(net, "edge-a"), (net, "edge-b")]).unwrap_err().to_string();
        let names = ["10.2.0.0/16", "edge-a", "edge-b"];
        assert!(names.iter().all(|name| error.contains(name)), "{error}");
        assert_eq!(Table::build([(net, 1), (net, 1)]).unwrap().len(), 1);
    }

    #[test]
    fn an_ipv4_address_mapped_into_ipv6_is_not_that_of_ipv4() {
        let table = table(&[("10.0.0.0/8", 1)]);
        assert_eq!(table.lookup("::ffff:10.0.0.1".parse().unwrap()), None);
    }

    #[test]
    fn a_forwarder_says_what_its_table_says() {
        let addresses: Vec<IpAddr> = (0..2_000u32)
            .flat_map(|i| {
                let v4 = Ipv4Addr::from(0x0a00_0000 + i * 6_007);
                [IpAddr::from(v4), Ipv6Addr::from(u128::from(i) << 96 | 5).into()]
            })
            .collect();
        let first = Arc::new(table(&[("10.0.0.0/9", 1), ("10.64.0.0/10", 2), ("0::/118", 3)]));
        let second = Arc::new(table(&[("10.0.0.0/8", 4)]));
        let mut forwarder = Forwarder::new(Arc::clone(&first));
        for table in [first, second] {
            forwarder.replace(Arc::clone(&table));
            for address in addresses.iter().chain(addresses.iter().rev()) {
                assert_eq!(forwarder.lookup(*address), table.lookup(*address));
                assert_eq!(forwarder.permits(2, *address), table.permits(2, *address));
            }
        }
    }

    proptest! {
        #[test]
        fn lookup_agrees_with_a_search_through_all(
            nets in proptest::collection::hash_map((any::<u16>(), 0u8..=16), any::<u8>(), 0..40),
            low in any::<u16>(),
        ) {
            let entries: Vec<_> = nets
                .into_iter()
                .map(|((bits, length), owner)| {
                    let net = Ipv4Net::new(Ipv4Addr::from(u32::from(bits) << 16), length).unwrap();
                    (Prefix(IpNet::V4(net.trunc())), owner)
                })
                .collect();
            let Ok(table) = Table::build(entries.clone()) else { return Ok(()) };
            let address = IpAddr::from(Ipv4Addr::from(u32::from(low) << 16 | 5));
            let covering = entries.iter().filter(|(net, _)| net.contains(address));
            let expected = covering.max_by_key(|(net, _)| net.length()).map(|(_, owner)| *owner);
            prop_assert_eq!(table.lookup(address), expected);
        }
    }
}
