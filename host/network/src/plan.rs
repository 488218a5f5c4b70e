//! What must change for the kernel to have what is declared. Pure: takes what is declared and what the kernel has, gives changes.
//!
//! The order is one in which a guest can at no moment do more than it may, wherever the work is cut short: ports go before their
//! rules do, rules are there before ports come, and a port comes last of all.

use crate::declared::Declared;
use crate::error::Error;
use crate::interface::Interface;
use crate::mac::Mac;
use crate::name::{LinkName, NetworkName};
use crate::network::{Network, Outside};
use crate::observed::{Kind, Link, Observed, Shape};
use crate::op::Op;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// Where the metadata service is, on each network with addresses.
pub const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// An interface that we make.
struct Made {
    kind: Kind,
    mtu: u16,
    alias: String,
    /// The bridge that it is a port of; none, if it is one itself.
    bridge: Option<LinkName>,
    /// For a bridge whose addresses are ours.
    addresses: Option<BTreeSet<(Ipv4Addr, u8)>>,
    peers: BTreeSet<Ipv4Addr>,
}

/// An interface that somebody else makes, and that is to be a port.
struct Port {
    bridge: LinkName,
    alias: String,
    /// Its sending is limited, or is not to be; what a card does is none of our business.
    shape: Option<Option<Shape>>,
}

/// Changes, in order, and what cannot be done.
#[derive(Debug, Default)]
pub struct Plan {
    /// Without whatever depends on a problem.
    pub ops: Vec<Op>,
    /// What stands in the way, and of which interface.
    pub problems: Vec<(String, Error)>,
}

/// The changes. `seed` tells this host's bridges from those of others.
pub fn plan(declared: &Declared, observed: &Observed, seed: &str) -> Plan {
    let mut problems = Vec::new();
    let (mut made, mut ports) = (made(declared), ports(declared));
    set_aside(&mut made, &mut ports, observed, &mut problems);
    let mut ops = Vec::new();
    leave(&made, &ports, observed, &mut ops);
    ops.push(Op::Rules);
    // What is gone for being of another kind is made anew.
    let gone: BTreeSet<String> = ops
        .iter()
        .filter(|op| matches!(op, Op::Delete(_)))
        .filter_map(|op| Some(op.name()?.to_owned()))
        .collect();
    let now = |name: &str| observed.links.get(name).filter(|_| !gone.contains(name));
    // A bridge comes before its ports.
    let bridges_first = made.iter().filter(|(_, m)| m.bridge.is_none());
    for (name, made) in bridges_first.chain(made.iter().filter(|(_, m)| m.bridge.is_some())) {
        make(name, made, now(name.as_str()), seed, &mut ops);
    }
    for uplink in declared.networks.values().filter_map(|n| n.uplink.as_ref()) {
        let up = observed.links.get(uplink.link.as_str()).is_none_or(|card| card.up);
        if !up && uplink.vlan.is_some() && !ports.contains_key(&uplink.link) {
            ops.push(Op::Up(uplink.link.clone()));
        }
    }
    let forwards = |n: &Network| n.subnet.as_ref().is_some_and(|s| s.outside != Outside::None);
    if !observed.forwarding && declared.networks.values().any(forwards) {
        ops.push(Op::Forwarding);
    }
    for (name, port) in &ports {
        if let Some(link) = observed.links.get(name.as_str()) {
            join(name, port, link, &mut ops);
        }
    }
    Plan { ops, problems }
}

fn made(declared: &Declared) -> BTreeMap<LinkName, Made> {
    let mut all = BTreeMap::new();
    for (name, network) in &declared.networks {
        let alias = format!("radon: network {name}");
        let made = |kind, bridge| Made {
            kind,
            mtu: network.mtu,
            alias: alias.clone(),
            bridge,
            addresses: None,
            peers: BTreeSet::new(),
        };
        let addresses = network
            .subnet
            .as_ref()
            .map(|subnet| BTreeSet::from([(subnet.host, subnet.prefix.length()), (METADATA, 32)]));
        all.insert(network.bridge.clone(), Made { addresses, ..made(Kind::Bridge, None) });
        let bridge = Some(network.bridge.clone());
        if let (Some(link), Some(uplink)) = (network.vlan_link().and_then(Result::ok), &network.uplink) {
            let kind = Kind::Vlan { parent: uplink.link.to_string(), id: uplink.vlan.unwrap_or(0) };
            all.insert(link, made(kind, bridge.clone()));
        }
        if let (Some(link), Some(overlay)) = (network.vxlan_link(), &network.overlay) {
            let kind = Kind::Vxlan { vni: overlay.vni, local: overlay.local, port: overlay.port };
            all.insert(link, Made { peers: overlay.peers.clone(), ..made(kind, bridge) });
        }
    }
    all
}

fn ports(declared: &Declared) -> BTreeMap<LinkName, Port> {
    let bridge = |network: &NetworkName| declared.networks.get(network).map(|n| n.bridge.clone());
    let guest = |(name, interface): (&LinkName, &Interface)| {
        let alias = format!("radon: guest of network {}", interface.network);
        let shape = Some(interface.rates.to_guest.map(Shape::from));
        Some((name.clone(), Port { bridge: bridge(&interface.network)?, alias, shape }))
    };
    let card = |(name, network): (&NetworkName, &Network)| {
        let uplink = network.uplink.as_ref().filter(|u| u.vlan.is_none())?;
        let alias = format!("radon: uplink of network {name}");
        Some((uplink.link.clone(), Port { bridge: network.bridge.clone(), alias, shape: None }))
    };
    declared.interfaces.iter().filter_map(guest).chain(declared.networks.iter().filter_map(card)).collect()
}

/// What is somebody else's is left alone, with all that depends on it.
fn set_aside(
    made: &mut BTreeMap<LinkName, Made>,
    ports: &mut BTreeMap<LinkName, Port>,
    observed: &Observed,
    problems: &mut Vec<(String, Error)>,
) {
    let foreign = |name: &LinkName, why: String| Error::Foreign { name: name.to_string(), why };
    let there = |name: &LinkName| observed.links.get(name.as_str());
    let mut aside = BTreeSet::new();
    for (name, made) in made.iter() {
        if there(name).is_some_and(|link| !link.ours()) {
            let why = "it is there already, without our mark".to_owned();
            problems.push((name.to_string(), foreign(name, why)));
            aside.insert(name.clone());
        } else if let Kind::Vlan { parent, .. } = &made.kind
            && !observed.links.contains_key(parent)
        {
            let missing = Error::Unknown { what: "network card", name: parent.clone() };
            problems.push((name.to_string(), missing));
            aside.insert(name.clone());
        }
    }
    for (name, port) in ports.iter() {
        let group = there(name).map_or(0, |link| if link.ours() { 0 } else { link.group });
        if group != 0 {
            let why = format!("it has the mark of somebody else: group {group}");
            problems.push((name.to_string(), foreign(name, why)));
            aside.insert(name.clone());
        } else if port.shape.is_none() && there(name).is_none() {
            let missing = Error::Unknown { what: "network card", name: name.to_string() };
            problems.push((name.to_string(), missing));
        }
    }
    made.retain(|name, made| {
        !aside.contains(name) && made.bridge.as_ref().is_none_or(|b| !aside.contains(b))
    });
    ports.retain(|name, port| !aside.contains(name) && !aside.contains(&port.bridge));
}

/// Whatever is ours and not declared, or not so.
fn leave(
    made: &BTreeMap<LinkName, Made>,
    ports: &BTreeMap<LinkName, Port>,
    observed: &Observed,
    ops: &mut Vec<Op>,
) {
    let ours = observed.links.iter().filter(|(_, link)| link.ours());
    let (mut delete, mut bridges) = (Vec::new(), Vec::new());
    for (name, link) in ours {
        match (&link.kind, made.get(name.as_str()), ports.get(name.as_str())) {
            (_, Some(made), _) if made.kind == link.kind => {}
            (_, _, Some(_)) => {}
            (Kind::Other, ..) => {
                ops.push(Op::Release(name.clone()));
                if link.shaped.is_some() {
                    // Before it is let go: then it is not ours any more, and nobody would.
                    ops.insert(ops.len() - 1, Op::Unshape(name.clone()));
                }
            }
            (Kind::Bridge, ..) => bridges.push(Op::Delete(name.clone())),
            _ => delete.push(Op::Delete(name.clone())),
        }
    }
    // A VLAN of ours on a bridge of ours goes with the bridge: so VLANs go first.
    ops.append(&mut delete);
    ops.append(&mut bridges);
}

/// An interface that we make, as it is to be.
fn make(name: &LinkName, made: &Made, now: Option<&Link>, seed: &str, ops: &mut Vec<Op>) {
    if now.is_none() {
        let (name, mtu) = (name.clone(), made.mtu);
        ops.push(match &made.kind {
            Kind::Vlan { parent, id } => match parent.parse() {
                Ok(parent) => Op::AddVlan { name, parent, id: *id, mtu },
                Err(_) => return,
            },
            Kind::Vxlan { vni, local, port } => {
                Op::AddVxlan { name, vni: *vni, local: *local, port: *port, mtu }
            }
            Kind::Bridge | Kind::Other => {
                let mac = Mac::of(&format!("{seed} {name}"));
                Op::AddBridge { name, mac, mtu }
            }
        });
    }
    if now.is_some_and(|l| l.mtu != u32::from(made.mtu)) {
        ops.push(Op::Mtu { name: name.clone(), mtu: made.mtu });
    }
    // On a bridge whose addresses are not ours to give, somebody else's stay.
    let has = now.map(|l| if made.addresses.is_some() { &l.addresses } else { &l.given }.clone());
    let (has, wanted) = (has.unwrap_or_default(), made.addresses.clone().unwrap_or_default());
    for &(address, length) in has.difference(&wanted) {
        ops.push(Op::RemoveAddress { name: name.clone(), address, length });
    }
    for &(address, length) in wanted.difference(&has) {
        ops.push(Op::AddAddress { name: name.clone(), address, length });
    }
    let has = now.map(|l| l.peers.clone()).unwrap_or_default();
    ops.extend(has.difference(&made.peers).map(|&peer| Op::RemovePeer { name: name.clone(), peer }));
    ops.extend(made.peers.difference(&has).map(|&peer| Op::AddPeer { name: name.clone(), peer }));
    match &made.bridge {
        None => {
            if now.is_none_or(|l| l.alias != made.alias) {
                ops.push(Op::Alias { name: name.clone(), alias: made.alias.clone() });
            }
            if now.is_none_or(|l| !l.up) {
                ops.push(Op::Up(name.clone()));
            }
        }
        Some(bridge) => {
            let master = Some(bridge.to_string());
            if now.is_none_or(|l| (&l.master, l.up, &l.alias) != (&master, true, &made.alias)) {
                ops.push(Op::Join { name: name.clone(), bridge: bridge.clone(), alias: made.alias.clone() });
            }
        }
    }
}

fn join(name: &LinkName, port: &Port, link: &Link, ops: &mut Vec<Op>) {
    match port.shape {
        Some(Some(shape)) if link.shaped != Some(shape) => ops.push(Op::Shape { name: name.clone(), shape }),
        Some(None) if link.shaped.is_some() => ops.push(Op::Unshape(name.to_string())),
        _ => {}
    }
    let there = (link.master.as_deref(), link.up, link.ours(), link.alias.as_str())
        == (Some(port.bridge.as_str()), true, true, port.alias.as_str());
    if !there {
        ops.push(Op::Join { name: name.clone(), bridge: port.bridge.clone(), alias: port.alias.clone() });
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
