//! Operations on VMs: each a task in the record, undone when it fails.

use crate::builder;
use crate::config::{Action, Config, mac_of};
use crate::device;
use crate::error::{Error, Result, XenContext};
use crate::guest::{self, End, Metrics, Request};
use crate::machine::{self, Event, Power};
use crate::record::{Outcome, Record, Vm};
use crate::task::{Control, Journal, Progress, Step};
use crate::teardown;
use crate::uuid::Uuid;
use radon_store::client::Xenstore;
use radon_xen::privcmd::Privcmd;
use std::path::Path;
use std::time::Duration;

/// VMs, and all that is done with them.
#[derive(Debug)]
pub struct Manager {
    pub(crate) xen: Privcmd,
    pub(crate) record: Record,
}

/// One operation on the way: what it works with.
pub(crate) struct Work<'a> {
    pub xen: &'a Privcmd,
    pub record: &'a Record,
    pub store: Xenstore,
    pub journal: Journal<'a>,
}

impl Manager {
    /// With the record in this file.
    pub fn open(record: &Path) -> Result<Self> {
        let xen = Privcmd::open().xen("be called (is this dom0, and are you root?)")?;
        Ok(Self { xen, record: Record::open(record)? })
    }

    /// The record.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The hypervisor.
    pub fn xen(&self) -> &Privcmd {
        &self.xen
    }

    /// Notes a new VM; it is halted.
    pub fn define(&self, config: Config) -> Result<Uuid> {
        config.check()?;
        let uuid = Uuid::random().map_err(|source| Error::File { path: "/dev/urandom".into(), source })?;
        self.record.add(&Vm { uuid, config, power: Power::Halted, domid: None, saved: None })?;
        Ok(uuid)
    }

    /// Forgets a halted VM.
    pub fn delete(&self, name: &str) -> Result<()> {
        let vm = self.record.find(name)?;
        after(&vm, Event::Delete)?;
        self.record.remove(vm.uuid)
    }

    /// Builds a VM's domain and lets it run.
    pub fn start(&self, name: &str, control: &Control) -> Result<()> {
        self.start_as(name, Power::Running, control)
    }

    /// Builds a VM's domain; its vCPUs wait for [`Manager::unpause`].
    pub fn start_paused(&self, name: &str, control: &Control) -> Result<()> {
        self.start_as(name, Power::Paused, control)
    }

    fn start_as(&self, name: &str, power: Power, control: &Control) -> Result<()> {
        let vm = self.record.find(name)?;
        after(&vm, Event::Start)?;
        self.task(&vm, "start", control, |work| {
            work.bring_up(&vm, power)?;
            // The guest may run: too late to cancel.
            work.journal.seal();
            work.journal.at(Step::Commit)?;
            work.record.update(vm.uuid, |vm| vm.power = power).map(drop)
        })
    }

    /// Stops its vCPUs.
    pub fn pause(&self, name: &str, control: &Control) -> Result<()> {
        let vm = self.record.find(name)?;
        let (power, domid) = (after(&vm, Event::Pause)?, domain(&vm)?);
        self.task(&vm, "pause", control, |work| {
            work.journal.at(Step::Commit)?;
            work.record.update(vm.uuid, |vm| vm.power = power)?;
            work.journal.seal();
            work.journal.at(Step::Pause)?;
            work.xen.pause_domain(domid).xen("pause the domain")
        })
    }

    /// Lets its vCPUs go on.
    pub fn unpause(&self, name: &str, control: &Control) -> Result<()> {
        let vm = self.record.find(name)?;
        let (power, domid) = (after(&vm, Event::Unpause)?, domain(&vm)?);
        self.task(&vm, "unpause", control, |work| {
            work.journal.at(Step::Commit)?;
            work.record.update(vm.uuid, |vm| vm.power = power)?;
            work.journal.seal();
            work.journal.at(Step::Unpause)?;
            work.xen.unpause_domain(domid).xen("unpause the domain")
        })
    }

    /// Asks the guest to power off, and takes the domain away when it has.
    pub fn shutdown(&self, name: &str, limit: Duration, control: &Control) -> Result<()> {
        let vm = self.record.find(name)?;
        let (power, domid) = (after(&vm, Event::Shutdown)?, domain(&vm)?);
        self.task(&vm, "shutdown", control, |work| {
            guest::ask(work.xen, &mut work.store, domid, Request::PowerOff, limit, &mut work.journal)?;
            work.take_down(&vm, power)
        })
    }

    /// Asks the guest to reboot, and gives it a new domain when it has ended.
    pub fn reboot(&self, name: &str, limit: Duration, control: &Control) -> Result<()> {
        let vm = self.record.find(name)?;
        after(&vm, Event::Reboot)?;
        let domid = domain(&vm)?;
        self.task(&vm, "reboot", control, |work| {
            guest::ask(work.xen, &mut work.store, domid, Request::Reboot, limit, &mut work.journal)?;
            work.restart(&vm)
        })
    }

    /// Takes the domain away, whatever the guest is doing.
    pub fn destroy(&self, name: &str, control: &Control) -> Result<()> {
        let vm = self.record.find(name)?;
        let power = after(&vm, Event::Destroy)?;
        self.task(&vm, "destroy", control, |work| {
            work.take_down(&vm, power)?;
            work.remove_files(vm.uuid)
        })
    }

    /// Does what the configuration wants for a guest that has ended by itself. Whether there was one.
    pub fn ended(&self, name: &str, control: &Control) -> Result<bool> {
        let vm = self.record.find(name)?;
        let Some(domid) = vm.domid.filter(|_| matches!(vm.power, Power::Running | Power::Paused)) else {
            return Ok(false);
        };
        let status = self.xen.domain_status(domid).xen("tell the domain's state")?;
        let action = match status.filter(|s| s.handle == vm.uuid.bytes()) {
            // Somebody else took it away.
            None => Action::Destroy,
            Some(status) => match status.shutdown.map(End::from) {
                None => return Ok(false),
                Some(End::PowerOff) => vm.config.on_poweroff,
                Some(End::Reboot) => vm.config.on_reboot,
                // Whoever asked it to goes on from here.
                Some(End::Suspend) => return Ok(false),
                Some(End::Other(_)) => vm.config.on_crash,
            },
        };
        let power = after(&vm, Event::Ended(action))?;
        self.task(&vm, "ended", control, |work| match action {
            Action::Destroy => work.take_down(&vm, power),
            Action::Restart => work.restart(&vm),
            Action::Preserve => {
                work.journal.at(Step::Commit)?;
                work.record.update(vm.uuid, |vm| vm.power = power).map(drop)
            }
        })?;
        Ok(true)
    }

    /// What a running guest uses, and tells.
    pub fn metrics(&self, name: &str) -> Result<Metrics> {
        let vm = self.record.find(name)?;
        guest::metrics(&self.xen, &mut Xenstore::open()?, domain(&vm)?)
    }

    /// Runs an operation as a task.
    pub(crate) fn task(
        &self,
        vm: &Vm,
        operation: &str,
        control: &Control,
        body: impl FnOnce(&mut Work<'_>) -> Result<()>,
    ) -> Result<()> {
        let journal = Journal::begin(&self.record, vm.uuid, operation, control)?;
        self.carry_out(journal, Outcome::Done, body)
    }

    /// Runs an operation that has its task already; `done` is what the record says if it ends well.
    pub(crate) fn carry_out(
        &self,
        journal: Journal<'_>,
        done: Outcome,
        body: impl FnOnce(&mut Work<'_>) -> Result<()>,
    ) -> Result<()> {
        let store = Xenstore::open()?;
        let mut work = Work { xen: &self.xen, record: &self.record, store, journal };
        let result = body(&mut work);
        let outcome = result.as_ref().err().map_or(done, |e| Outcome::Failed(e.to_string()));
        work.journal.end(outcome)?;
        result
    }
}

/// The state that an event leads to from the VM's own.
pub(crate) fn after(vm: &Vm, event: Event) -> Result<Power> {
    machine::next(vm.power, event).ok_or_else(|| Error::State {
        vm: vm.config.name.clone(),
        is: vm.power.to_string(),
        needs: machine::needs(event),
    })
}

/// A VM's domain.
pub(crate) fn domain(vm: &Vm) -> Result<u16> {
    vm.domid.ok_or_else(|| Error::State {
        vm: vm.config.name.clone(),
        is: vm.power.to_string(),
        needs: "to have a domain",
    })
}

impl Work<'_> {
    /// A new domain, complete, running or paused; nothing of it if that fails.
    pub fn bring_up(&mut self, vm: &Vm, power: Power) -> Result<()> {
        let result = self.build(vm, power);
        if result.is_err() {
            self.journal.seal();
            self.record.update(vm.uuid, |vm| vm.domid = None)?;
            // The first error is the one that tells something; a second try follows at the next start of the program.
            if let Err(error) = teardown::tear_down(self.xen, &mut self.store, vm.uuid, &mut self.journal) {
                eprintln!("radon-domain: after that, {error}");
            }
        }
        result
    }

    fn build(&mut self, vm: &Vm, power: Power) -> Result<()> {
        let (store, journal) = (&mut self.store, &mut self.journal);
        let domid = builder::build(self.xen, store, vm.uuid, &vm.config, journal)?;
        for (id, disk) in &vm.config.disks {
            device::attach_disk(store, domid, *id, disk, journal)?;
        }
        for (id, nic) in &vm.config.nics {
            let mac = nic.mac.unwrap_or_else(|| mac_of(vm.uuid, *id));
            device::attach_nic(store, domid, *id, nic, mac, journal)?;
        }
        for (kind, framebuffer) in vm.config.screen() {
            device::attach_screen(store, domid, kind, framebuffer, journal)?;
        }
        journal.at(Step::RecordDomain)?;
        self.record.update(vm.uuid, |vm| vm.domid = Some(domid))?;
        if power == Power::Paused {
            return Ok(());
        }
        journal.at(Step::Unpause)?;
        self.xen.unpause_domain(domid).xen("unpause the domain")
    }

    /// No domain any more, and the record says so first.
    pub fn take_down(&mut self, vm: &Vm, power: Power) -> Result<()> {
        self.journal.at(Step::Commit)?;
        self.record.update(vm.uuid, |vm| vm.power = power)?;
        self.journal.seal();
        teardown::tear_down(self.xen, &mut self.store, vm.uuid, &mut self.journal)?;
        self.record.update(vm.uuid, |vm| vm.domid = None).map(drop)
    }

    /// The old domain goes, a new one comes; if it does not, the VM is halted.
    pub fn restart(&mut self, vm: &Vm) -> Result<()> {
        self.journal.at(Step::Commit)?;
        self.journal.seal();
        self.record.update(vm.uuid, |vm| (vm.power, vm.domid) = (Power::Running, None))?;
        teardown::tear_down(self.xen, &mut self.store, vm.uuid, &mut self.journal)?;
        let result = self.bring_up(vm, Power::Running);
        if result.is_err() {
            self.record.update(vm.uuid, |vm| vm.power = Power::Halted)?;
        }
        result
    }
}
