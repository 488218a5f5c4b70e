//! `radon-network`: networks of a Xen host.

mod arguments;

use arguments::{AddInterface, AddNetwork, Command, Options};
use clap::Parser;
use radon_network::declared::Declared;
use radon_network::{
    Error, Interface, Metadata, Network, Networks, Rates, Result, Subnet, dhcp, rules, service,
};
use std::fs;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("radon-network: {error}");
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) {
    // Whoever does not listen need not.
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::Invalid(e.to_string()))?;
    say(&text);
    Ok(())
}

fn run(options: &Options) -> Result<()> {
    let networks = Networks::open(&options.state)?;
    match &options.command {
        Command::AddNetwork(add) => networks.declare_network(&add.name, network(add)?),
        Command::RemoveNetwork { name } => networks.remove_network(name),
        Command::AddInterface(add) => {
            let interface = networks.declare_interface(&add.link, interface(add)?)?;
            for address in &interface.ipv4 {
                say(&address.to_string());
            }
            Ok(())
        }
        Command::RemoveInterface { link } => networks.remove_interface(link),
        Command::Declare { file } => {
            let text = fs::read(file).map_err(|source| Error::File { path: file.clone(), source })?;
            let declared: Declared = serde_json::from_slice(&text)
                .map_err(|e| Error::Invalid(format!("{}: {e}", file.display())))?;
            networks.declare(declared)
        }
        Command::Show => json(&networks.observe()?),
        Command::Rules => {
            say(rules::script(&networks.declared()?).trim_end());
            Ok(())
        }
        Command::Leases { network } => {
            let leases = dhcp::journal::LeaseFile::read(networks.dir(), network)?;
            for (address, lease) in leases {
                let who = lease.mac.map_or_else(|| "declined".to_owned(), |mac| mac.to_string());
                say(&format!("{address} {who} {}", lease.until));
            }
            Ok(())
        }
        Command::Reconcile { die_after } => reconcile(&networks, *die_after),
        Command::Serve => {
            let mut said = false;
            let ready = || {
                if !said {
                    say("radon-network: serving");
                    said = true;
                }
            };
            service::serve(&networks, ready, |error| eprintln!("radon-network: {error}"))
        }
    }
}

fn reconcile(networks: &Networks, die_after: Option<usize>) -> Result<()> {
    let mut count = 0;
    networks.reconcile_and(&mut |op| {
        say(&op.to_string());
        count += 1;
        if die_after == Some(count) {
            std::process::abort();
        }
    })
}

fn network(add: &AddNetwork) -> Result<Network> {
    let subnet = match (add.subnet, add.host, &add.domain) {
        (Some(prefix), Some(host), Some(domain)) => Some(Subnet {
            prefix,
            host,
            range: add.range,
            lease_seconds: add.lease,
            domain: domain.clone(),
            forwarders: add.forwarder.clone(),
            outside: add.outside,
        }),
        _ => None,
    };
    let mut network = Network::new(add.bridge.clone());
    network.uplink = add.uplink.clone().map(|link| radon_network::Uplink { link, vlan: add.vlan });
    network.overlay = match (add.vni, add.local) {
        (Some(vni), Some(local)) => Some(radon_network::Overlay {
            vni,
            local,
            peers: add.peer.iter().copied().collect(),
            port: add.port,
        }),
        _ => None,
    };
    network.mtu = add.mtu.unwrap_or(if network.overlay.is_some() { 1450 } else { 1500 });
    network.subnet = subnet;
    Ok(network)
}

fn interface(add: &AddInterface) -> Result<Interface> {
    let read = |path: &Option<std::path::PathBuf>| match path {
        Some(path) => fs::read_to_string(path).map_err(|source| Error::File { path: path.clone(), source }),
        None => Ok(String::new()),
    };
    let metadata = match &add.instance_id {
        Some(id) => Some(Metadata {
            instance_id: id.clone(),
            public_keys: read(&add.public_keys)?
                .lines()
                .filter(|l| !l.is_empty())
                .map(str::to_owned)
                .collect(),
            user_data: read(&add.user_data)?,
            vendor_data: read(&add.vendor_data)?,
            network_config: read(&add.network_config)?,
        }),
        None => None,
    };
    Ok(Interface {
        ipv4: add.ipv4.iter().copied().collect(),
        ipv6: add.ipv6.iter().copied().collect(),
        guard: add.guard,
        rates: Rates { to_guest: add.to_guest, from_guest: add.from_guest },
        host_name: add.host_name.clone(),
        metadata,
        ..Interface::new(add.network.clone(), add.mac)
    })
}
