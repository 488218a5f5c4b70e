//! Everything that is declared, and the one file that it is kept in.
//!
//! The file is JSON (`declared.json`), for its owner's eyes only: user-data may hold secrets. It is written under another name,
//! made durable, and renamed: whoever is killed leaves the old state or the new one.

use crate::error::{Error, Result};
use crate::interface::Interface;
use crate::mac::Mac;
use crate::name::{LinkName, NetworkName};
use crate::network::Network;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The file's name in the folder of the state.
pub const FILE: &str = "declared.json";
/// Where a new state is written first.
const NEW: &str = "declared.json.new";

/// What there is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// Networks.
    pub networks: BTreeMap<NetworkName, Network>,
    /// Guests' interfaces, by the names of dom0's ends.
    pub interfaces: BTreeMap<LinkName, Interface>,
}

impl Declared {
    /// What a folder's file says; nothing, if there is none.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(Error::File { path, source }),
        };
        let declared: Self = serde_json::from_slice(&text)
            .map_err(|error| Error::Damaged { path: path.clone(), message: error.to_string() })?;
        declared.check().map_err(|error| Error::Damaged { path, message: error.to_string() })?;
        Ok(declared)
    }

    /// Writes it down.
    pub(crate) fn store(&self, dir: &Path) -> Result<()> {
        let (new, path) = (dir.join(NEW), dir.join(FILE));
        let file = |source| Error::File { path: new.clone(), source };
        let text = serde_json::to_vec_pretty(self).map_err(|e| file(e.into()))?;
        let mut out = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)
            .map_err(file)?;
        out.write_all(&text).and_then(|()| out.sync_all()).map_err(file)?;
        fs::rename(&new, &path).map_err(file)?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(file)
    }

    /// The interfaces of a network.
    pub fn of<'a>(&'a self, network: &'a NetworkName) -> impl Iterator<Item = (&'a LinkName, &'a Interface)> {
        self.interfaces.iter().filter(move |(_, i)| i.network == *network)
    }

    /// The addresses of a network's interfaces, by hardware address: what DHCP gives each.
    pub(crate) fn reserved(&self, network: &NetworkName) -> BTreeMap<Mac, Ipv4Addr> {
        let Some(subnet) = self.networks.get(network).and_then(|n| n.subnet.as_ref()) else {
            return BTreeMap::new();
        };
        let first = |i: &Interface| i.ipv4.iter().copied().find(|a| subnet.prefix.has_host(*a));
        self.of(network).filter_map(|(_, i)| Some((i.mac, first(i)?))).collect()
    }

    /// Makes room for an interface whose guest was declared under another name that is gone.
    pub(crate) fn give_way(&mut self, link: &LinkName, new: &Interface, there: impl Fn(&LinkName) -> bool) {
        let same = |i: &Interface| (&i.network, i.mac) == (&new.network, new.mac);
        let old = self.interfaces.iter().find(|(name, i)| *name != link && same(i) && !there(name));
        if let Some(old) = old.map(|(name, _)| name.clone())
            && let Some(interface) = self.interfaces.remove(&old)
        {
            // Under its new name, so that it keeps its address.
            self.interfaces.insert(link.clone(), interface);
        }
    }

    /// Gives an interface an address, if it has none and its network has some to give. `taken` are leased to others.
    pub(crate) fn assign(
        &self,
        link: &LinkName,
        interface: &mut Interface,
        taken: &BTreeSet<Ipv4Addr>,
    ) -> Result<()> {
        let Some(subnet) = self.networks.get(&interface.network).and_then(|n| n.subnet.as_ref()) else {
            return Ok(());
        };
        let Some(range) = subnet.range.filter(|_| interface.ipv4.is_empty()) else { return Ok(()) };
        let others: BTreeSet<Ipv4Addr> = self
            .of(&interface.network)
            .filter(|(other, _)| *other != link)
            .flat_map(|(_, i)| i.ipv4.iter().copied())
            .collect();
        let free = |a: &Ipv4Addr| *a != subnet.host && !others.contains(a) && !taken.contains(a);
        // The one that it had when it was declared before: its guest may still use it.
        let before =
            self.interfaces.get(link).filter(|b| (&b.network, b.mac) == (&interface.network, interface.mac));
        let before = before.and_then(|b| b.ipv4.iter().copied().find(|a| range.contains(*a)));
        let address = before.filter(free).or_else(|| range.addresses().find(free)).ok_or_else(|| {
            Error::Invalid(format!("network {}: no address of {range} is free", interface.network))
        })?;
        interface.ipv4.insert(address);
        Ok(())
    }

    /// An error that names what makes no sense, alone or together.
    pub(crate) fn check(&self) -> Result<()> {
        let mut links: BTreeMap<LinkName, &NetworkName> = BTreeMap::new();
        let mut take = |link: LinkName, name| match links.insert(link.clone(), name) {
            Some(other) if other != name => {
                Err(Error::Invalid(format!("networks {other} and {name} both need the interface {link}")))
            }
            _ => Ok(()),
        };
        for (name, network) in &self.networks {
            network.check().map_err(|e| Error::Invalid(format!("network {name}: {e}")))?;
            take(network.bridge.clone(), name)?;
            let vlan = network.vlan_link().transpose()?;
            let card = network.uplink.as_ref().filter(|u| u.vlan.is_none()).map(|u| u.link.clone());
            for link in vlan.into_iter().chain(card).chain(network.vxlan_link()) {
                if link == network.bridge {
                    return Err(Error::Invalid(format!("network {name}: {link} is named twice")));
                }
                take(link, name)?;
            }
        }
        self.check_subnets()?;
        for (link, interface) in &self.interfaces {
            if let Some(name) = links.get(link) {
                return Err(Error::Invalid(format!("interface {link} is already a part of network {name}")));
            }
            self.check_interface(interface).map_err(|e| Error::Invalid(format!("interface {link}: {e}")))?;
        }
        self.check_unique()
    }

    fn check_subnets(&self) -> Result<()> {
        let subnets: Vec<_> = self
            .networks
            .iter()
            .filter_map(|(n, network)| Some((n, network.subnet.as_ref()?.prefix)))
            .collect();
        for (at, (name, prefix)) in subnets.iter().enumerate() {
            if let Some((other, with)) = subnets.iter().take(at).find(|(_, p)| p.overlaps(*prefix)) {
                return Err(Error::Invalid(format!("subnet {prefix} of {name} overlaps {with} of {other}")));
            }
        }
        Ok(())
    }

    fn check_interface(&self, interface: &Interface) -> Result<()> {
        interface.check()?;
        let network = self
            .networks
            .get(&interface.network)
            .ok_or_else(|| Error::Unknown { what: "network", name: interface.network.to_string() })?;
        let Some(subnet) = &network.subnet else { return Ok(()) };
        if let Some(bad) = interface.ipv4.iter().find(|a| !subnet.prefix.has_host(**a)) {
            return Err(Error::Invalid(format!("no host of {} has the address {bad}", subnet.prefix)));
        }
        if interface.ipv4.contains(&subnet.host) {
            return Err(Error::Invalid(format!("{} is this host's own address", subnet.host)));
        }
        Ok(())
    }

    /// No two interfaces of a network share an address or a name.
    fn check_unique(&self) -> Result<()> {
        let mut seen: BTreeMap<(&NetworkName, String), &LinkName> = BTreeMap::new();
        for (link, interface) in &self.interfaces {
            let name = interface.host_name.iter().map(ToString::to_string);
            let all = name
                .chain([interface.mac.to_string()])
                .chain(interface.ipv4.iter().map(ToString::to_string))
                .chain(interface.ipv6.iter().map(ToString::to_string));
            for value in all {
                if let Some(other) = seen.insert((&interface.network, value.clone()), link) {
                    return Err(Error::Invalid(format!("interfaces {other} and {link} both have {value}")));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn sample() -> Declared {
        serde_json::from_str(
            r#"{"networks": {"a": {"bridge": "br-a", "subnet": {"prefix": "10.1.0.0/24", "host": "10.1.0.1",
                  "range": "10.1.0.1-10.1.0.4", "domain": "a.test", "outside": "nat"}},
                "b": {"bridge": "br-b", "uplink": {"link": "eth0", "vlan": 7}, "overlay": {"vni": 9,
                  "local": "192.0.2.1", "peers": ["192.0.2.2"]}, "mtu": 1450}},
                "interfaces": {"vif1.0": {"network": "a", "mac": "00:16:3e:00:00:01", "ipv4": ["10.1.0.2"]}}}"#,
        )
        .unwrap()
    }

    #[test]
    fn the_file_says_what_was_stored() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Declared::load(dir.path()).unwrap(), Declared::default());
        sample().check().unwrap();
        sample().store(dir.path()).unwrap();
        assert_eq!(Declared::load(dir.path()).unwrap(), sample());
        // Killed while writing: half of a new file, and the old one.
        fs::write(dir.path().join(NEW), b"{\"netw").unwrap();
        assert_eq!(Declared::load(dir.path()).unwrap(), sample());
        fs::write(dir.path().join(FILE), b"{\"netw").unwrap();
        assert!(matches!(Declared::load(dir.path()), Err(Error::Damaged { .. })));
    }

    #[test]
    fn nonsense_is_named() {
        let bad = |change: fn(&mut Declared)| {
            let mut declared = sample();
            change(&mut declared);
            declared.check().unwrap_err().to_string()
        };
        let name = |t: &str| t.parse::<NetworkName>().unwrap();
        let _ = name;
        assert!(
            bad(|d| d.networks.get_mut("b").unwrap().bridge = "br-a".parse().unwrap()).contains("both need")
        );
        assert!(bad(|d| d.networks.get_mut("b").unwrap().bridge = "vx9".parse().unwrap()).contains("twice"));
        assert!(
            bad(|d| d.networks.get_mut("b").unwrap().subnet = sample().networks["a"].subnet.clone())
                .contains("overlaps")
        );
        let vif =
            |d: &mut Declared, change: fn(&mut Interface)| change(d.interfaces.values_mut().next().unwrap());
        let _ = vif;
        assert!(
            bad(|d| {
                d.interfaces.values_mut().next().unwrap().ipv4 = ["10.1.0.1".parse().unwrap()].into()
            })
            .contains("own address")
        );
        assert!(
            bad(|d| {
                d.interfaces.values_mut().next().unwrap().ipv4 = ["10.1.0.255".parse().unwrap()].into()
            })
            .contains("no host")
        );
        assert!(
            bad(|d| {
                let i = d.interfaces.values().next().unwrap().clone();
                d.interfaces.insert("vif2.0".parse().unwrap(), i);
            })
            .contains("both have")
        );
        assert!(
            bad(|d| {
                let i = d.interfaces.values().next().unwrap().clone();
                d.interfaces.insert("eth0.7".parse().unwrap(), i);
            })
            .contains("already a part")
        );
    }

    #[test]
    fn addresses_are_assigned_once() {
        let mut declared = sample();
        let taken = BTreeSet::from(["10.1.0.3".parse().unwrap()]);
        for (n, want) in [(5u8, Some("10.1.0.4")), (6, None)] {
            let link: LinkName = format!("vif{n}.0").parse().unwrap();
            let mac = Mac::new([0, 0x16, 0x3e, 0, 0, n]).unwrap();
            let mut interface = Interface::new("a".parse().unwrap(), mac);
            let result = declared.assign(&link, &mut interface, &taken);
            assert_eq!(result.is_ok(), want.is_some());
            assert_eq!(interface.ipv4.first().map(ToString::to_string).as_deref(), want);
            if want.is_some() {
                // Declared again without an address: it keeps the one it has.
                declared.interfaces.insert(link.clone(), interface);
                let mut again = Interface::new("a".parse().unwrap(), mac);
                declared.assign(&link, &mut again, &taken).unwrap();
                assert_eq!(again.ipv4, declared.interfaces[&link].ipv4);
                // And under another name, when the first is gone; not while that is there.
                let new: LinkName = "vif9.0".parse().unwrap();
                let mut moved = Interface::new("a".parse().unwrap(), mac);
                declared.give_way(&new, &moved, |_| true);
                assert!(declared.interfaces.contains_key(&link));
                declared.give_way(&new, &moved, |_| false);
                declared.assign(&new, &mut moved, &taken).unwrap();
                assert_eq!((moved.ipv4, declared.interfaces.contains_key(&link)), (again.ipv4, false));
            }
        }
    }
}
