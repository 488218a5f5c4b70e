//! The command line.

use clap::{Args, Parser, Subcommand};
use radon_domain::config::{Action, Backend, Config, Disk, DiskId, Framebuffer, Mac, Nic, NicId};
use radon_domain::error::{Error, Result};
use radon_domain::layout::Kib;
use radon_domain::port::Port;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Virtual machines on a Xen host, without libxl.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit status: 0 if it was done, 1 if not, 2 for a command line that cannot be read."
)]
pub struct Arguments {
    /// The record of VMs
    #[arg(long, default_value = "/var/lib/radon/domains.redb", global = true)]
    pub record: PathBuf,
    /// Print each step
    #[arg(long, short, global = true)]
    pub verbose: bool,
    /// Be killed on entering the step of this number: for tests
    #[arg(long, hide = true, global = true)]
    pub kill_at_step: Option<u32>,
    /// Be cancelled on entering the step of this number: for tests
    #[arg(long, hide = true, global = true)]
    pub cancel_at_step: Option<u32>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Make a VM and start it
    Create {
        /// Do not start it
        #[arg(long)]
        halted: bool,
        #[command(flatten)]
        config: Box<VmArguments>,
    },
    /// Start a halted VM
    Start { vm: String },
    /// Stop its vCPUs
    Pause { vm: String },
    /// Let its vCPUs go on
    Unpause { vm: String },
    /// Ask the guest to power off
    Shutdown {
        vm: String,
        #[command(flatten)]
        timeout: Timeout,
    },
    /// Ask the guest to reboot
    Reboot {
        vm: String,
        #[command(flatten)]
        timeout: Timeout,
    },
    /// Ask the guest to suspend itself, and put it into a file
    Suspend {
        vm: String,
        /// A new file; it holds all of the guest's memory
        file: PathBuf,
        #[command(flatten)]
        timeout: Timeout,
    },
    /// Let a suspended guest go on
    Resume { vm: String },
    /// Take the domain away, whatever the guest is doing
    Destroy { vm: String },
    /// Forget a halted VM
    Delete { vm: String },
    /// Set how much memory it is to have, within its limit
    SetMemory {
        vm: String,
        mib: u64,
        #[command(flatten)]
        timeout: Timeout,
    },
    /// Set how many vCPUs it is to use, within its limit
    SetVcpus { vm: String, count: u32 },
    /// Add a disk
    AttachDisk {
        vm: String,
        /// Its name in the guest: xvda to xvdp
        disk: DiskId,
        /// A block device or a file
        path: PathBuf,
        /// The guest may not write
        #[arg(long)]
        read_only: bool,
        /// Who serves it: kernel or radon
        #[arg(long, default_value = "kernel")]
        backend: Backend,
    },
    /// Take a disk away
    DetachDisk {
        vm: String,
        disk: DiskId,
        /// Do not ask the guest
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        timeout: Timeout,
    },
    /// Add a network interface
    AttachNic {
        vm: String,
        /// NUMBER,BRIDGE[,MAC], or NUMBER,network=NETWORK[,mac=MAC][,ip=ADDRESS]...[,guard=GUARD][,to-guest=RATE][,from-guest=RATE][,host-name=NAME]
        nic: NicArgument,
    },
    /// Take a network interface away
    DetachNic {
        vm: String,
        id: u32,
        /// Do not ask the guest
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        timeout: Timeout,
    },
    /// All VMs
    List {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// All about one VM, as JSON
    Show { vm: String },
    /// What has been done, and is being done
    Tasks {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// The machine's memory in pages
    Memory,
    /// Repair what was cut short
    Recover,
    /// Repair, then follow what guests do by themselves, until told to end
    Supervise,
}

#[derive(Args)]
pub struct Timeout {
    /// Seconds that the guest may take
    #[arg(long, default_value_t = 120)]
    timeout: u64,
}

impl Timeout {
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

#[derive(Args)]
pub struct VmArguments {
    /// Its name
    name: String,
    /// ELF or bzImage with a PVH entry
    #[arg(long)]
    kernel: PathBuf,
    /// The kernel's initial RAM disk
    #[arg(long)]
    initrd: Option<PathBuf>,
    /// The kernel's command line
    #[arg(long, default_value = "")]
    cmdline: String,
    /// MiB that it is to have
    #[arg(long, default_value_t = 256)]
    memory: u64,
    /// MiB that it may ever have (as much as it is to have, when not given)
    #[arg(long)]
    memory_max: Option<u64>,
    /// vCPUs that it is to use
    #[arg(long, default_value_t = 1)]
    vcpus: u32,
    /// vCPUs that it may ever have
    #[arg(long)]
    vcpus_max: Option<u32>,
    /// NAME,PATH[,ro][,backend=kernel|radon]: a disk (may be repeated)
    #[arg(long)]
    disk: Vec<DiskArgument>,
    /// NUMBER,BRIDGE[,MAC] or NUMBER,network=NETWORK[,ip=ADDRESS...]: a network interface (may be repeated; see attach-nic)
    #[arg(long)]
    nic: Vec<NicArgument>,
    /// [WIDTHxHEIGHT]: a framebuffer with keyboard and pointer, shown by radon-vnc
    #[arg(long, value_name = "SIZE", num_args = 0..=1, require_equals = true, default_missing_value = "800x600")]
    vfb: Option<Framebuffer>,
    /// When it powers off: destroy, restart or preserve
    #[arg(long, default_value = "destroy", value_parser = action)]
    on_poweroff: Action,
    /// When it reboots
    #[arg(long, default_value = "restart", value_parser = action)]
    on_reboot: Action,
    /// When it crashes
    #[arg(long, default_value = "destroy", value_parser = action)]
    on_crash: Action,
}

impl VmArguments {
    pub fn config(&self) -> Result<Config> {
        let mut config = Config::new(&self.name, self.kernel.clone());
        config.initrd.clone_from(&self.initrd);
        config.command_line.clone_from(&self.cmdline);
        config.memory = mib(self.memory)?;
        config.memory_max = mib(self.memory_max.unwrap_or(self.memory))?;
        config.vcpus = self.vcpus;
        config.vcpus_max = self.vcpus_max.unwrap_or(self.vcpus);
        config.disks = self.disk.iter().map(|d| (d.0, d.1.clone())).collect();
        config.nics = self.nic.iter().map(NicArgument::nic).collect();
        config.framebuffer = self.vfb;
        config.on_poweroff = self.on_poweroff;
        config.on_reboot = self.on_reboot;
        config.on_crash = self.on_crash;
        config.check()?;
        Ok(config)
    }
}

/// So many MiB.
pub fn mib(mib: u64) -> Result<Kib> {
    let kib = mib.checked_mul(1024).and_then(Kib::new);
    kib.ok_or_else(|| Error::Invalid(format!("{mib} MiB of memory: 4 to 16777216")))
}

fn action(text: &str) -> std::result::Result<Action, String> {
    match text {
        "destroy" => Ok(Action::Destroy),
        "restart" => Ok(Action::Restart),
        "preserve" => Ok(Action::Preserve),
        _ => Err("one of destroy, restart and preserve".to_owned()),
    }
}

#[derive(Clone)]
pub struct DiskArgument(DiskId, Disk);

impl std::str::FromStr for DiskArgument {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::Invalid(format!("{text}: NAME,PATH[,ro][,backend=kernel|radon]"));
        let (name, rest) = text.split_once(',').ok_or_else(wrong)?;
        let (rest, backend) = match rest.rsplit_once(",backend=") {
            Some((rest, backend)) => (rest, backend.parse()?),
            None => (rest, Backend::Kernel),
        };
        let (path, read_only) = match rest.strip_suffix(",ro") {
            Some(path) => (path, true),
            None => (rest, false),
        };
        if path.is_empty() {
            return Err(wrong());
        }
        Ok(Self(name.parse()?, Disk { path: path.into(), read_only, backend }))
    }
}

#[derive(Clone)]
pub struct NicArgument(NicId, Nic);

impl NicArgument {
    pub fn nic(&self) -> (NicId, Nic) {
        (self.0, self.1.clone())
    }
}

impl std::str::FromStr for NicArgument {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::Invalid(format!("{text}: {NIC}"));
        let mut words = text.split(',');
        let id = NicId(words.next().and_then(|w| w.parse().ok()).ok_or_else(wrong)?);
        let place = words.next().filter(|w| !w.is_empty()).ok_or_else(wrong)?;
        if let Some(network) = place.strip_prefix("network=") {
            return Ok(Self(id, declared(network, words)?));
        }
        let mac = words.next().map(str::parse::<Mac>).transpose();
        let mac = mac.map_err(|error| Error::Network(Box::new(error)))?;
        let nic = Nic { bridge: place.to_owned(), mac, port: None };
        if words.next().is_some() { Err(wrong()) } else { Ok(Self(id, nic)) }
    }
}

/// How an interface is said.
const NIC: &str = "NUMBER,BRIDGE[,MAC], or NUMBER,network=NETWORK and any of mac=, ip=, guard=, to-guest=, from-guest=, host-name=";

/// An interface on a declared network.
fn declared<'a>(network: &str, words: impl Iterator<Item = &'a str>) -> Result<Nic> {
    let failed = |error| Error::Network(Box::new(error));
    let mut port = Port::new(network.parse().map_err(failed)?);
    let mut mac = None;
    for word in words {
        let (key, value) = word.split_once('=').ok_or_else(|| Error::Invalid(format!("{word}: {NIC}")))?;
        let address = || value.parse::<IpAddr>().map_err(|e| Error::Invalid(format!("{value}: {e}")));
        match key {
            "mac" => mac = Some(value.parse().map_err(failed)?),
            "ip" => match address()? {
                IpAddr::V4(address) => drop(port.ipv4.insert(address)),
                IpAddr::V6(address) => drop(port.ipv6.insert(address)),
            },
            "guard" => port.guard = value.parse().map_err(failed)?,
            "to-guest" => port.rates.to_guest = Some(value.parse().map_err(failed)?),
            "from-guest" => port.rates.from_guest = Some(value.parse().map_err(failed)?),
            "host-name" => port.host_name = Some(value.parse().map_err(failed)?),
            _ => return Err(Error::Invalid(format!("{key}: {NIC}"))),
        }
    }
    Ok(Nic { bridge: String::new(), mac, port: Some(Box::new(port)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn devices_in_words() {
        let disk: DiskArgument = "xvdb,/a,b,ro".parse().unwrap();
        assert_eq!((disk.1.path.to_str(), disk.1.read_only), (Some("/a,b"), true));
        let disk: DiskArgument = "xvdb,/a,ro,backend=radon".parse().unwrap();
        assert_eq!(
            (disk.1.path.to_str(), disk.1.read_only, disk.1.backend),
            (Some("/a"), true, Backend::Radon)
        );
        assert!("xvdb,/a,backend=other".parse::<DiskArgument>().is_err());
        assert!("xvdb".parse::<DiskArgument>().is_err());
        let nic: NicArgument = "1,br0,00:16:3e:00:00:01".parse().unwrap();
        assert_eq!((nic.0, nic.1.bridge.as_str()), (NicId(1), "br0"));
        assert!("x,br0".parse::<NicArgument>().is_err());
        let nic: NicArgument =
            "1,network=a,ip=10.1.0.5,ip=fd00::5,guard=unlocked,to-guest=5mbit".parse().unwrap();
        let port = nic.1.port.unwrap();
        assert_eq!((port.network.as_str(), port.ipv4.len(), port.ipv6.len()), ("a", 1, 1));
        for bad in
            ["1,network=", "1,network=a,x=1", "1,network=a,mac", "1,network=a,guard=x", "1,network=a,ip=x"]
        {
            assert!(bad.parse::<NicArgument>().is_err(), "{bad}");
        }
        assert!("1,br0,00:16:3e:00:00:01,x".parse::<NicArgument>().is_err());
    }
}
