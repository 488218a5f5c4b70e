//! `radon-domain`: VMs by hand, from dom0.

use clap::{Parser, Subcommand};
use radon_domain::builder;
use radon_domain::config::Config;
use radon_domain::error::{Error, XenContext};
use radon_domain::layout::Kib;
use radon_domain::task::{Progress, Step};
use radon_domain::uuid::Uuid;
use radon_domain::xenstore::Xenstore;
use radon_xen::privcmd::Privcmd;
use std::path::PathBuf;
use std::process::ExitCode;

/// Virtual machines on a Xen host, without libxl.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a VM and starts it
    Create {
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
        /// MiB
        #[arg(long, default_value_t = 256)]
        memory: u64,
    },
}

struct Talk;

impl Progress for Talk {
    fn at(&mut self, step: Step) -> radon_domain::Result<()> {
        eprintln!("{step}");
        Ok(())
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("radon-domain: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> radon_domain::Result<()> {
    let Command::Create { name, kernel, initrd, cmdline, memory } = arguments.command;
    let mut config = Config::new(&name, kernel);
    config.initrd = initrd;
    config.command_line = cmdline;
    config.memory = Kib::new(memory << 10)
        .ok_or_else(|| Error::Invalid(format!("{memory} MiB of memory: 4 to 16777216")))?;
    config.memory_max = config.memory;
    let xen = Privcmd::open().xen("be called (is this dom0, and are you root?)")?;
    let mut store = Xenstore::open()?;
    let uuid = Uuid::random().map_err(|source| Error::File { path: "/dev/urandom".into(), source })?;
    let domid = builder::build(&xen, &mut store, uuid, &config, &mut Talk)?;
    xen.unpause_domain(domid).xen("unpause the domain")?;
    println!("{domid}");
    Ok(())
}
