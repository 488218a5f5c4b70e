//! The end: guests, services, file systems, machine.

use crate::Failed;
use crate::data::PLACE;
use crate::supervisor::{Event, Supervisor};
use radon_domain::machine::Power;
use radon_domain::manager::Manager;
use radon_domain::task::Control;
use rustix::mount::{UnmountFlags, unmount};
use rustix::system::{RebootCommand, reboot};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The record of domains.
const RECORD: &str = "/var/lib/radon/domains.redb";

/// Ends everything, in order; comes back only if the kernel refuses.
pub fn machine(supervisor: &mut Supervisor, how: &Event, guests_seconds: u64) {
    println!("radon: the host ends: guests first ({guests_seconds} s for them)");
    // Guests are nobody's but the record's from here on.
    supervisor.stop(&|name| name == "radond");
    let guests = Command::new("/init").args(["stop-guests", "--limit", &guests_seconds.to_string()]).status();
    match guests {
        Ok(status) if status.success() => {}
        other => println!("radon: not all guests were ended in order: {other:?}"),
    }
    supervisor.stop(&|_| true);
    rustix::fs::sync();
    match unmount(PLACE, UnmountFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::INVAL) => {}
        Err(error) => println!("radon: {PLACE}: {error}"),
    }
    rustix::fs::sync();
    let command = if *how == Event::Reboot { RebootCommand::Restart } else { RebootCommand::PowerOff };
    println!("radon: {}", if *how == Event::Reboot { "reboot" } else { "power off" });
    if let Err(error) = reboot(command) {
        println!("radon: the kernel refuses: {error}");
    }
}

/// Asks all guests at the same time to power off; those that do not are taken away.
pub fn guests(limit: Duration) -> Result<(), Failed> {
    if !Path::new(RECORD).exists() {
        return Ok(());
    }
    let manager = Manager::open(Path::new(RECORD))?;
    manager.recover(&Control::default())?;
    let running: Vec<_> = manager
        .record()
        .vms()?
        .into_iter()
        .filter(|vm| vm.power != Power::Halted && vm.domid.is_some())
        .collect();
    let failed: Vec<String> = std::thread::scope(|scope| {
        let ask = |vm: &radon_domain::record::Vm| {
            let (manager, name, uuid) = (&manager, vm.config.name.clone(), vm.uuid.to_string());
            scope.spawn(move || {
                let control = Control::default();
                match manager.shutdown(&uuid, limit, &control) {
                    Ok(()) => None,
                    Err(error) => {
                        println!("radon: {name} is taken away: {error}");
                        manager.destroy(&uuid, &control).err().map(|e| format!("{name}: {e}"))
                    }
                }
            })
        };
        let asked: Vec<_> = running.iter().map(ask).collect();
        asked.into_iter().filter_map(|a| a.join().ok().flatten()).collect()
    });
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ").into()) }
}
