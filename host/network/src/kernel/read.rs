//! What the kernel has.

use super::netlink::Netlink;
use super::shaping;
use crate::observed::{Kind, Link, ORIGIN, Observed};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVlan, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::tc::TcMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};

/// Where the kernel says whether it forwards.
pub const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// Reads it all.
pub fn observe(netlink: &mut Netlink) -> io::Result<Observed> {
    let messages: Vec<LinkMessage> = netlink
        .dump(Message::GetLink(LinkMessage::default()))?
        .into_iter()
        .filter_map(|m| match m {
            Message::NewLink(link) => Some(link),
            _ => None,
        })
        .collect();
    let names: BTreeMap<u32, String> =
        messages.iter().filter_map(|m| Some((m.header.index, name(m)?))).collect();
    let mut links: BTreeMap<String, Link> =
        messages.iter().filter_map(|m| Some((name(m)?, link(m, &names)))).collect();
    addresses(netlink, &names, &mut links)?;
    peers(netlink, &names, &mut links)?;
    shapes(netlink, &names, &mut links)?;
    let forwarding = std::fs::read_to_string(FORWARDING)?.trim() == "1";
    Ok(Observed { links, forwarding })
}

fn name(message: &LinkMessage) -> Option<String> {
    message.attributes.iter().find_map(|a| match a {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

fn link(message: &LinkMessage, names: &BTreeMap<u32, String>) -> Link {
    let mut link = Link {
        index: message.header.index,
        kind: Kind::Other,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        master: None,
        group: 0,
        alias: String::new(),
        addresses: BTreeSet::new(),
        given: BTreeSet::new(),
        peers: BTreeSet::new(),
        shaped: None,
    };
    let mut parent = String::new();
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(index) => link.master = names.get(index).cloned(),
            LinkAttribute::Group(group) => link.group = *group,
            LinkAttribute::IfAlias(alias) => link.alias = alias.clone(),
            LinkAttribute::Link(index) => parent = names.get(index).cloned().unwrap_or_default(),
            LinkAttribute::LinkInfo(info) => link.kind = kind(info),
            _ => {}
        }
    }
    if let Kind::Vlan { parent: of, .. } = &mut link.kind {
        *of = parent;
    }
    link
}

fn kind(info: &[LinkInfo]) -> Kind {
    let is_bridge = |i: &LinkInfo| matches!(i, LinkInfo::Kind(InfoKind::Bridge));
    if info.iter().any(is_bridge) {
        return Kind::Bridge;
    }
    let data = info.iter().find_map(|i| match i {
        LinkInfo::Data(data) => Some(data),
        _ => None,
    });
    match data {
        Some(InfoData::Vlan(all)) => {
            let id = all.iter().find_map(|v| match v {
                InfoVlan::Id(id) => Some(*id),
                _ => None,
            });
            Kind::Vlan { parent: String::new(), id: id.unwrap_or(0) }
        }
        Some(InfoData::Vxlan(all)) => {
            let (mut vni, mut local, mut port) = (0, Ipv4Addr::UNSPECIFIED, 0);
            for value in all {
                match value {
                    InfoVxlan::Id(id) => vni = *id,
                    InfoVxlan::Local(address) => local = *address,
                    InfoVxlan::Port(number) => port = *number,
                    _ => {}
                }
            }
            Kind::Vxlan { vni, local, port }
        }
        _ => Kind::Other,
    }
}

fn addresses(
    netlink: &mut Netlink,
    names: &BTreeMap<u32, String>,
    links: &mut BTreeMap<String, Link>,
) -> io::Result<()> {
    let mut request = AddressMessage::default();
    request.header.family = AddressFamily::Inet;
    for message in netlink.dump(Message::GetAddress(request))? {
        let Message::NewAddress(message) = message else { continue };
        // The kernel tells every local address, whatever family was asked for, if it is old.
        let local = message.attributes.iter().find_map(|a| match a {
            AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
            _ => None,
        });
        if let (Some(local), Some(link)) =
            (local, names.get(&message.header.index).and_then(|n| links.get_mut(n)))
        {
            let address = (local, message.header.prefix_len);
            link.addresses.insert(address);
            if message.attributes.contains(&AddressAttribute::Protocol(ORIGIN.into())) {
                link.given.insert(address);
            }
        }
    }
    Ok(())
}

fn peers(
    netlink: &mut Netlink,
    names: &BTreeMap<u32, String>,
    links: &mut BTreeMap<String, Link>,
) -> io::Result<()> {
    if !links.values().any(|l| matches!(l.kind, Kind::Vxlan { .. })) {
        return Ok(());
    }
    let mut request = NeighbourMessage::default();
    request.header.family = AddressFamily::Bridge;
    for message in netlink.dump(Message::GetNeighbour(request))? {
        let Message::NewNeighbour(message) = message else { continue };
        let for_all = message.attributes.contains(&NeighbourAttribute::LinkLayerAddress(vec![0; 6]));
        let to = message.attributes.iter().find_map(|a| match a {
            NeighbourAttribute::Destination(to) => destination(to),
            _ => None,
        });
        if let (true, Some(to), Some(link)) =
            (for_all, to, names.get(&message.header.ifindex).and_then(|n| links.get_mut(n)))
        {
            link.peers.insert(to);
        }
    }
    Ok(())
}

/// The family of the message is that of bridges, so the codec may leave the address as it is.
fn destination(to: &NeighbourAddress) -> Option<Ipv4Addr> {
    match to {
        NeighbourAddress::Inet(address) => Some(*address),
        NeighbourAddress::Other(bytes) => <[u8; 4]>::try_from(bytes.as_slice()).ok().map(Ipv4Addr::from),
        _ => None,
    }
}

fn shapes(
    netlink: &mut Netlink,
    names: &BTreeMap<u32, String>,
    links: &mut BTreeMap<String, Link>,
) -> io::Result<()> {
    for message in netlink.dump(Message::GetQueueDiscipline(TcMessage::default()))? {
        let Message::NewQueueDiscipline(message) = message else { continue };
        if let (Some(shape), Some(link)) = (
            shaping::shape(&message),
            names.get(&message.header.index.cast_unsigned()).and_then(|n| links.get_mut(n)),
        ) {
            link.shaped = Some(shape);
        }
    }
    Ok(())
}
