//! Changes to a VM that may be running: memory, vCPUs, disks, interfaces. A halted one gets them when it starts.

use crate::builder;
use crate::config::{Config, Disk, DiskId, Nic, NicId, mac_of};
use crate::device::{self, Removal};
use crate::error::{Error, Result, XenContext};
use crate::layout::Kib;
use crate::machine::Power;
use crate::manager::{Manager, Work};
use crate::nodes;
use crate::port::{self, Port};
use crate::record::Vm;
use crate::task::{Control, Progress, Step};
use crate::wait::{self, Patience};
use radon_store::client::Tx;
use std::time::Duration;

/// A suspended guest would not know of a change.
fn not_suspended(vm: Vm) -> Result<Vm> {
    match vm.power {
        Power::Suspended => {
            Err(Error::State { vm: vm.config.name, is: vm.power.to_string(), needs: "halted or running" })
        }
        _ => Ok(vm),
    }
}

/// How near to its target a balloon has to come: what a guest has besides its RAM, and what Linux keeps.
const NEAR_KIB: u64 = 2048;

impl Manager {
    /// Sets what memory it is to have; a running guest's balloon follows within `limit`.
    pub fn set_memory(&self, name: &str, memory: Kib, limit: Duration, control: &Control) -> Result<()> {
        let vm = not_suspended(self.record.find(name)?)?;
        let config = Config { memory, ..vm.config.clone() };
        config.check()?;
        self.task(&vm, "set-memory", control, |work| {
            work.journal.at(Step::Commit)?;
            work.record.update(vm.uuid, |vm| vm.config.memory = memory)?;
            let Some(domid) = vm.domid else { return Ok(()) };
            work.journal.at(Step::SetTarget)?;
            work.set_target(domid, memory)?;
            work.journal.at(Step::AwaitBalloon)?;
            let patience = Patience {
                who: "the guest",
                what: "bring its balloon to the target (it may still; has it a balloon driver?)",
                limit,
            };
            let xen = work.xen;
            wait::until(&mut work.store, "@releaseDomain", patience, &work.journal, |_| {
                let status = xen.domain_status(domid).xen("tell the domain's state")?;
                let has = status.map_or(0, |s| s.pages * 4);
                Ok((has.abs_diff(memory.get()) <= NEAR_KIB).then_some(()))
            })
        })
    }

    /// Sets how many vCPUs it is to use; a running guest is told.
    pub fn set_vcpus(&self, name: &str, vcpus: u32, control: &Control) -> Result<()> {
        let vm = not_suspended(self.record.find(name)?)?;
        let config = Config { vcpus, ..vm.config.clone() };
        config.check()?;
        self.task(&vm, "set-vcpus", control, |work| {
            work.journal.at(Step::Commit)?;
            work.record.update(vm.uuid, |vm| vm.config.vcpus = vcpus)?;
            let Some(domid) = vm.domid else { return Ok(()) };
            work.journal.at(Step::SetVcpus)?;
            work.set_availability(domid, &config)
        })
    }

    /// Adds a disk.
    pub fn attach_disk(&self, name: &str, id: DiskId, disk: &Disk, control: &Control) -> Result<()> {
        let vm = not_suspended(self.record.find(name)?)?;
        if vm.config.disks.contains_key(&id) {
            return Err(Error::Invalid(format!("{name} has a disk {id} already")));
        }
        self.task(&vm, "attach-disk", control, |work| {
            if let Some(domid) = vm.domid {
                let result = device::attach_disk(&mut work.store, domid, id, disk, &mut work.journal);
                work.undo_on_error(domid, disk.backend.kind(), id.number(), result)?;
            }
            let committed = work.journal.at(Step::Commit).and_then(|()| {
                work.record.update(vm.uuid, |vm| vm.config.disks.extend([(id, disk.clone())]))
            });
            match vm.domid {
                Some(domid) => {
                    work.undo_on_error(domid, disk.backend.kind(), id.number(), committed.map(drop))
                }
                None => committed.map(drop),
            }
        })
    }

    /// Takes a disk away: the guest is asked and may take `limit`; without it, it is not asked.
    pub fn detach_disk(
        &self,
        name: &str,
        id: DiskId,
        limit: Option<Duration>,
        control: &Control,
    ) -> Result<()> {
        let vm = not_suspended(self.record.find(name)?)?;
        let unknown = || Error::Unknown { what: "disk", name: format!("{id} of {name}") };
        let kind = vm.config.disks.get(&id).ok_or_else(unknown)?.backend.kind();
        self.task(&vm, "detach-disk", control, |work| {
            work.detach(&vm, kind, id.number(), limit)?;
            work.record.update(vm.uuid, |vm| drop(vm.config.disks.remove(&id))).map(drop)
        })
    }

    /// Adds an interface.
    pub fn attach_nic(&self, name: &str, id: NicId, nic: &Nic, control: &Control) -> Result<()> {
        let vm = not_suspended(self.record.find(name)?)?;
        if vm.config.nics.contains_key(&id) {
            return Err(Error::Invalid(format!("{name} has an interface {id} already")));
        }
        let mut config = vm.config.clone();
        config.nics.insert(id, nic.clone());
        config.check()?;
        self.task(&vm, "attach-nic", control, |work| {
            if let Some(domid) = vm.domid {
                let mac = nic.mac.unwrap_or_else(|| mac_of(vm.uuid, id));
                let result = device::attach_nic(&mut work.store, domid, id, nic, mac, &mut work.journal);
                work.undo_on_error(domid, "vif", id.0, result)?;
            }
            let committed = work
                .journal
                .at(Step::Commit)
                .and_then(|()| work.record.update(vm.uuid, |vm| vm.config.nics.extend([(id, nic.clone())])));
            match vm.domid {
                Some(domid) => work.undo_on_error(domid, "vif", id.0, committed.map(drop)),
                None => committed.map(drop),
            }
        })
    }

    /// Changes what an interface may do on its network, also while the guest has it.
    pub fn set_port(&self, name: &str, id: NicId, port: &Port, control: &Control) -> Result<()> {
        let vm = self.record.find(name)?;
        let nic = vm
            .config
            .nics
            .get(&id)
            .filter(|nic| nic.port.as_ref().is_some_and(|p| p.network == port.network));
        let unknown =
            || Error::Unknown { what: "interface on that network", name: format!("{id} of {name}") };
        let old = nic.cloned().ok_or_else(unknown)?;
        let mac = old.mac.unwrap_or_else(|| mac_of(vm.uuid, id));
        let new = Nic { port: Some(Box::new(port.clone())), ..old.clone() };
        self.task(&vm, "set-port", control, |work| {
            work.journal.at(Step::Commit)?;
            work.record.update(vm.uuid, |vm| drop(vm.config.nics.insert(id, new)))?;
            work.journal.seal();
            let Some(domid) = vm.domid else { return Ok(()) };
            work.journal.at(Step::JoinBridge)?;
            let connected = port::connect(&device::interface(domid, id), port, mac);
            if connected.is_err() {
                // What cannot be is not declared either.
                work.record.update(vm.uuid, |vm| drop(vm.config.nics.insert(id, old)))?;
            }
            connected
        })
    }

    /// Takes an interface away, as [`Manager::detach_disk`] does.
    pub fn detach_nic(
        &self,
        name: &str,
        id: NicId,
        limit: Option<Duration>,
        control: &Control,
    ) -> Result<()> {
        let vm = not_suspended(self.record.find(name)?)?;
        if !vm.config.nics.contains_key(&id) {
            return Err(Error::Unknown { what: "interface", name: format!("{id} of {name}") });
        }
        self.task(&vm, "detach-nic", control, |work| {
            work.detach(&vm, "vif", id.0, limit)?;
            work.record.update(vm.uuid, |vm| drop(vm.config.nics.remove(&id))).map(drop)
        })
    }
}

impl Work<'_> {
    /// Limit and target of a running guest's memory.
    pub fn set_target(&mut self, domid: u16, memory: Kib) -> Result<()> {
        let target = format!("{}/memory/target", nodes::domain_path(domid));
        self.xen.set_max_memory(domid, builder::memory_limit_kib(memory)).xen("set the limit of memory")?;
        let extra = crate::layout::SPECIAL.count;
        self.xen.set_pod_target(domid, memory.pages() + extra).xen("set the target of memory")?;
        Ok(self.store.write(Tx::NONE, &target, &memory.get().to_string())?)
    }

    /// Tells a running guest which vCPUs to use.
    pub fn set_availability(&mut self, domid: u16, config: &Config) -> Result<()> {
        let all: Vec<_> =
            (0..config.vcpus_max).map(|v| nodes::availability(domid, v, v < config.vcpus)).collect();
        self.store.transaction(|store, tx| {
            for node in &all {
                // An unchanged node is not written: guests look at every write.
                if store.read(tx, &node.path)?.as_ref() != Some(&node.value) {
                    store.write(tx, &node.path, &node.value)?;
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    fn undo_on_error(&mut self, domid: u16, kind: &str, id: u32, result: Result<()>) -> Result<()> {
        if result.is_err() {
            self.journal.seal();
            device::detach(&mut self.store, kind, domid, id, Removal::Forced, &mut self.journal)?;
        }
        result
    }

    /// A device of a running VM goes, if it runs.
    fn detach(&mut self, vm: &Vm, kind: &str, id: u32, limit: Option<Duration>) -> Result<()> {
        let removal = limit.map_or(Removal::Forced, Removal::Asked);
        if let Some(domid) = vm.domid {
            device::detach(&mut self.store, kind, domid, id, removal, &mut self.journal)?;
        }
        self.journal.at(Step::Commit)
    }
}
