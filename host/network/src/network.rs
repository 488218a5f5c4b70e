//! A network as declared.

use crate::error::{Error, Result};
use crate::name::{DomainName, LinkName};
use crate::prefix::{Prefix, Range};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Bytes that VXLAN puts around a frame: outer Ethernet, IPv4, UDP, VXLAN (RFC 7348, section 5).
const VXLAN_OVERHEAD: u16 = 50;
/// VXLAN's port, unless another is declared (RFC 7348).
pub const VXLAN_PORT: u16 = 4789;
/// How long a lease lasts, unless another time is declared.
pub const LEASE_SECONDS: u32 = 3600;

/// A network: a bridge, and what is connected to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The bridge's name in dom0. It is made and removed with the network.
    pub bridge: LinkName,
    /// A network card that is part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<Uplink>,
    /// The other hosts that are part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<Overlay>,
    /// Bytes of the largest packet.
    #[serde(default = "default_mtu")]
    pub mtu: u16,
    /// Its addresses, if this host is to give them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<Subnet>,
}

/// A network card, or one VLAN on it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uplink {
    /// The card. It is brought up, and without a VLAN becomes a port of the bridge.
    pub link: LinkName,
    /// The VLAN's number, 1 to 4094; without one, all that is not tagged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
}

/// A VXLAN between hosts: each sends what it has for all to each of the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overlay {
    /// The overlay's number, the same on all hosts: below 2^24.
    pub vni: u32,
    /// This host's address.
    pub local: Ipv4Addr,
    /// The other hosts' addresses.
    pub peers: BTreeSet<Ipv4Addr>,
    /// The UDP port, the same on all hosts.
    #[serde(default = "default_port")]
    pub port: u16,
}

/// Addresses of a network, given by this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subnet {
    /// All of them.
    pub prefix: Prefix,
    /// This host's: the guests' gateway, DHCP and DNS server.
    pub host: Ipv4Addr,
    /// Those that DHCP may give away. (Interfaces may have others, and get them by DHCP too.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Range>,
    /// How long a guest may keep an address without asking again, in seconds: from 60 to a year.
    #[serde(default = "default_lease")]
    pub lease_seconds: u32,
    /// The domain that the guests' names are in.
    pub domain: DomainName,
    /// DNS servers for all other names; if empty, those of dom0's `/etc/resolv.conf`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forwarders: Vec<Ipv4Addr>,
    /// What lies outside for the guests.
    #[serde(default)]
    pub outside: Outside,
}

/// How a subnet's guests reach what is neither in their network nor on another network of this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outside {
    /// Not at all.
    #[default]
    None,
    /// Under the host's own address; nobody outside can begin.
    Nat,
    /// Under their own addresses: the world outside must know the way.
    Routed,
}

fn default_mtu() -> u16 {
    1500
}

fn default_port() -> u16 {
    VXLAN_PORT
}

fn default_lease() -> u32 {
    LEASE_SECONDS
}

impl Network {
    /// A network of this bridge, and nothing else.
    pub fn new(bridge: LinkName) -> Self {
        Self { bridge, uplink: None, overlay: None, mtu: default_mtu(), subnet: None }
    }

    /// The VLAN's interface, if there is one.
    pub(crate) fn vlan_link(&self) -> Option<Result<LinkName>> {
        let uplink = self.uplink.as_ref()?;
        let name = format!("{}.{}", uplink.link, uplink.vlan?);
        Some(name.parse().map_err(|_| {
            Error::Invalid(format!(
                "{name}, the VLAN's interface, would have too long a name: rename {}",
                uplink.link
            ))
        }))
    }

    /// The VXLAN's interface, if there is one.
    pub(crate) fn vxlan_link(&self) -> Option<LinkName> {
        let overlay = self.overlay.as_ref()?;
        format!("vx{}", overlay.vni).parse().ok()
    }

    /// An error that names what makes no sense.
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |text: String| Err(Error::Invalid(text));
        if !(576..=9216).contains(&self.mtu) {
            return wrong(format!("an MTU of {}: 576 to 9216 it can be", self.mtu));
        }
        if let Some(vlan) = self.uplink.as_ref().and_then(|u| u.vlan)
            && !(1..=4094).contains(&vlan)
        {
            return wrong(format!("VLAN {vlan}: they are numbered 1 to 4094"));
        }
        if let Some(Err(error)) = self.vlan_link() {
            return Err(error);
        }
        if let Some(overlay) = &self.overlay {
            self.check_overlay(overlay)?;
        }
        self.subnet.as_ref().map_or(Ok(()), Subnet::check)
    }

    fn check_overlay(&self, overlay: &Overlay) -> Result<()> {
        let wrong = |text: String| Err(Error::Invalid(text));
        if overlay.vni == 0 || overlay.vni >= 1 << 24 {
            return wrong(format!("overlay {}: they are numbered 1 to 16777215", overlay.vni));
        }
        let host =
            |a: &Ipv4Addr| !(a.is_unspecified() || a.is_multicast() || a.is_broadcast() || a.is_loopback());
        if let Some(bad) = overlay.peers.iter().chain([&overlay.local]).find(|a| !host(a)) {
            return wrong(format!("{bad} is no host's address for an overlay"));
        }
        if overlay.peers.contains(&overlay.local) {
            return wrong(format!("{} is this host's own address, and named as another's", overlay.local));
        }
        if overlay.port == 0 {
            return wrong("an overlay's port cannot be 0".to_owned());
        }
        if self.mtu > 9216 - VXLAN_OVERHEAD {
            return wrong(format!(
                "an MTU of {} leaves no room for the overlay's {VXLAN_OVERHEAD} bytes",
                self.mtu
            ));
        }
        Ok(())
    }
}

impl Subnet {
    fn check(&self) -> Result<()> {
        let wrong = |text: String| Err(Error::Invalid(text));
        if !self.prefix.has_host(self.host) {
            return wrong(format!("no host of {} has the address {}", self.prefix, self.host));
        }
        if let Some(range) = self.range
            && !(self.prefix.has_host(range.first()) && self.prefix.has_host(range.last()))
        {
            return wrong(format!("the range {range} is not within {}", self.prefix));
        }
        if !(60..=31_536_000).contains(&self.lease_seconds) {
            return wrong(format!("leases of {} s: 60 to 31536000 they can be", self.lease_seconds));
        }
        if self.forwarders.len() > 8 {
            return wrong("more than 8 DNS servers".to_owned());
        }
        Ok(())
    }
}
