//! After a kill at any moment: what the record says is made so, and nothing else is left.
//!
//! | the record says | found | done |
//! |---|---|---|
//! | halted | a domain, or its nodes | taken away |
//! | running, paused | its complete domain | devices, memory, vCPUs and pause as recorded; a device more or less is corrected |
//! | running | no complete domain, a restart was under way | taken away, started anew |
//! | running, paused | no complete domain otherwise | somebody else took it away: halted |
//! | running | its complete domain, suspended | the guest goes on; what there is of the file is removed |
//! | suspended | a domain | taken away; the file is what counts |
//! | preserved | its domain or none | left as it is; halted if there is none |
//!
//! Each rule may be cut short itself, and is applied again the next time.

use crate::config::{Config, mac_of};
use crate::device::{self, Removal};
use crate::error::{Result, XenContext};
use crate::guest::End;
use crate::machine::Power;
use crate::manager::{Manager, Work};
use crate::nodes;
use crate::port;
use crate::record::{Outcome, Vm};
use crate::task::{Control, Journal, Progress, Step};
use crate::teardown;
use radon_store::client::Tx;
use radon_xen::domain::DomainStatus;

/// Operations during which a VM that is to run has no domain for a while.
const RESTARTS: [&str; 2] = ["reboot", "ended"];

/// What to do with a VM. Pure, so that every combination can be tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cure {
    /// Nothing of it may be left; then it is halted.
    TakeDown,
    /// Nothing of it may be left; then it is started.
    Restart,
    /// Details of its domain are to be as recorded.
    Converge(u16),
    /// Its guest has suspended itself for a file that is not whole: it goes on, and then as above.
    GoOn(u16),
    /// It is in its file; there is to be nothing else of it.
    KeepFile,
    /// Nothing.
    Leave,
}

fn cure(vm: &Vm, alive: Option<u16>, suspended: bool, restarting: bool) -> Cure {
    let complete = alive.filter(|domid| vm.domid == Some(*domid));
    match (vm.power, complete) {
        (Power::Halted, _) => Cure::TakeDown,
        (Power::Suspended, _) => Cure::KeepFile,
        (Power::Running, Some(domid)) if suspended => Cure::GoOn(domid),
        (Power::Preserved, Some(_)) => Cure::Leave,
        (Power::Running | Power::Paused, Some(domid)) => Cure::Converge(domid),
        (Power::Running, None) if restarting => Cure::Restart,
        (Power::Running | Power::Paused | Power::Preserved, None) => Cure::TakeDown,
    }
}

impl Manager {
    /// Repairs every VM. Call it before anything else after a start of the program; names of those that had been cut short.
    pub fn recover(&self, control: &Control) -> Result<Vec<String>> {
        let mut repaired = Vec::new();
        for vm in self.record.vms()? {
            let tasks = self.record.tasks()?;
            let cut = tasks.into_iter().find(|t| t.vm == vm.uuid && t.outcome == Outcome::Running);
            let restarting = cut.as_ref().is_some_and(|t| RESTARTS.contains(&t.operation.as_str()));
            let domains = teardown::domains_of(&self.xen, vm.uuid)?;
            let alive = domains.iter().find(|d| !d.dying).map(|d| d.domid);
            let suspended = domains.iter().any(|d| d.shutdown.map(End::from) == Some(End::Suspend));
            let cure = cure(&vm, alive, suspended, restarting);
            // A task that was cut short goes on as the repair: if that is cut short too, it is still known what it was.
            let (journal, outcome) = match cut {
                Some(task) => {
                    repaired.push(vm.config.name.clone());
                    (Journal::resume(&self.record, task, control), Outcome::Repaired)
                }
                None => (Journal::begin(&self.record, vm.uuid, "recover", control)?, Outcome::Done),
            };
            self.carry_out(journal, outcome, |work| work.apply(&vm, cure, &domains))?;
        }
        Ok(repaired)
    }
}

impl Work<'_> {
    fn apply(&mut self, vm: &Vm, cure: Cure, domains: &[DomainStatus]) -> Result<()> {
        match cure {
            Cure::Leave => Ok(()),
            Cure::TakeDown => {
                self.take_down(vm, Power::Halted)?;
                self.remove_files(vm.uuid)
            }
            Cure::Restart => self.restart(vm),
            Cure::KeepFile => self.take_down(vm, Power::Suspended),
            Cure::GoOn(domid) => {
                self.go_on(domid)?;
                self.converge(vm, domid, domains)
            }
            Cure::Converge(domid) => {
                let ended = domains.iter().any(|d| d.domid == domid && d.shutdown.is_some());
                // What follows the end of a guest is the supervisor's business, later.
                if ended { Ok(()) } else { self.converge(vm, domid, domains) }
            }
        }
    }

    fn converge(&mut self, vm: &Vm, domid: u16, domains: &[DomainStatus]) -> Result<()> {
        // What a suspension or a resumption that was cut short has left.
        self.remove_files(vm.uuid)?;
        self.devices(vm, domid)?;
        self.journal.at(Step::SetTarget)?;
        self.set_target(domid, vm.config.memory)?;
        self.journal.at(Step::SetVcpus)?;
        self.set_availability(domid, &vm.config)?;
        let paused = domains.iter().any(|d| d.domid == domid && d.paused);
        match (vm.power, paused) {
            (Power::Running, true) => {
                self.journal.at(Step::Unpause)?;
                self.xen.unpause_domain(domid).xen("unpause the domain")
            }
            (Power::Paused, false) => {
                self.journal.at(Step::Pause)?;
                self.xen.pause_domain(domid).xen("pause the domain")
            }
            _ => Ok(()),
        }
    }

    /// Devices that are not recorded, or are on their way out, go; recorded ones that are missing come.
    fn devices(&mut self, vm: &Vm, domid: u16) -> Result<()> {
        let wanted = wanted(&vm.config);
        for (kind, id) in device::present(&mut self.store, domid)? {
            let online = format!("{}/online", nodes::backend_path(kind, domid, id));
            let stays = self.store.read(Tx::NONE, &online)?.as_deref() == Some("1");
            if !stays || !wanted.contains(&(kind, id)) {
                device::detach(&mut self.store, kind, domid, id, Removal::Forced, &mut self.journal)?;
            }
        }
        let present = device::present(&mut self.store, domid)?;
        for (id, disk) in &vm.config.disks {
            if !present.contains(&(disk.backend.kind(), id.number())) {
                device::attach_disk(&mut self.store, domid, *id, disk, &mut self.journal)?;
            }
        }
        for (id, nic) in &vm.config.nics {
            let mac = nic.mac.unwrap_or_else(|| mac_of(vm.uuid, *id));
            if !present.contains(&("vif", id.0)) {
                device::attach_nic(&mut self.store, domid, *id, nic, mac, &mut self.journal)?;
            } else if let Some(port) = &nic.port {
                // It may have been changed in the record only.
                self.journal.at(Step::JoinBridge)?;
                port::connect(&device::interface(domid, *id), port, mac)?;
            }
        }
        for (kind, framebuffer) in vm.config.screen().filter(|(kind, _)| !present.contains(&(*kind, 0))) {
            device::attach_screen(&mut self.store, domid, kind, framebuffer, &mut self.journal)?;
        }
        Ok(())
    }
}

fn wanted(config: &Config) -> Vec<(&'static str, u32)> {
    let disks = config.disks.iter().map(|(id, disk)| (disk.backend.kind(), id.number()));
    let nics = config.nics.keys().map(|id| ("vif", id.0));
    disks.chain(nics).chain(config.screen().map(|(kind, _)| (kind, 0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uuid::Uuid;

    fn vm(power: Power, domid: Option<u16>) -> Vm {
        Vm {
            uuid: Uuid::from_bytes([1; 16]),
            config: Config::new("a", "/k".into()),
            power,
            domid,
            saved: None,
        }
    }

    #[test]
    fn a_halted_vm_keeps_nothing() {
        for (domid, alive) in [(None, None), (None, Some(4)), (Some(4), Some(4)), (Some(4), None)] {
            assert_eq!(cure(&vm(Power::Halted, domid), alive, false, false), Cure::TakeDown);
            assert_eq!(cure(&vm(Power::Halted, domid), alive, false, true), Cure::TakeDown);
        }
    }

    #[test]
    fn a_running_vm_keeps_its_complete_domain() {
        for power in [Power::Running, Power::Paused] {
            assert_eq!(cure(&vm(power, Some(4)), Some(4), false, false), Cure::Converge(4));
            assert_eq!(cure(&vm(power, Some(4)), Some(4), false, true), Cure::Converge(4));
            assert_eq!(cure(&vm(power, Some(4)), None, false, false), Cure::TakeDown);
        }
        assert_eq!(cure(&vm(Power::Preserved, Some(4)), Some(4), false, false), Cure::Leave);
        assert_eq!(cure(&vm(Power::Preserved, Some(4)), None, false, false), Cure::TakeDown);
    }

    #[test]
    fn a_suspended_guest_is_never_lost() {
        assert_eq!(cure(&vm(Power::Running, Some(4)), Some(4), true, false), Cure::GoOn(4));
        for (domid, alive) in [(None, None), (None, Some(4)), (Some(4), Some(4))] {
            assert_eq!(cure(&vm(Power::Suspended, domid), alive, true, false), Cure::KeepFile);
        }
    }

    #[test]
    fn an_incomplete_domain_is_started_anew_only_in_a_restart() {
        assert_eq!(cure(&vm(Power::Running, None), Some(5), false, true), Cure::Restart);
        assert_eq!(cure(&vm(Power::Running, None), None, false, true), Cure::Restart);
        assert_eq!(cure(&vm(Power::Running, None), Some(5), false, false), Cure::TakeDown);
    }
}
