//! IPv4 prefixes and ranges of addresses.

use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 prefix, `10.1.0.0/24`: 8 to 30 bits long, no bit set behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Prefix {
    network: Ipv4Addr,
    length: u8,
}

impl Prefix {
    /// Its first address, which no host has.
    pub fn network(self) -> Ipv4Addr {
        self.network
    }

    /// Its length in bits.
    pub fn length(self) -> u8 {
        self.length
    }

    /// The network mask.
    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32::MAX << (32 - u32::from(self.length)))
    }

    /// The address of all of its hosts.
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() | !self.mask().to_bits())
    }

    /// Whether the address lies in it.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask().to_bits() == self.network.to_bits()
    }

    /// Whether a host can have the address: neither the network's own nor that of all hosts.
    pub fn has_host(self, address: Ipv4Addr) -> bool {
        self.contains(address) && address != self.network && address != self.broadcast()
    }

    /// Whether they share addresses.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.length)
    }
}

impl FromStr for Prefix {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::Invalid(format!("{text:?} is no subnet such as 10.1.0.0/24: {why}"));
        let (network, length) = text.split_once('/').ok_or_else(|| wrong("no '/'"))?;
        let network: Ipv4Addr = network.parse().map_err(|_| wrong("no address before the '/'"))?;
        let length = length.parse().ok().filter(|l| (8..=30).contains(l));
        let prefix = Self { network, length: length.ok_or_else(|| wrong("its length must be 8 to 30"))? };
        if !prefix.contains(network) {
            return Err(wrong("bits are set behind its length"));
        }
        if network.is_multicast()
            || network.is_loopback()
            || network.is_link_local()
            || network.octets()[0] == 0
        {
            return Err(wrong("those addresses have another meaning"));
        }
        Ok(prefix)
    }
}

impl TryFrom<String> for Prefix {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

/// Addresses from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Range {
    first: Ipv4Addr,
    last: Ipv4Addr,
}

impl Range {
    /// One of at least one address.
    pub fn new(first: Ipv4Addr, last: Ipv4Addr) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// Whether the address is one of them.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }

    /// The first.
    pub fn first(self) -> Ipv4Addr {
        self.first
    }

    /// The last.
    pub fn last(self) -> Ipv4Addr {
        self.last
    }

    /// All of them, in order.
    pub fn addresses(self) -> impl Iterator<Item = Ipv4Addr> {
        (self.first.to_bits()..=self.last.to_bits()).map(Ipv4Addr::from_bits)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for Range {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Invalid(format!("{text:?} is no range such as 10.1.0.10-10.1.0.99"));
        let (first, last) = text.split_once('-').ok_or_else(wrong)?;
        let (first, last) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
        Self::new(first, last).ok_or_else(wrong)
    }
}

impl TryFrom<String> for Range {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Range> for String {
    fn from(range: Range) -> Self {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        let p: Prefix = "10.1.0.0/24".parse().unwrap();
        assert_eq!(
            (p.mask().to_string(), p.broadcast().to_string()),
            ("255.255.255.0".into(), "10.1.0.255".into())
        );
        assert!(p.has_host("10.1.0.1".parse().unwrap()) && !p.has_host("10.1.0.0".parse().unwrap()));
        assert!(!p.has_host("10.1.0.255".parse().unwrap()) && !p.contains("10.1.1.0".parse().unwrap()));
        let other = |t: &str| p.overlaps(t.parse().unwrap());
        assert!(other("10.0.0.0/8") && other("10.1.0.128/25") && !other("10.1.1.0/24"));
        for bad in [
            "10.1.0.1/24",
            "10.1.0.0",
            "10.0.0.0/31",
            "10.0.0.0/7",
            "224.0.0.0/8",
            "127.0.0.0/8",
            "0.0.0.0/8",
            "x/8",
        ] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges() {
        let r: Range = "10.1.0.254-10.1.1.1".parse().unwrap();
        assert_eq!(r.addresses().count(), 4);
        assert!(r.contains(r.first()) && r.contains(r.last()));
        for bad in ["10.1.0.2-10.1.0.1", "10.1.0.1", "a-b"] {
            assert!(bad.parse::<Range>().is_err(), "{bad}");
        }
    }
}
