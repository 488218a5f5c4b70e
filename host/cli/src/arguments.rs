//! The command line.

use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Hosts, VMs and volumes.
///
/// Things are named by their name, if no other has it, or by their number (UUID).
#[derive(Parser)]
#[command(
    name = "radon",
    version,
    after_help = "Exit status: 0 if it was done, 1 if not, 2 for a command line that cannot be read."
)]
pub struct Arguments {
    #[command(flatten)]
    pub reach: Reach,
    /// Answer in JSON, for programs
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

/// How to reach the host; `radon login` keeps it.
#[derive(Args, Clone)]
pub struct Reach {
    /// The host, as NAME or NAME:PORT
    #[arg(long, env = "RADON_HOST", global = true)]
    pub host: Option<String>,
    /// SHA-256 of the host's certificate, as radond prints it
    #[arg(long, env = "RADON_FINGERPRINT", global = true)]
    pub fingerprint: Option<String>,
    /// Who logs in
    #[arg(long, env = "RADON_USER", default_value = "root", global = true)]
    pub user: String,
    /// File with the password; standard input if it is `-`
    #[arg(long, env = "RADON_PASSWORD_FILE", global = true)]
    pub password_file: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum Command {
    /// Log in, and keep host, fingerprint and session for later commands
    Login,
    /// This host
    #[command(subcommand)]
    Host(Host),
    /// Virtual machines
    #[command(subcommand)]
    Vm(Vm),
    /// Disks of virtual machines
    #[command(subcommand)]
    Volume(Volume),
    /// Snapshots of virtual machines
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// VMs that are there to be cloned
    #[command(subcommand)]
    Template(Template),
    /// Networks
    #[command(subcommand)]
    Network(Network),
    /// Storage repositories
    #[command(subcommand)]
    Sr(Sr),
    /// Long work
    #[command(subcommand)]
    Task(Task),
    /// A VM's text console: what it said, then what it says; Ctrl-] leaves
    Console {
        vm: String,
        /// Print what it said, and leave
        #[arg(long)]
        history: bool,
        /// Its framebuffer instead: let VNC viewers of this machine reach it until ended (Ctrl-C). Whoever can connect sees it and types
        #[arg(long, conflicts_with = "history")]
        vnc: bool,
        /// Address for them; port 0 is any free one
        #[arg(long, default_value = "127.0.0.1:5901", requires = "vnc")]
        listen: SocketAddr,
    },
    /// What the host and its VMs are using, live; q leaves, c m d n set the order
    Top {
        /// Seconds from one look to the next
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
        interval: u64,
        /// Print one look, and leave (always so with --json)
        #[arg(long)]
        once: bool,
    },
    /// Any message of XenAPI; arguments are JSON, or text where that is no JSON
    Call {
        /// Such as VM.get_all
        message: String,
        arguments: Vec<String>,
    },
    /// A script for the shell that completes commands
    Completions { shell: clap_complete::Shell },
    /// Manual pages, one for each command
    Man { folder: PathBuf },
}

#[derive(Subcommand)]
pub enum Host {
    /// What it is
    Show,
    /// VMs may be started
    Enable,
    /// No more VMs are started
    Disable,
}

#[derive(Subcommand)]
pub enum Vm {
    /// All but templates and snapshots
    List {
        /// Templates instead
        #[arg(long)]
        templates: bool,
    },
    /// Everything about one
    Show { vm: String },
    /// A new one, halted
    Create(Create),
    /// One with clones of another's disks
    Clone {
        vm: String,
        name: String,
        #[command(flatten)]
        told: Told,
    },
    /// Build its domain and let it run
    Start {
        vm: String,
        /// Its vCPUs wait for `unpause`
        #[arg(long)]
        paused: bool,
    },
    /// Have it start whenever the host does
    Autostart {
        vm: String,
        #[arg(value_parser = ["on", "off"])]
        wanted: String,
    },
    /// Ask the guest to power off
    Stop {
        vm: String,
        /// Take the domain away, whatever the guest is doing
        #[arg(long)]
        force: bool,
    },
    /// Ask the guest to reboot
    Reboot {
        vm: String,
        /// Build the domain anew, whatever the guest is doing
        #[arg(long)]
        force: bool,
    },
    /// Its vCPUs stop
    Pause { vm: String },
    /// They go on
    Unpause { vm: String },
    /// The guest suspends itself; the host keeps its memory in a file
    Suspend { vm: String },
    /// A suspended guest goes on
    Resume {
        vm: String,
        /// Its vCPUs wait for `unpause`
        #[arg(long)]
        paused: bool,
    },
    /// Set what memory it is to have, also while it runs
    Memory { vm: String, mib: u64 },
    /// Set how many vCPUs it uses, also while it runs
    Vcpus { vm: String, count: u32 },
    /// Give it a volume
    Attach {
        vm: String,
        volume: String,
        #[arg(long)]
        read_only: bool,
    },
    /// Connect it to a network
    Connect {
        vm: String,
        network: String,
        /// The guest's address; one of the network's if there is none given (may be repeated)
        #[arg(long)]
        address: Vec<String>,
        /// What the guest may send: network_default, locked, unlocked or disabled
        #[arg(long, default_value = "network_default")]
        locking_mode: String,
    },
    /// Remove it; its volumes stay unless they are named
    Delete {
        vm: String,
        /// Its volumes go with it
        #[arg(long)]
        volumes: bool,
    },
}

#[derive(Args)]
pub struct Create {
    #[arg(required_unless_present = "file")]
    pub name: Option<String>,
    /// As a configuration file of xl's says (xl.cfg(5)); disks name volumes, bridges name networks
    #[arg(short, long, conflicts_with_all = ["name", "kernel", "initrd", "cmdline", "memory", "vcpus", "volumes", "networks", "vfb"])]
    pub file: Option<PathBuf>,
    /// Kernel, in the host's folder for them
    #[arg(long, required_unless_present = "file")]
    pub kernel: Option<String>,
    /// RAM disk, in the same folder
    #[arg(long, default_value = "")]
    pub initrd: String,
    /// The kernel's command line
    #[arg(long, default_value = "console=hvc0", allow_hyphen_values = true)]
    pub cmdline: String,
    /// Memory in MiB
    #[arg(long, default_value_t = 256)]
    pub memory: u64,
    /// vCPUs
    #[arg(long, default_value_t = 1)]
    pub vcpus: u32,
    /// A volume (may be repeated)
    #[arg(long = "volume")]
    pub volumes: Vec<String>,
    /// A network to connect to (may be repeated)
    #[arg(long = "network")]
    pub networks: Vec<String>,
    /// A framebuffer with keyboard and pointer (radon console --vnc), 800x600 unless it says otherwise
    #[arg(long, value_name = "SIZE", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub vfb: Option<String>,
    /// It is only there to be cloned
    #[arg(long)]
    pub template: bool,
    #[command(flatten)]
    pub told: Told,
}

/// What the metadata service tells cloud-init in the guest.
#[derive(Args)]
pub struct Told {
    /// A file with cloud-init's user-data
    #[arg(long)]
    pub user_data: Option<PathBuf>,
    /// A file with keys that may log in, one OpenSSH line each
    #[arg(long)]
    pub public_keys: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum Volume {
    /// All of them
    List,
    /// Everything about one
    Show { volume: String },
    /// A new one, empty
    Create {
        name: String,
        /// MiB
        mib: u64,
        /// The repository, if it is not the only one
        #[arg(long)]
        sr: Option<String>,
    },
    /// One with the same content, in constant time
    Clone { volume: String, name: String },
    /// One as it is now, that never changes
    Snapshot { volume: String, name: String },
    /// Make it larger
    Resize { volume: String, mib: u64 },
    /// Replace its content by an image's
    Import {
        volume: String,
        file: PathBuf,
        /// raw or vhd
        #[arg(long, default_value = "raw")]
        format: String,
    },
    /// Write it as an image
    Export {
        volume: String,
        file: PathBuf,
        /// raw, vhd or qcow2
        #[arg(long, default_value = "raw")]
        format: String,
    },
    /// Remove it
    Delete { volume: String },
}

#[derive(Subcommand)]
pub enum Snapshot {
    /// All of them
    List,
    /// The VM and its disks as they are now
    Create { vm: String, name: String },
    /// Bring the VM back to it
    Revert { snapshot: String },
    /// Remove it, and its disks
    Delete { snapshot: String },
}

#[derive(Subcommand)]
pub enum Template {
    /// All of them
    List,
    /// Make one from a distribution's packages, on this machine
    Build(Build),
    /// Make one of a disk image (raw)
    Import {
        file: PathBuf,
        name: String,
        /// The repository, if it is not the only one
        #[arg(long)]
        sr: Option<String>,
    },
    /// A new VM of one, halted, which cloud-init gives its name at its first start
    Deploy(Deploy),
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub enum System {
    /// Debian, with its cloud kernel and cloud-init (needs mmdebstrap and e2fsprogs)
    Debian,
}

#[derive(Args)]
pub struct Build {
    pub system: System,
    /// The template's name
    #[arg(long, default_value = "debian-12")]
    pub name: String,
    /// Debian's release
    #[arg(long, default_value = "bookworm")]
    pub suite: String,
    /// Where packages come from, if not from Debian's usual place
    #[arg(long)]
    pub mirror: Option<String>,
    /// MiB of its disk; a clone's can be made larger
    #[arg(long, default_value_t = 2048)]
    pub size: u64,
    /// Only write the disk image to this file; no host is needed
    #[arg(long)]
    pub file: Option<PathBuf>,
}

#[derive(Args)]
pub struct Deploy {
    pub template: String,
    pub name: String,
    /// The name that it gives itself, if another
    #[arg(long)]
    pub host_name: Option<String>,
    /// File with public keys for its first user
    #[arg(long)]
    pub ssh_key: Option<PathBuf>,
    /// File for cloud-init
    #[arg(long)]
    pub user_data: Option<PathBuf>,
    /// A network to connect to (may be repeated)
    #[arg(long = "network")]
    pub networks: Vec<String>,
}

#[derive(Subcommand)]
pub enum Network {
    /// All of them
    List,
    /// A new one
    Create(Box<NewNetwork>),
    /// Remove it
    Delete { network: String },
}

#[derive(Args)]
pub struct NewNetwork {
    pub name: String,
    /// The host's bridge; named by the host if there is none given
    #[arg(long, default_value = "")]
    pub bridge: String,
    /// The bridge is not the host daemon's: somebody else makes it
    #[arg(long, requires = "bridge", conflicts_with_all = ["subnet", "uplink", "vni"])]
    pub unmanaged: bool,
    /// Its addresses, given by the host: such as 10.1.0.0/24
    #[arg(long)]
    pub subnet: Option<String>,
    /// The host's own address in it; the first if there is none given
    #[arg(long, requires = "subnet")]
    pub host_address: Option<String>,
    /// The addresses that DHCP gives away: such as 10.1.0.10-10.1.0.99
    #[arg(long, requires = "subnet")]
    pub range: Option<String>,
    /// How guests reach what lies outside: none, nat or routed
    #[arg(long, requires = "subnet")]
    pub outside: Option<String>,
    /// The domain that the guests' names are in
    #[arg(long, requires = "subnet")]
    pub domain: Option<String>,
    /// A DNS server for all other names (may be repeated)
    #[arg(long, requires = "subnet")]
    pub forwarder: Vec<String>,
    /// The host's network card that is part of it
    #[arg(long)]
    pub uplink: Option<String>,
    /// One VLAN of the card
    #[arg(long, requires = "uplink")]
    pub vlan: Option<u16>,
    /// The number of a VXLAN that joins it with other hosts'
    #[arg(long, requires = "local")]
    pub vni: Option<u32>,
    /// This host's address, for the VXLAN
    #[arg(long, requires = "vni")]
    pub local: Option<String>,
    /// Another host's address, for the VXLAN (may be repeated)
    #[arg(long, requires = "vni")]
    pub peer: Vec<String>,
}

#[derive(Subcommand)]
pub enum Sr {
    /// All of them
    List,
    /// Make one in a folder of the host's, on XFS
    Create { name: String, folder: String },
    /// Look for volumes that came or went
    Scan { sr: String },
    /// Remove it; it must be empty
    Delete { sr: String },
}

#[derive(Subcommand)]
pub enum Task {
    /// All that are kept
    List,
    /// Follow one to its end
    Wait { task: String },
    /// Ask one to end early
    Cancel { task: String },
}
