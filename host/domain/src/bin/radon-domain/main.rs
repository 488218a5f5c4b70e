//! `radon-domain`: VMs by hand, from dom0.

mod arguments;
mod show;

use arguments::{Arguments, Command};
use clap::Parser;
use radon_domain::config::Disk;
use radon_domain::error::{Error, Result, XenContext};
use radon_domain::manager::Manager;
use radon_domain::supervise;
use radon_domain::task::Control;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let control = match control(&arguments) {
        Ok(control) => control,
        Err(error) => {
            eprintln!("radon-domain: cannot take signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    match run(&arguments, &control) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("radon-domain: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Ctrl-C and SIGTERM cancel the operation, which undoes what it has begun.
fn control(arguments: &Arguments) -> std::io::Result<Control> {
    let cancel = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, cancel.clone())?;
    }
    let (kill_at_step, cancel_at_step) = (arguments.kill_at_step, arguments.cancel_at_step);
    Ok(Control { cancel, kill_at_step, cancel_at_step, verbose: arguments.verbose })
}

fn run(arguments: &Arguments, control: &Control) -> Result<()> {
    let record = arguments.record.as_path();
    if let Some(folder) = record.parent() {
        std::fs::create_dir_all(folder).map_err(|source| Error::File { path: folder.to_owned(), source })?;
    }
    if matches!(arguments.command, Command::Supervise) {
        return supervise_vms(record, control);
    }
    let vms = Manager::open(record)?;
    operate(&vms, &arguments.command, control)
}

fn operate(vms: &Manager, command: &Command, control: &Control) -> Result<()> {
    match command {
        Command::Create { halted, config } => {
            let config = config.config()?;
            vms.define(config.clone())?;
            if *halted {
                return Ok(());
            }
            let started = vms.start(&config.name, control);
            if started.is_err() {
                // Made and started in one: neither, if not both.
                vms.delete(&config.name)?;
            }
            started
        }
        Command::Start { vm } => vms.start(vm, control),
        Command::Pause { vm } => vms.pause(vm, control),
        Command::Unpause { vm } => vms.unpause(vm, control),
        Command::Shutdown { vm, timeout } => vms.shutdown(vm, timeout.duration(), control),
        Command::Reboot { vm, timeout } => vms.reboot(vm, timeout.duration(), control),
        Command::Suspend { vm, file, timeout } => vms.suspend(vm, file, timeout.duration(), control),
        Command::Resume { vm } => vms.resume(vm, control),
        Command::Destroy { vm } => vms.destroy(vm, control),
        Command::Delete { vm } => vms.delete(vm),
        Command::SetMemory { vm, mib, timeout } => {
            vms.set_memory(vm, arguments::mib(*mib)?, timeout.duration(), control)
        }
        Command::SetVcpus { vm, count } => vms.set_vcpus(vm, *count, control),
        Command::AttachDisk { vm, disk, path, read_only, backend } => {
            let disk_of = Disk { path: path.clone(), read_only: *read_only, backend: *backend };
            vms.attach_disk(vm, *disk, &disk_of, control)
        }
        Command::DetachDisk { vm, disk, force, timeout } => {
            vms.detach_disk(vm, *disk, (!force).then(|| timeout.duration()), control)
        }
        Command::AttachNic { vm, nic } => {
            let (id, nic) = nic.nic();
            vms.attach_nic(vm, id, &nic, control)
        }
        Command::DetachNic { vm, id, force, timeout } => {
            let id = radon_domain::config::NicId(*id);
            vms.detach_nic(vm, id, (!force).then(|| timeout.duration()), control)
        }
        Command::List { json } => show::list(vms, *json),
        Command::Show { vm } => show::vm(vms, vm),
        Command::Tasks { json } => show::tasks(vms, *json),
        Command::Memory => {
            let memory = vms.xen().machine_memory().xen("tell the machine's memory")?;
            println!("total {} free {} scrub {}", memory.total, memory.free, memory.scrub);
            Ok(())
        }
        Command::Recover => {
            for name in vms.recover(control)? {
                println!("repaired: {name}");
            }
            Ok(())
        }
        Command::Supervise => Ok(()),
    }
}

fn supervise_vms(record: &Path, control: &Control) -> Result<()> {
    for name in Manager::open(record)?.recover(control)? {
        println!("repaired: {name}");
    }
    supervise::run(record, control)
}
