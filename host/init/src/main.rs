//! `radon-init`: the first process of the host image. As such it mounts, loads modules, finds the data partition, starts the host's
//! services and keeps them running, and ends them in order. Its other parts are processes of their own, because one that ends
//! must not take the first with it.
//!
//! | module | the noun |
//! |---|---|
//! | [`boot`] | from the kernel's first call to running services |
//! | [`mounts`], [`modules`], [`data`] | file systems of the kernel, its modules, the data partition |
//! | [`settings`] | `radon.toml` and the kernel's command line |
//! | [`service`], [`supervisor`], [`backoff`], [`log`] | services: what they are, that they run, when again, what they say |
//! | [`console`] | what is typed at the machine |
//! | [`stop`] | the end: guests, services, file systems |
//! | [`address`], [`store`] | processes of their own: the host's address; the first nodes of the store |
#![forbid(unsafe_code)]

mod address;
mod backoff;
mod boot;
mod console;
mod data;
mod log;
mod modules;
mod mounts;
mod service;
mod settings;
mod stop;
mod store;
mod supervisor;

use clap::Parser;
use std::process::ExitCode;

/// What went wrong, for people to read.
type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Parts of the host's first process; run by it, not by hand.
#[derive(Parser)]
#[command(name = "radon-init", version)]
enum Arguments {
    /// Keep the host's own address, as the settings say
    Address,
    /// Write the nodes of dom0 that toolstacks expect in the store
    Store,
    /// Ask all guests to power off; take away those that do not within the time
    StopGuests {
        /// Seconds for all of them
        #[arg(long, default_value_t = 60)]
        limit: u64,
    },
}

fn main() -> ExitCode {
    // The kernel hands its own parameters on to the first process: no command line of ours.
    if std::process::id() == 1 {
        boot::run();
    }
    let result = match Arguments::parse() {
        Arguments::Address => address::run(),
        Arguments::Store => store::run(),
        Arguments::StopGuests { limit } => stop::guests(std::time::Duration::from_secs(limit)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
