//! The kernel's real state, in a network namespace of its own: made, changed, cut short by a kill after each change, removed.
//!
//! The tests start themselves anew within the namespace (`unshare`), so that nothing they do reaches the machine.

mod namespace;

use namespace::{ip, program, within};
use radon_network::observed::{Link, Observed};
use radon_network::{Declared, Networks};
use std::collections::BTreeMap;
use std::path::Path;

/// Two taps stand for guests' interfaces, one for a network card.
fn interfaces() {
    for name in ["vif1.0", "vif2.0", "eth9"] {
        ip(&["tuntap", "add", name, "mode", "tap"]);
    }
    ip(&["link", "set", "lo", "up"]);
}

fn declared(text: &str) -> Declared {
    serde_json::from_str(text).unwrap()
}

/// A network with everything but a VLAN, which not every kernel has, and one with little.
const ONE: &str = r#"{"networks": {
    "a": {"bridge": "br-a", "uplink": {"link": "eth9"}, "mtu": 1450,
          "overlay": {"vni": 7, "local": "192.0.2.1", "peers": ["192.0.2.2", "192.0.2.3"]},
          "subnet": {"prefix": "10.1.0.0/24", "host": "10.1.0.1", "range": "10.1.0.10-10.1.0.20", "domain": "a.test", "outside": "nat"}},
    "b": {"bridge": "br-b"}},
  "interfaces": {
    "vif1.0": {"network": "a", "mac": "00:16:3e:00:00:01", "ipv4": ["10.1.0.10"], "host_name": "one",
               "rates": {"to_guest": 10000000, "from_guest": 20000000}},
    "vif2.0": {"network": "b", "mac": "00:16:3e:00:00:02", "guard": "unlocked"}}}"#;

/// The same, changed in every respect.
const TWO: &str = r#"{"networks": {
    "a": {"bridge": "br-a", "mtu": 1400,
          "overlay": {"vni": 7, "local": "192.0.2.9", "peers": ["192.0.2.3"]},
          "subnet": {"prefix": "10.1.0.0/24", "host": "10.1.0.2", "domain": "a.test", "outside": "none"}},
    "c": {"bridge": "br-c", "uplink": {"link": "eth9"}}},
  "interfaces": {
    "vif1.0": {"network": "c", "mac": "00:16:3e:00:00:01", "rates": {"to_guest": 30000000}, "guard": "disabled"},
    "vif2.0": {"network": "a", "mac": "00:16:3e:00:00:02", "ipv4": ["10.1.0.9"]}}}"#;

const NONE: &str = r#"{"networks": {}, "interfaces": {}}"#;

/// What counts of the kernel's state: numbers of interfaces are new each time, and what is up stays up.
fn state(networks: &Networks) -> (BTreeMap<String, Link>, String) {
    let Observed { mut links, .. } = networks.observe().unwrap().observed;
    for link in links.values_mut() {
        link.index = 0;
        link.up |= link.kind == radon_network::observed::Kind::Other;
    }
    (links, namespace::rules())
}

fn put(dir: &Path, text: &str) {
    std::fs::write(dir.join("declared.json"), text).unwrap();
}

/// From one declared state to another, killed after each change in turn.
fn killed_between(from: &str, to: &str) {
    let dir = tempfile::tempdir().unwrap();
    let networks = Networks::open(dir.path()).unwrap();
    networks.declare(declared(NONE)).unwrap();
    networks.declare(declared(to)).unwrap();
    let wanted = state(&networks);
    let mut kills = 0;
    for after in 1.. {
        networks.declare(declared(from)).unwrap();
        put(dir.path(), to);
        let died = program(dir.path(), &["reconcile", "--die-after", &after.to_string()]);
        if died.status.success() {
            break;
        }
        kills += 1;
        assert!(!died.status.success() && died.status.code().is_none(), "killed, not failed: {died:?}");
        networks.reconcile().unwrap();
        assert_eq!(state(&networks), wanted, "killed after {after} changes");
        assert_eq!(networks.observe().unwrap().pending, Vec::<String>::new());
    }
    assert!(kills >= 5, "only {kills} changes");
}

#[test]
fn killed_after_each_change_it_ends_in_the_same_state() {
    if !within("killed_after_each_change_it_ends_in_the_same_state") {
        return;
    }
    interfaces();
    killed_between(NONE, ONE);
    killed_between(ONE, TWO);
    killed_between(TWO, ONE);
    killed_between(ONE, NONE);
    // Nothing of ours is left.
    let dir = tempfile::tempdir().unwrap();
    let networks = Networks::open(dir.path()).unwrap();
    networks.declare(declared(NONE)).unwrap();
    let (links, rules) = state(&networks);
    assert_eq!(links.keys().collect::<Vec<_>>(), ["eth9", "lo", "vif1.0", "vif2.0"]);
    assert!(
        links.values().all(|l| !l.ours() && l.alias.is_empty() && l.master.is_none() && l.shaped.is_none())
    );
    assert_eq!(rules, "");
}

#[test]
fn what_is_declared_is_there_and_what_is_not_ours_stays() {
    if !within("what_is_declared_is_there_and_what_is_not_ours_stays") {
        return;
    }
    interfaces();
    ip(&["link", "add", "stranger", "type", "bridge"]);
    ip(&["address", "add", "10.9.0.1/24", "dev", "stranger"]);
    let dir = tempfile::tempdir().unwrap();
    let networks = Networks::open(dir.path()).unwrap();
    networks.declare(declared(ONE)).unwrap();
    let links = networks.observe().unwrap().observed.links;
    let (bridge, guest, vxlan) = (&links["br-a"], &links["vif1.0"], &links["vx7"]);
    assert_eq!((bridge.mtu, bridge.up, bridge.alias.as_str()), (1450, true, "radon: network a"));
    assert_eq!(bridge.addresses.len(), 2);
    assert_eq!((guest.master.as_deref(), guest.shaped.map(|s| s.rate)), (Some("br-a"), Some(1_250_000)));
    assert_eq!((vxlan.peers.len(), vxlan.master.as_deref()), (2, Some("br-a")));
    // The kernel's own tools agree.
    assert!(ip(&["-d", "link", "show", "vx7"]).contains("vxlan id 7 local 192.0.2.1"));
    assert!(namespace::run("tc", &["qdisc", "show", "dev", "vif1.0"]).contains("rate 10Mbit"));
    assert!(namespace::rules().contains("ip saddr 10.1.0.0/24 ip daddr != 10.1.0.0/24 masquerade"));
    // Somebody changes it by hand: it is put right.
    ip(&["link", "set", "vif1.0", "nomaster"]);
    ip(&["address", "add", "10.5.0.1/24", "dev", "br-a"]);
    assert_eq!(networks.observe().unwrap().pending.len(), 2);
    networks.reconcile().unwrap();
    assert_eq!(networks.observe().unwrap().pending.len(), 0);
    // A bridge of somebody else's of a name that is wanted: an error that says so, and everything else is done.
    let mut more = declared(ONE);
    more.networks.insert("x".parse().unwrap(), radon_network::Network::new("stranger".parse().unwrap()));
    more.networks.insert("y".parse().unwrap(), radon_network::Network::new("br-y".parse().unwrap()));
    let error = networks.declare(more).unwrap_err().to_string();
    assert!(error.contains("stranger is not ours"), "{error}");
    let links = networks.observe().unwrap().observed.links;
    assert!(links["br-y"].ours() && !links["stranger"].ours() && links["stranger"].addresses.len() == 1);
    // An interface that comes later is connected when it is there; one that goes leaves nothing.
    networks.declare(declared(ONE)).unwrap();
    ip(&["link", "delete", "vif1.0"]);
    networks.reconcile().unwrap();
    ip(&["tuntap", "add", "vif1.0", "mode", "tap"]);
    networks.reconcile().unwrap();
    assert_eq!(networks.observe().unwrap().observed.links["vif1.0"].master.as_deref(), Some("br-a"));
}

#[test]
fn many_at_once_lose_nothing() {
    if !within("many_at_once_lose_nothing") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let networks = Networks::open(dir.path()).unwrap();
    networks.declare(declared(&ONE.replace(r#""uplink": {"link": "eth9"}, "#, ""))).unwrap();
    std::thread::scope(|scope| {
        for n in 3..9u8 {
            let networks = &networks;
            scope.spawn(move || {
                let mac = radon_network::Mac::new([0, 0x16, 0x3e, 0, 0, n]).unwrap();
                let nic = radon_network::Interface::new("a".parse().unwrap(), mac);
                networks.declare_interface(&format!("vif{n}.0").parse().unwrap(), nic).unwrap();
            });
        }
    });
    let declared = networks.declared().unwrap();
    let addresses: std::collections::BTreeSet<_> =
        declared.interfaces.values().flat_map(|i| i.ipv4.iter()).collect();
    assert_eq!((declared.interfaces.len(), addresses.len()), (8, 7));
    assert!(networks.remove_network(&"a".parse().unwrap()).unwrap_err().to_string().contains("in use"));
}
