//! A guest's interface as declared.

use crate::error::{Error, Result};
use crate::mac::Mac;
use crate::name::{HostName, NetworkName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A guest's interface: dom0's end of it is known by its name, `vif5.0`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// The network that it is part of.
    pub network: NetworkName,
    /// The guest's hardware address.
    pub mac: Mac,
    /// The guest's addresses. On a network with a range it gets one when it is declared without. DHCP gives it the first.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ipv4: BTreeSet<Ipv4Addr>,
    /// Further IPv6 addresses besides the one that is made of its hardware address.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ipv6: BTreeSet<Ipv6Addr>,
    /// What it may send.
    #[serde(default)]
    pub guard: Guard,
    /// How much the guest may send, and how much is sent to it.
    #[serde(default)]
    pub rates: Rates,
    /// Its name in DNS, and in what DHCP tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_name: Option<HostName>,
    /// What the metadata service tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
}

/// What an interface may send (XenAPI's `locking_mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Guard {
    /// Frames from its own hardware address and IP addresses, and only IPv4, IPv6 and ARP.
    #[default]
    Locked,
    /// Anything but VLAN tags, and answers of DHCP servers and IPv6 routers where this host is one.
    Unlocked,
    /// Nothing; and nothing is sent to it.
    Disabled,
}

impl FromStr for Guard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "locked" => Ok(Self::Locked),
            "unlocked" => Ok(Self::Unlocked),
            "disabled" => Ok(Self::Disabled),
            _ => Err(Error::Invalid(format!("{text:?}: locked, unlocked or disabled"))),
        }
    }
}

/// Limits of an interface; none where there is no figure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// What goes to the guest: what is too much waits, for up to 50 ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_guest: Option<Rate>,
    /// What comes from the guest: what is too much is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_guest: Option<Rate>,
}

/// Bits per second, Ethernet headers included: from 64 kbit/s to 30 Gbit/s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "u64", try_from = "u64")]
pub struct Rate(u64);

impl Rate {
    /// One of so many bits per second.
    pub fn new(bits: u64) -> Result<Self> {
        if (64_000..=30_000_000_000).contains(&bits) {
            return Ok(Self(bits));
        }
        Err(Error::Invalid(format!("{bits} bit/s: from 64 kbit/s to 30 Gbit/s a rate can be")))
    }

    /// Bytes per second: fits 32 bits.
    pub fn bytes(self) -> u32 {
        u32::try_from(self.0 / 8).unwrap_or(u32::MAX)
    }

    /// Bytes that may come at once: 20 ms' worth, and at least two of the largest segments a guest hands over.
    pub(crate) fn burst(self) -> u32 {
        (self.bytes() / 50).max(128 << 10)
    }

    /// Bytes that wait or may come at once: 50 ms' worth more than the burst.
    pub(crate) fn queue(self) -> u32 {
        self.burst().saturating_add(self.bytes() / 20)
    }
}

impl TryFrom<u64> for Rate {
    type Error = Error;

    fn try_from(bits: u64) -> Result<Self> {
        Self::new(bits)
    }
}

impl From<Rate> for u64 {
    fn from(rate: Rate) -> Self {
        rate.0
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bits if bits % 1_000_000_000 == 0 => write!(f, "{}gbit", bits / 1_000_000_000),
            bits if bits % 1_000_000 == 0 => write!(f, "{}mbit", bits / 1_000_000),
            bits if bits % 1000 == 0 => write!(f, "{}kbit", bits / 1000),
            bits => write!(f, "{bits}bit"),
        }
    }
}

impl FromStr for Rate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::Invalid(format!("{text:?} is no rate such as 10mbit (bit, kbit, mbit, gbit)"));
        let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(at);
        let unit: u64 = match unit {
            "bit" => 1,
            "kbit" => 1000,
            "mbit" => 1_000_000,
            "gbit" => 1_000_000_000,
            _ => return Err(wrong()),
        };
        Self::new(number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).ok_or_else(wrong)?)
    }
}

/// What cloud-init asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Changes when the guest is to be set up anew; usually the VM's UUID.
    pub instance_id: String,
    /// Keys that may log in, one OpenSSH line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub public_keys: Vec<String>,
    /// cloud-init's user-data, as it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user_data: String,
    /// cloud-init's vendor-data, as it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub vendor_data: String,
    /// cloud-init's network-config; if empty, one that says DHCP.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub network_config: String,
}

impl Metadata {
    fn check(&self) -> Result<()> {
        const MOST: usize = 64 << 10;
        let line =
            |text: &str| !text.is_empty() && text.len() <= 16384 && !text.contains(|c: char| c.is_control());
        if !line(&self.instance_id) || self.instance_id.len() > 128 {
            return Err(Error::Invalid(
                "metadata: the instance's id is one line of up to 128 bytes".to_owned(),
            ));
        }
        if self.public_keys.len() > 64 || !self.public_keys.iter().all(|k| line(k)) {
            return Err(Error::Invalid("metadata: up to 64 keys, one line each".to_owned()));
        }
        for (what, text) in [
            ("user-data", &self.user_data),
            ("vendor-data", &self.vendor_data),
            ("network-config", &self.network_config),
        ] {
            if text.len() > MOST {
                return Err(Error::Invalid(format!(
                    "metadata: {what} of {} bytes; {MOST} are the most",
                    text.len()
                )));
            }
        }
        Ok(())
    }
}

impl Interface {
    /// One with nothing but a hardware address.
    pub fn new(network: NetworkName, mac: Mac) -> Self {
        Self {
            network,
            mac,
            ipv4: BTreeSet::new(),
            ipv6: BTreeSet::new(),
            guard: Guard::default(),
            rates: Rates::default(),
            host_name: None,
            metadata: None,
        }
    }

    /// An error that names what makes no sense.
    pub(crate) fn check(&self) -> Result<()> {
        if self.ipv4.len() > 64 || self.ipv6.len() > 64 {
            return Err(Error::Invalid("more than 64 addresses on one interface".to_owned()));
        }
        if let Some(bad) =
            self.ipv4.iter().find(|a| a.is_unspecified() || a.is_multicast() || a.is_broadcast())
        {
            return Err(Error::Invalid(format!("{bad} is no address of a guest")));
        }
        if let Some(bad) = self.ipv6.iter().find(|a| a.is_unspecified() || a.is_multicast()) {
            return Err(Error::Invalid(format!("{bad} is no address of a guest")));
        }
        self.metadata.as_ref().map_or(Ok(()), Metadata::check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_written() {
        for text in ["64kbit", "10mbit", "30gbit", "100001bit"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        for bad in ["", "10", "mbit", "1kbit", "31gbit", "10mb", "99999999999999999999gbit"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
        let rate: Rate = "30gbit".parse().unwrap();
        assert_eq!((rate.bytes(), rate.burst()), (3_750_000_000, 75_000_000));
        assert!(serde_json::from_str::<Rate>("12").is_err());
    }
}
