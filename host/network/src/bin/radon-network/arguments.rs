//! The command line.

use clap::{Args, Parser, Subcommand};
use radon_network::{
    DEFAULT_DIR, DomainName, Guard, HostName, LinkName, Mac, NetworkName, Outside, Prefix, Range, Rate,
};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// Networks of a Xen host: bridges, VLANs, overlays, rules, addresses and names.
///
/// What is to be is written down first, then made so; `reconcile` completes what was cut short. Exit status: 0 done; 1 failed,
/// with the cause on standard error; 2 wrong usage.
#[derive(Debug, Parser)]
#[command(name = "radon-network", version)]
pub struct Options {
    /// The folder with the state
    #[arg(short, long, env = "RADON_NETWORKS", global = true, default_value = DEFAULT_DIR)]
    pub state: PathBuf,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Declare a network, or change one
    AddNetwork(AddNetwork),
    /// Remove a network that no interface is part of
    RemoveNetwork {
        /// Which
        name: NetworkName,
    },
    /// Declare a guest's interface, or change one; prints its IPv4 addresses
    AddInterface(Box<AddInterface>),
    /// Remove a guest's interface; no error, if there is none
    RemoveInterface {
        /// dom0's end of it, such as vif5.0
        link: LinkName,
    },
    /// Declare everything at once: networks and interfaces as in the state's file; what is not there goes
    Declare {
        /// JSON
        file: PathBuf,
    },
    /// Show what is declared, what the kernel has, and what a reconciliation would change, as JSON
    Show,
    /// Show the packet filter's rules, in nft's language
    Rules,
    /// List the addresses that DHCP gave away: address, hardware address, end in seconds since 1970
    Leases {
        /// Of which network
        network: NetworkName,
    },
    /// Make the kernel's state equal to what is declared; prints each change
    Reconcile {
        /// For tests: die after so many changes
        #[arg(long, hide = true)]
        die_after: Option<usize>,
    },
    /// Serve the networks until killed: keep the kernel's state, answer DHCP, DNS and requests for metadata
    Serve,
}

/// A network.
#[derive(Debug, Args)]
pub struct AddNetwork {
    /// What to call it
    pub name: NetworkName,
    /// The bridge's name
    #[arg(long)]
    pub bridge: LinkName,
    /// A network card that is part of it
    #[arg(long, value_name = "LINK")]
    pub uplink: Option<LinkName>,
    /// Only this VLAN of the card, 1 to 4094
    #[arg(long, requires = "uplink", value_name = "NUMBER")]
    pub vlan: Option<u16>,
    /// VXLAN overlay between hosts: its number
    #[arg(long, requires = "local", value_name = "NUMBER")]
    pub vni: Option<u32>,
    /// The overlay: this host's address
    #[arg(long, requires = "vni", value_name = "ADDRESS")]
    pub local: Option<Ipv4Addr>,
    /// The overlay: another host's address (may be repeated)
    #[arg(long, requires = "vni", value_name = "ADDRESS")]
    pub peer: Vec<Ipv4Addr>,
    /// The overlay: UDP port
    #[arg(long, default_value_t = 4789)]
    pub port: u16,
    /// Bytes of the largest packet (1500; with an overlay 1450)
    #[arg(long, value_name = "BYTES")]
    pub mtu: Option<u16>,
    /// Addresses that this host gives, such as 10.1.0.0/24
    #[arg(long, requires = "host", requires = "domain", value_name = "PREFIX")]
    pub subnet: Option<Prefix>,
    /// The host's own address: gateway, DHCP and DNS server
    #[arg(long, requires = "subnet", value_name = "ADDRESS")]
    pub host: Option<Ipv4Addr>,
    /// The domain of the guests' names
    #[arg(long, requires = "subnet")]
    pub domain: Option<DomainName>,
    /// Addresses for whoever asks by DHCP, such as 10.1.0.10-10.1.0.99
    #[arg(long, requires = "subnet", value_name = "FIRST-LAST")]
    pub range: Option<Range>,
    /// How long they may be kept
    #[arg(long, default_value_t = 3600, value_name = "SECONDS")]
    pub lease: u32,
    /// DNS server for other names (may be repeated; if none, those of /etc/resolv.conf)
    #[arg(long, requires = "subnet", value_name = "ADDRESS")]
    pub forwarder: Vec<Ipv4Addr>,
    /// What guests reach outside: none, nat, routed
    #[arg(long, default_value = "none", value_parser = outside)]
    pub outside: Outside,
}

/// An interface.
#[derive(Debug, Args)]
pub struct AddInterface {
    /// dom0's end of it, such as vif5.0
    pub link: LinkName,
    /// The network that it is part of
    #[arg(long)]
    pub network: NetworkName,
    /// The guest's hardware address
    #[arg(long)]
    pub mac: Mac,
    /// An address of the guest's (may be repeated; if none, the network gives one if it has a range)
    #[arg(long, value_name = "ADDRESS")]
    pub ipv4: Vec<Ipv4Addr>,
    /// An IPv6 address besides the link-local one (may be repeated)
    #[arg(long, value_name = "ADDRESS")]
    pub ipv6: Vec<Ipv6Addr>,
    /// What it may send: locked (its own addresses), unlocked (anything), disabled (nothing)
    #[arg(long, default_value = "locked")]
    pub guard: Guard,
    /// Most that is sent to the guest, such as 100mbit
    #[arg(long, value_name = "RATE")]
    pub to_guest: Option<Rate>,
    /// Most that the guest may send
    #[arg(long, value_name = "RATE")]
    pub from_guest: Option<Rate>,
    /// Its name in DNS
    #[arg(long, value_name = "NAME")]
    pub host_name: Option<HostName>,
    /// Metadata for cloud-init: the instance's id
    #[arg(long, value_name = "ID")]
    pub instance_id: Option<String>,
    /// File with cloud-init's user-data
    #[arg(long, requires = "instance_id", value_name = "FILE")]
    pub user_data: Option<PathBuf>,
    /// File with cloud-init's vendor-data
    #[arg(long, requires = "instance_id", value_name = "FILE")]
    pub vendor_data: Option<PathBuf>,
    /// File with cloud-init's network-config
    #[arg(long, requires = "instance_id", value_name = "FILE")]
    pub network_config: Option<PathBuf>,
    /// File with OpenSSH's public keys, one a line
    #[arg(long, requires = "instance_id", value_name = "FILE")]
    pub public_keys: Option<PathBuf>,
}

fn outside(text: &str) -> Result<Outside, String> {
    match text {
        "none" => Ok(Outside::None),
        "nat" => Ok(Outside::Nat),
        "routed" => Ok(Outside::Routed),
        _ => Err("none, nat or routed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn what_belongs_together_is_asked_for_together() {
        let parse = |text: &str| Options::try_parse_from(text.split(' ')).is_ok();
        assert!(parse("x add-network n --bridge b --subnet 10.1.0.0/24 --host 10.1.0.1 --domain d"));
        assert!(!parse("x add-network n --bridge b --subnet 10.1.0.0/24"));
        assert!(
            !parse("x add-network n --bridge b --vlan 3") && !parse("x add-network n --bridge b --vni 3")
        );
        assert!(parse("x add-interface vif1.0 --network n --mac 00:16:3e:00:00:01 --to-guest 10mbit"));
        assert!(!parse("x add-interface vif1.0 --network n --mac 00:16:3e:00:00:01 --user-data f"));
    }
}
