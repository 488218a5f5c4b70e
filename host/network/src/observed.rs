//! What dom0's kernel has.

use crate::interface::Rate;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// The group (`ip link ... group`) of interfaces that are ours: what we made, and what we made a port of ours. It is the mark,
/// because the kernel sets it in the same step in which it makes the interface: nobody is killed in between.
pub const GROUP: u32 = 0x7264_6e77;

/// The origin (`IFA_PROTO`) of addresses that we gave: the next one free behind those of the kernel.
pub const ORIGIN: u8 = 0x72;

/// What dom0's kernel has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Observed {
    /// All interfaces by name.
    pub links: BTreeMap<String, Link>,
    /// Whether IPv4 packets are forwarded between them.
    pub forwarding: bool,
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Link {
    /// The kernel's number of it.
    pub index: u32,
    /// What it is.
    pub kind: Kind,
    /// Bytes of its largest packet.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
    /// The bridge that it is a port of.
    pub master: Option<String>,
    /// Its group.
    pub group: u32,
    /// A text for people.
    pub alias: String,
    /// IPv4 addresses, and the lengths of their prefixes.
    pub addresses: BTreeSet<(Ipv4Addr, u8)>,
    /// Those of them that have our mark.
    pub given: BTreeSet<(Ipv4Addr, u8)>,
    /// Of a VXLAN: where it sends what is for all.
    pub peers: BTreeSet<Ipv4Addr>,
    /// How fast it sends, if it is held back.
    pub shaped: Option<Shape>,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// Bytes per second.
    pub rate: u32,
    /// Bytes that wait or may go at once.
    pub queue: u32,
}

impl From<Rate> for Shape {
    fn from(rate: Rate) -> Self {
        Self { rate: rate.bytes(), queue: rate.queue() }
    }
}

/// What an interface is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A bridge.
    Bridge,
    /// A VLAN on another interface.
    Vlan {
        /// That one's name.
        parent: String,
        /// The VLAN's number.
        id: u16,
    },
    /// A VXLAN.
    Vxlan {
        /// Its number.
        vni: u32,
        /// This host's address.
        local: Ipv4Addr,
        /// UDP port.
        port: u16,
    },
    /// Anything else: a card, a guest's interface, a tap.
    Other,
}

impl Link {
    /// Whether it is ours.
    pub fn ours(&self) -> bool {
        self.group == GROUP
    }
}
