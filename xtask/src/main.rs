//! Radon's build tool: `cargo xtask run` shows it working, `cargo xtask test` proves it, `cargo xtask bench` measures it.

#![forbid(unsafe_code)]

mod bench;
mod cpio;
mod elf;
mod foreign;
mod fuzz;
mod guest;
mod host_cpu;
mod host_image;
mod image;
mod initramfs;
mod iso;
mod minimal;
mod modules;
mod monitor;
mod nightly;
mod packages;
mod paths;
mod program;
mod qemu;
mod run;
mod scenario;
mod setup;
mod shell;
mod store;
mod symbols;
mod test;
mod up;
mod xfs;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, runs, tests and measures Radon in an emulated machine")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what the other commands need (each of them does it by itself)
    Setup,
    /// Build the hypervisor image
    Build,
    /// Boot Radon, Debian's dom0 and a guest; end on the guest's console
    Run(run::Args),
    /// Run every test layer: gates, host tests, verdict guests, whole systems
    Test(test::Args),
    /// Measure Radon and stock Xen on the same emulated machine, in instructions
    Bench(bench::Args),
    /// Try the parsers of untrusted bytes, and hypercalls, with inputs that coverage guides (libFuzzer)
    Fuzz(fuzz::Args),
    /// Start a server of our own with a first VM, and say how to reach it
    Up(up::Args),
    /// Make the host image: an initramfs, and a disk to install (BIOS and UEFI)
    Image(host_image::Args),
    /// Make a CD image that boots through GRUB on BIOS and UEFI
    Iso(iso::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Task::Setup => setup::run().and_then(|()| packages::Packages::fetch().map(drop)),
        Task::Build => setup::run().and_then(|()| image::build()).map(|path| println!("{}", path.display())),
        Task::Run(args) => run::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Up(args) => up::run(&args),
        Task::Image(args) => host_image::run(&args),
        Task::Iso(args) => iso::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
