//! Plans carried out on a model of the kernel, cut short anywhere.

use super::*;
use crate::observed::GROUP;
use proptest::prelude::*;

/// What the kernel does.
fn apply(observed: &mut Observed, op: &Op) {
    let add = |observed: &mut Observed, name: &LinkName, kind, mtu: u16| {
        assert!(!observed.links.contains_key(name.as_str()), "{name} is there already");
        let link = Link { kind, mtu: u32::from(mtu), group: GROUP, ..card() };
        observed.links.insert(name.to_string(), link);
    };
    if let Op::AddBridge { name, mtu, .. } = op {
        return add(observed, name, Kind::Bridge, *mtu);
    }
    if let Op::AddVlan { name, parent, id, mtu } = op {
        assert!(observed.links.contains_key(parent.as_str()));
        return add(observed, name, Kind::Vlan { parent: parent.to_string(), id: *id }, *mtu);
    }
    if let Op::AddVxlan { name, vni, local, port, mtu } = op {
        return add(observed, name, Kind::Vxlan { vni: *vni, local: *local, port: *port }, *mtu);
    }
    if *op == Op::Forwarding {
        observed.forwarding = true;
    }
    if let Op::Delete(name) = op {
        assert!(observed.links.remove(name).is_some_and(|l| l.ours()), "{name} was not ours");
        for link in observed.links.values_mut().filter(|l| l.master.as_deref() == Some(name)) {
            link.master = None;
        }
    }
    if let Op::Join { bridge, .. } = op {
        assert!(observed.links.get(bridge.as_str()).is_some_and(|l| l.ours() && l.kind == Kind::Bridge));
    }
    let Some(link) = op.name().filter(|_| !matches!(op, Op::Delete(_))).map(|n| observed.links.get_mut(n))
    else {
        return;
    };
    let link = link.unwrap_or_else(|| panic!("{op}: no such interface"));
    match op {
        Op::Release(_) => (link.master, link.group, link.alias) = (None, 0, String::new()),
        Op::Unshape(_) => link.shaped = None,
        Op::Shape { shape, .. } => link.shaped = Some(*shape),
        Op::Mtu { mtu, .. } => link.mtu = u32::from(*mtu),
        Op::Alias { alias, .. } => link.alias.clone_from(alias),
        Op::Up(_) => link.up = true,
        Op::AddAddress { address, length, .. } => {
            assert!(link.addresses.insert((*address, *length)));
            link.given.insert((*address, *length));
        }
        Op::RemoveAddress { address, length, .. } => {
            assert!(link.addresses.remove(&(*address, *length)));
            link.given.remove(&(*address, *length));
        }
        Op::AddPeer { peer, .. } => assert!(link.peers.insert(*peer)),
        Op::RemovePeer { peer, .. } => assert!(link.peers.remove(peer)),
        Op::Join { bridge, alias, .. } => {
            (link.master, link.up, link.group) = (Some(bridge.to_string()), true, GROUP);
            link.alias.clone_from(alias);
        }
        _ => {}
    }
}

fn card() -> Link {
    Link {
        index: 0,
        kind: Kind::Other,
        mtu: 1500,
        up: false,
        master: None,
        group: 0,
        alias: String::new(),
        addresses: BTreeSet::new(),
        given: BTreeSet::new(),
        peers: BTreeSet::new(),
        shaped: None,
    }
}

fn start() -> Observed {
    let names = ["eth0", "eth1", "vif1.0", "vif2.0", "vif3.0", "stranger"];
    Observed { links: names.map(|n| (n.to_owned(), card())).into(), forwarding: false }
}

/// Some networks and interfaces out of a few, so that they collide and change.
fn declared() -> impl Strategy<Value = Declared> {
    let uplink = proptest::option::of((0..2u8, proptest::option::of(5u16..7)));
    let overlay = proptest::option::of((8u32..10, 1u8..4));
    let network = proptest::option::of((uplink, overlay, any::<bool>(), 0..2u8));
    let interface = proptest::option::of((0..2u8, proptest::option::of(1u8..3)));
    let all = (proptest::collection::vec(network, 2), proptest::collection::vec(interface, 3));
    all.prop_map(|(networks, interfaces)| {
        let mut declared = Declared::default();
        for (n, network) in networks.into_iter().enumerate() {
            let Some((uplink, overlay, subnet, mtu)) = network else { continue };
            let mut new = Network::new(format!("br{n}").parse().unwrap());
            new.mtu = 1400 + u16::from(mtu);
            new.uplink = uplink.map(|(card, vlan)| crate::network::Uplink {
                link: format!("eth{card}").parse().unwrap(),
                vlan,
            });
            new.overlay = overlay.map(|(vni, peers)| crate::network::Overlay {
                vni,
                local: Ipv4Addr::new(192, 0, 2, 100),
                peers: (0..peers).map(|p| Ipv4Addr::new(192, 0, 2, p + 1)).collect(),
                port: 4789,
            });
            let text = format!(
                r#"{{"prefix": "10.{n}.0.0/24", "host": "10.{n}.0.{}", "domain": "d", "outside": "nat"}}"#,
                mtu + 1
            );
            new.subnet = subnet.then(|| serde_json::from_str(&text).unwrap());
            declared.networks.insert(format!("n{n}").parse().unwrap(), new);
        }
        for (n, interface) in interfaces.into_iter().enumerate() {
            let Some((network, rate)) = interface else { continue };
            let mac = Mac::new([0, 0x16, 0x3e, 0, 0, n as u8]).unwrap();
            let mut new = Interface::new(format!("n{network}").parse().unwrap(), mac);
            new.rates.to_guest = rate.map(|r| crate::interface::Rate::new(u64::from(r) * 1_000_000).unwrap());
            declared.interfaces.insert(format!("vif{}.0", n + 1).parse().unwrap(), new);
        }
        declared
    })
    .prop_filter("makes sense", |d| d.check().is_ok())
}

/// What counts of the end: whatever it began with.
fn settled(declared: &Declared, mut observed: Observed) -> Observed {
    for op in plan(declared, &observed, "s").ops {
        apply(&mut observed, &op);
    }
    let again = plan(declared, &observed, "s");
    assert_eq!(again.ops, [Op::Rules], "nothing is left to do");
    assert!(again.problems.is_empty());
    observed
}

proptest! {
    #[test]
    fn cut_short_anywhere_it_ends_in_the_same_state(one in declared(), two in declared(), cut: prop::sample::Index) {
        let mut observed = settled(&one, start());
        let ops = plan(&two, &observed, "s").ops;
        for op in ops.iter().take(cut.index(ops.len() + 1)) {
            apply(&mut observed, op);
        }
        let (cut, whole) = (settled(&two, observed), settled(&two, start()));
        let mut cut = cut.links;
        let mut whole = whole.links;
        // What is up stays up, but nobody's state is made of it.
        for link in cut.values_mut().chain(whole.values_mut()).filter(|l| l.kind == Kind::Other) {
            link.up = true;
        }
        prop_assert_eq!(cut, whole);
    }

    #[test]
    fn nothing_declared_leaves_nothing_of_ours(one in declared()) {
        let observed = settled(&Declared::default(), settled(&one, start()));
        prop_assert!(observed.links.values().all(|l| !l.ours()));
        prop_assert_eq!(observed.links.len(), start().links.len());
        prop_assert_eq!(&observed.links["stranger"], &card());
    }

    #[test]
    fn a_guest_is_connected_after_everything_else(one in declared(), two in declared()) {
        let ops = plan(&two, &settled(&one, start()), "s").ops;
        let rules = ops.iter().position(|op| *op == Op::Rules).unwrap();
        for (at, op) in ops.iter().enumerate() {
            if matches!(op, Op::Join { name, .. } if name.as_str().starts_with("vif")) {
                prop_assert!(at > rules);
                let later = ops[at + 1..].iter().any(|later| later.name() == op.name());
                prop_assert!(!later, "{} and then more of it", op);
            }
            if matches!(op, Op::Release(_)) {
                prop_assert!(at < rules);
            }
        }
    }
}

#[test]
fn what_is_somebody_elses_is_left_alone() {
    let mut declared = Declared::default();
    for name in ["stranger", "br1"] {
        declared.networks.insert(name.parse().unwrap(), Network::new(name.parse().unwrap()));
    }
    let guest =
        |network: &str, n| Interface::new(network.parse().unwrap(), Mac::new([0, 0, 0, 0, 0, n]).unwrap());
    declared.interfaces.insert("vif1.0".parse().unwrap(), guest("stranger", 1));
    declared.interfaces.insert("vif2.0".parse().unwrap(), guest("br1", 2));
    let plan = plan(&declared, &start(), "s");
    assert!(matches!(plan.problems.as_slice(), [(_, Error::Foreign { name, .. })] if name == "stranger"));
    let names: BTreeSet<_> = plan.ops.iter().filter_map(Op::name).collect();
    assert_eq!(names, ["br1", "vif2.0"].into());
}
