//! dom0's end of an interface on a declared network (`radon-network`): declared when the interface appears, and not any more when
//! it goes. Interfaces on plain bridges have nothing of this.

use crate::config::Mac;
use crate::error::{Error, Result};
use radon_network::{
    DEFAULT_DIR, Guard, HostName, Interface, LinkName, Metadata, NetworkName, Networks, Rates,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::OnceLock;

/// What an interface is to be on its network: what [`Interface`] has, but for the hardware address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// The network.
    pub network: NetworkName,
    /// The guest's addresses; if none, the network gives one.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ipv4: BTreeSet<Ipv4Addr>,
    /// Further IPv6 addresses.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ipv6: BTreeSet<Ipv6Addr>,
    /// What the guest may send.
    #[serde(default)]
    pub guard: Guard,
    /// How fast.
    #[serde(default)]
    pub rates: Rates,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_name: Option<HostName>,
    /// What cloud-init is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
}

impl Port {
    /// One of a network, locked, without limits.
    pub fn new(network: NetworkName) -> Self {
        Self {
            network,
            ipv4: BTreeSet::new(),
            ipv6: BTreeSet::new(),
            guard: Guard::default(),
            rates: Rates::default(),
            host_name: None,
            metadata: None,
        }
    }

    fn interface(&self, mac: Mac) -> Interface {
        Interface {
            ipv4: self.ipv4.clone(),
            ipv6: self.ipv6.clone(),
            guard: self.guard,
            rates: self.rates,
            host_name: self.host_name.clone(),
            metadata: self.metadata.clone(),
            ..Interface::new(self.network.clone(), mac)
        }
    }
}

/// Where the networks' state is, if the program was told so.
static STATE: OnceLock<PathBuf> = OnceLock::new();

/// The networks' state is in this folder. Counts once for a program, before anything else of this crate is used.
pub fn use_state(folder: PathBuf) {
    let _ = STATE.set(folder);
}

/// Where it is otherwise: `RADON_NETWORKS`, as `radon-network` has it.
fn state() -> PathBuf {
    let usual = || std::env::var_os("RADON_NETWORKS").map_or_else(|| DEFAULT_DIR.into(), PathBuf::from);
    STATE.get().cloned().unwrap_or_else(usual)
}

fn failed(error: radon_network::Error) -> Error {
    Error::Network(Box::new(error))
}

/// The bridge of a network.
pub fn bridge(network: &NetworkName) -> Result<String> {
    let declared = radon_network::Declared::load(&state()).map_err(failed)?;
    let found = declared.networks.get(network).map(|n| n.bridge.to_string());
    found.ok_or_else(|| Error::Unknown { what: "network", name: network.to_string() })
}

/// dom0's end of an interface becomes a part of its network, with its rules and limits.
pub fn connect(interface: &str, port: &Port, mac: Mac) -> Result<()> {
    let networks = Networks::open(&state()).map_err(failed)?;
    let link: LinkName = interface.parse().map_err(failed)?;
    networks.declare_interface(&link, port.interface(mac)).map(drop).map_err(failed)
}

/// It is part of none any more. Nothing happens if it was none of a declared network.
pub fn disconnect(interface: &str) -> Result<()> {
    let state = state();
    let link: LinkName = interface.parse().map_err(failed)?;
    if radon_network::Declared::load(&state).map_err(failed)?.interfaces.contains_key(&link) {
        Networks::open(&state).and_then(|networks| networks.remove_interface(&link)).map_err(failed)?;
    }
    Ok(())
}
