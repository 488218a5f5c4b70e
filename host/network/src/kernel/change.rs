//! Single changes of the kernel's state.

use super::netlink::{APPEND, CREATE, EXCLUSIVE, Netlink, REPLACE};
use super::{read, shaping};
use crate::name::LinkName;
use crate::observed::{GROUP, ORIGIN};
use crate::op::Op;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVlan, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use rustix::io::Errno;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

/// Carries out one change, all but [`Op::Rules`].
pub fn execute(netlink: &mut Netlink, op: &Op) -> io::Result<()> {
    match carry_out(netlink, op) {
        // A guest's interface goes with its domain at any moment, and what was to be taken from it with it.
        Err(error) if op.takes_away() && error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => Ok(()),
        done => done,
    }
}

fn carry_out(netlink: &mut Netlink, op: &Op) -> io::Result<()> {
    match op {
        Op::Rules => Ok(()),
        Op::Forwarding => std::fs::write(read::FORWARDING, "1"),
        Op::Delete(name) => {
            let message = link(index(name)?);
            netlink.change(Message::DelLink(message), 0)
        }
        Op::Release(name) => {
            let mut message = link(index(name)?);
            let none = LinkAttribute::IfAlias(String::new());
            message.attributes = vec![LinkAttribute::Controller(0), LinkAttribute::Group(0), none];
            netlink.change(Message::SetLink(message), 0)
        }
        Op::Unshape(name) => {
            netlink.change(Message::DelQueueDiscipline(shaping::message(index(name)?, None)), 0)
        }
        Op::Shape { name, shape } => {
            let message = shaping::message(index(name.as_str())?, Some(*shape));
            netlink.change(Message::NewQueueDiscipline(message), CREATE | REPLACE)
        }
        Op::AddBridge { name, mac, mtu } => {
            let address = LinkAttribute::Address(mac.bytes().to_vec());
            add(netlink, name, *mtu, vec![address], vec![LinkInfo::Kind(InfoKind::Bridge)])
        }
        Op::AddVlan { name, parent, id, mtu } => {
            let data = LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(*id)]));
            let parent = LinkAttribute::Link(index(parent.as_str())?);
            add(netlink, name, *mtu, vec![parent], vec![LinkInfo::Kind(InfoKind::Vlan), data])
        }
        Op::AddVxlan { name, vni, local, port, mtu } => {
            let data = vec![
                InfoVxlan::Id(*vni),
                InfoVxlan::Local(*local),
                InfoVxlan::Port(*port),
                InfoVxlan::Learning(true),
            ];
            let data = LinkInfo::Data(InfoData::Vxlan(data));
            add(netlink, name, *mtu, Vec::new(), vec![LinkInfo::Kind(InfoKind::Vxlan), data])
        }
        Op::Alias { name, alias } => set(netlink, name, vec![LinkAttribute::IfAlias(alias.clone())], false),
        Op::Mtu { name, mtu } => set(netlink, name, vec![LinkAttribute::Mtu(u32::from(*mtu))], false),
        Op::Up(name) => set(netlink, name, Vec::new(), true),
        Op::Join { name, bridge, alias } => {
            let attributes = vec![
                LinkAttribute::Group(GROUP),
                LinkAttribute::IfAlias(alias.clone()),
                LinkAttribute::Controller(index(bridge.as_str())?),
            ];
            set(netlink, name, attributes, true)
        }
        Op::AddAddress { name, address, length } => {
            let message = self::address(name, *address, *length)?;
            netlink.change(Message::NewAddress(message), CREATE | EXCLUSIVE)
        }
        Op::RemoveAddress { name, address, length } => {
            netlink.change(Message::DelAddress(self::address(name, *address, *length)?), 0)
        }
        Op::AddPeer { name, peer } => {
            netlink.change(Message::NewNeighbour(self::peer(name, *peer)?), CREATE | APPEND)
        }
        Op::RemovePeer { name, peer } => netlink.change(Message::DelNeighbour(self::peer(name, *peer)?), 0),
    }
}

/// The kernel's number of an interface.
pub fn index(name: &str) -> io::Result<u32> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    Ok(rustix::net::netdevice::name_to_index(socket, name)?)
}

fn link(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

/// Makes an interface of ours. Name and mark are set in the same step.
fn add(
    netlink: &mut Netlink,
    name: &LinkName,
    mtu: u16,
    mut attributes: Vec<LinkAttribute>,
    info: Vec<LinkInfo>,
) -> io::Result<()> {
    let mut message = link(0);
    attributes.extend([
        LinkAttribute::IfName(name.to_string()),
        LinkAttribute::Group(GROUP),
        LinkAttribute::Mtu(u32::from(mtu)),
        LinkAttribute::LinkInfo(info),
    ]);
    message.attributes = attributes;
    netlink.change(Message::NewLink(message), CREATE | EXCLUSIVE)
}

fn set(netlink: &mut Netlink, name: &LinkName, attributes: Vec<LinkAttribute>, up: bool) -> io::Result<()> {
    let mut message = link(index(name.as_str())?);
    if up {
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
    }
    message.attributes = attributes;
    netlink.change(Message::SetLink(message), 0)
}

fn address(name: &LinkName, address: Ipv4Addr, length: u8) -> io::Result<AddressMessage> {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = length;
    message.header.index = index(name.as_str())?;
    // The metadata service's address is the same on all bridges, and never a source of what the host sends elsewhere.
    message.header.scope = if address.is_link_local() { AddressScope::Link } else { AddressScope::Universe };
    let ip = IpAddr::V4(address);
    message.attributes = vec![
        AddressAttribute::Local(ip),
        AddressAttribute::Address(ip),
        AddressAttribute::Protocol(ORIGIN.into()),
    ];
    Ok(message)
}

/// An entry of a VXLAN's table for the address that stands for all others: zeros.
fn peer(name: &LinkName, peer: Ipv4Addr) -> io::Result<NeighbourMessage> {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index(name.as_str())?;
    message.header.state = NeighbourState::Other(PERMANENT_NO_ARP);
    message.header.flags = NeighbourFlags::Own;
    message.attributes = vec![
        NeighbourAttribute::LinkLayerAddress(vec![0; 6]),
        NeighbourAttribute::Destination(NeighbourAddress::Inet(peer)),
    ];
    Ok(message)
}

/// `NUD_PERMANENT | NUD_NOARP`.
const PERMANENT_NO_ARP: u16 = 0x80 | 0x40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_needs_nothing_taken_away() {
        let mut netlink = Netlink::open().unwrap();
        let name: LinkName = "vif60000.0".parse().unwrap();
        let gone =
            [Op::Delete(name.to_string()), Op::Release(name.to_string()), Op::Unshape(name.to_string())];
        for op in gone {
            execute(&mut netlink, &op).unwrap();
        }
        assert_eq!(execute(&mut netlink, &Op::Up(name)).unwrap_err().raw_os_error(), Some(19));
    }
}
