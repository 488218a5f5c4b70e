//! The single changes that a reconciliation is made of.

use crate::mac::Mac;
use crate::name::LinkName;
use crate::observed::Shape;
use std::fmt;
use std::net::Ipv4Addr;

/// One change of the kernel's state. Each happens whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named for what they are")]
pub enum Op {
    /// The packet filter's rules, all at once.
    Rules,
    /// An interface of ours goes.
    Delete(String),
    /// An interface is no port of ours any more, and not ours.
    Release(String),
    /// Sends as fast as it can.
    Unshape(String),
    /// A bridge of ours.
    AddBridge { name: LinkName, mac: Mac, mtu: u16 },
    /// A VLAN of ours.
    AddVlan { name: LinkName, parent: LinkName, id: u16, mtu: u16 },
    /// A VXLAN of ours.
    AddVxlan { name: LinkName, vni: u32, local: Ipv4Addr, port: u16, mtu: u16 },
    /// The text for people.
    Alias { name: LinkName, alias: String },
    /// The largest packet.
    Mtu { name: LinkName, mtu: u16 },
    /// An address.
    AddAddress { name: LinkName, address: Ipv4Addr, length: u8 },
    /// An address that it is not to have.
    RemoveAddress { name: LinkName, address: Ipv4Addr, length: u8 },
    /// Another host of an overlay.
    AddPeer { name: LinkName, peer: Ipv4Addr },
    /// One that is none.
    RemovePeer { name: LinkName, peer: Ipv4Addr },
    /// Up.
    Up(LinkName),
    /// Sends no faster than so.
    Shape { name: LinkName, shape: Shape },
    /// A port of our bridge, up, and marked as ours.
    Join { name: LinkName, bridge: LinkName, alias: String },
    /// IPv4 packets are forwarded.
    Forwarding,
}

impl Op {
    /// The interface that it changes.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Rules | Self::Forwarding => None,
            Self::Delete(name) | Self::Release(name) | Self::Unshape(name) => Some(name),
            Self::Up(name)
            | Self::AddBridge { name, .. }
            | Self::AddVlan { name, .. }
            | Self::AddVxlan { name, .. }
            | Self::Alias { name, .. }
            | Self::Mtu { name, .. }
            | Self::AddAddress { name, .. }
            | Self::RemoveAddress { name, .. }
            | Self::AddPeer { name, .. }
            | Self::RemovePeer { name, .. }
            | Self::Shape { name, .. }
            | Self::Join { name, .. } => Some(name.as_str()),
        }
    }
}

impl Op {
    /// Whether it only takes something away: there is nothing to do if the interface is gone.
    pub fn takes_away(&self) -> bool {
        matches!(
            self,
            Self::Delete(_)
                | Self::Release(_)
                | Self::Unshape(_)
                | Self::RemoveAddress { .. }
                | Self::RemovePeer { .. }
        )
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rules => write!(f, "set the packet filter's rules"),
            Self::Delete(name) => write!(f, "remove {name}"),
            Self::Release(name) => write!(f, "let {name} go"),
            Self::Unshape(name) => write!(f, "remove the rate limit of {name}"),
            Self::AddBridge { name, mtu, .. } => write!(f, "make the bridge {name} with an MTU of {mtu}"),
            Self::AddVlan { name, parent, id, .. } => write!(f, "make {name}, VLAN {id} of {parent}"),
            Self::AddVxlan { name, vni, local, .. } => write!(f, "make {name}, overlay {vni} at {local}"),
            Self::Alias { name, alias } => write!(f, "call {name} {alias:?}"),
            Self::Mtu { name, mtu } => write!(f, "set the MTU of {name} to {mtu}"),
            Self::AddAddress { name, address, length } => {
                write!(f, "give {name} the address {address}/{length}")
            }
            Self::RemoveAddress { name, address, length } => write!(f, "take {address}/{length} from {name}"),
            Self::AddPeer { name, peer } => write!(f, "send what is for all on {name} to {peer} too"),
            Self::RemovePeer { name, peer } => write!(f, "send nothing on {name} to {peer}"),
            Self::Up(name) => write!(f, "bring {name} up"),
            Self::Shape { name, shape } => write!(f, "limit {name} to {} bytes/s", shape.rate),
            Self::Join { name, bridge, .. } => write!(f, "put {name} on the bridge {bridge}"),
            Self::Forwarding => write!(f, "forward IPv4 packets"),
        }
    }
}
