//! The layer of domains below.
//!
//! A trait, because it needs a hypervisor: [`Xen`] is the implementation; tests of the order of events have another one.

use radon_domain::config::{Config, Disk, DiskId, Nic, NicId};
use radon_domain::error::{Error, Result, XenContext};
use radon_domain::guest::Metrics;
use radon_domain::layout::Kib;
use radon_domain::machine::Power;
use radon_domain::manager::Manager;
use radon_domain::port::Port;
use radon_domain::record::Vm;
use radon_domain::task::Control;
use radon_domain::uuid::Uuid;
use radon_linux::usage::Io;
use radon_store::client::Xenstore;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is used, now and since each domain began.
pub struct Usage {
    /// Bytes of the machine's memory.
    pub memory_total: u64,
    /// Of these, free.
    pub memory_free: u64,
    /// Domains, dom0 among them.
    pub domains: Vec<DomainUsage>,
}

/// One domain's.
pub struct DomainUsage {
    /// Its number.
    pub domid: u16,
    /// The VM's.
    pub vm: Uuid,
    /// vCPUs that are online.
    pub vcpus: u32,
    /// Processor time, ns.
    pub cpu_ns: u64,
    /// Bytes that it has.
    pub memory: u64,
    /// Disks and network.
    pub io: Io,
}

/// What is done with domains. A VM is named by its number.
pub trait Domains: Send + Sync {
    /// Builds a VM's domain and lets it run, or keeps it paused.
    fn start(&self, vm: Uuid, config: Config, paused: bool, control: &Control) -> Result<()>;
    /// Stops its vCPUs.
    fn pause(&self, vm: Uuid, control: &Control) -> Result<()>;
    /// Lets them go on.
    fn unpause(&self, vm: Uuid, control: &Control) -> Result<()>;
    /// Asks the guest to power off.
    fn shutdown(&self, vm: Uuid, limit: Duration, control: &Control) -> Result<()>;
    /// Asks the guest to reboot.
    fn reboot(&self, vm: Uuid, limit: Duration, control: &Control) -> Result<()>;
    /// Asks the guest to suspend itself, and keeps it in a file.
    fn suspend(&self, vm: Uuid, limit: Duration, control: &Control) -> Result<()>;
    /// Gives a suspended guest a new domain, and lets it go on, or keeps it paused.
    fn resume(&self, vm: Uuid, paused: bool, control: &Control) -> Result<()>;
    /// Takes the domain away, or the file of a suspended guest.
    fn destroy(&self, vm: Uuid, control: &Control) -> Result<()>;
    /// Forgets a VM that has no domain.
    fn forget(&self, vm: Uuid) -> Result<()>;
    /// Sets a running guest's memory.
    fn set_memory(&self, vm: Uuid, memory: Kib, control: &Control) -> Result<()>;
    /// Sets how many vCPUs a running guest uses.
    fn set_vcpus(&self, vm: Uuid, vcpus: u32, control: &Control) -> Result<()>;
    /// Gives a running guest a disk.
    fn attach_disk(&self, vm: Uuid, id: DiskId, disk: &Disk, control: &Control) -> Result<()>;
    /// Takes it away; without a limit whatever the guest says.
    fn detach_disk(&self, vm: Uuid, id: DiskId, limit: Option<Duration>, control: &Control) -> Result<()>;
    /// Gives a running guest an interface.
    fn attach_nic(&self, vm: Uuid, id: NicId, nic: &Nic, control: &Control) -> Result<()>;
    /// Takes it away; without a limit whatever the guest says.
    fn detach_nic(&self, vm: Uuid, id: NicId, limit: Option<Duration>, control: &Control) -> Result<()>;
    /// Changes what an interface may do on its network.
    fn set_port(&self, vm: Uuid, id: NicId, port: &Port, control: &Control) -> Result<()>;
    /// VMs that are known below: what they are doing, with which devices.
    fn vms(&self) -> Result<Vec<Vm>>;
    /// What a running guest uses and tells.
    fn metrics(&self, vm: Uuid) -> Result<Metrics>;
    /// What the machine and each domain have used.
    fn usage(&self) -> Result<Usage>;
    /// Bytes for new domains.
    fn free_memory(&self) -> Result<u64>;
    /// Waits for guests that end by themselves, does what is to follow, and tells, every now and then also without that; returns
    /// only with an error.
    fn follow(&self, changed: &dyn Fn()) -> Result<()>;
}

/// Domains of the hypervisor below.
pub struct Xen {
    record: PathBuf,
    suspended: PathBuf,
    manager: Mutex<Option<Arc<Manager>>>,
}

/// How long one wait for a guest's end lasts.
const LOOK: Duration = Duration::from_secs(10);
/// How long a guest's balloon may take.
const BALLOON: Duration = Duration::from_secs(60);

impl Xen {
    /// With the record of domains in this file, and suspended guests in this folder.
    pub fn new(record: PathBuf, suspended: PathBuf) -> Self {
        Self { record, suspended, manager: Mutex::new(None) }
    }

    /// The manager; what a killed daemon had begun is repaired before anything else.
    fn manager(&self) -> Result<Arc<Manager>> {
        let mut manager = self.manager.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &*manager {
            return Ok(open.clone());
        }
        let open = Arc::new(Manager::open(&self.record)?);
        for name in open.recover(&Control::default())? {
            eprintln!("radond: repaired what had been begun with VM {name}");
        }
        *manager = Some(open.clone());
        Ok(open)
    }

    fn with<T>(&self, vm: Uuid, work: impl FnOnce(&Manager, &str) -> Result<T>) -> Result<T> {
        work(&*self.manager()?, &vm.to_string())
    }
}

impl Domains for Xen {
    fn start(&self, vm: Uuid, config: Config, paused: bool, control: &Control) -> Result<()> {
        config.check()?;
        let manager = self.manager()?;
        let record = manager.record();
        if record.vms()?.iter().any(|known| known.uuid == vm) {
            record.update(vm, |vm| vm.config = config)?;
        } else {
            record.add(&Vm { uuid: vm, config, power: Power::Halted, domid: None, saved: None })?;
        }
        let name = vm.to_string();
        if paused { manager.start_paused(&name, control) } else { manager.start(&name, control) }
    }

    fn pause(&self, vm: Uuid, control: &Control) -> Result<()> {
        self.with(vm, |manager, name| manager.pause(name, control))
    }

    fn unpause(&self, vm: Uuid, control: &Control) -> Result<()> {
        self.with(vm, |manager, name| manager.unpause(name, control))
    }

    fn shutdown(&self, vm: Uuid, limit: Duration, control: &Control) -> Result<()> {
        self.with(vm, |manager, name| manager.shutdown(name, limit, control))
    }

    fn reboot(&self, vm: Uuid, limit: Duration, control: &Control) -> Result<()> {
        self.with(vm, |manager, name| manager.reboot(name, limit, control))
    }

    fn suspend(&self, vm: Uuid, limit: Duration, control: &Control) -> Result<()> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.suspended);
        made.map_err(|source| Error::File { path: self.suspended.clone(), source })?;
        let file = self.suspended.join(vm.to_string());
        self.with(vm, |manager, name| manager.suspend(name, &file, limit, control))
    }

    fn resume(&self, vm: Uuid, paused: bool, control: &Control) -> Result<()> {
        self.with(vm, |manager, name| match paused {
            true => manager.resume_paused(name, control),
            false => manager.resume(name, control),
        })
    }

    fn destroy(&self, vm: Uuid, control: &Control) -> Result<()> {
        self.with(vm, |manager, name| manager.destroy(name, control))
    }

    fn forget(&self, vm: Uuid) -> Result<()> {
        let manager = self.manager()?;
        let known = manager.record().vms()?.iter().any(|known| known.uuid == vm);
        if known { manager.delete(&vm.to_string()) } else { Ok(()) }
    }

    fn set_memory(&self, vm: Uuid, memory: Kib, control: &Control) -> Result<()> {
        self.with(vm, |manager, name| manager.set_memory(name, memory, BALLOON, control))
    }

    fn set_vcpus(&self, vm: Uuid, vcpus: u32, control: &Control) -> Result<()> {
        self.with(vm, |manager, name| manager.set_vcpus(name, vcpus, control))
    }

    fn attach_disk(&self, vm: Uuid, id: DiskId, disk: &Disk, control: &Control) -> Result<()> {
        self.with(vm, |manager, name| manager.attach_disk(name, id, disk, control))
    }

    fn detach_disk(&self, vm: Uuid, id: DiskId, limit: Option<Duration>, control: &Control) -> Result<()> {
        self.with(vm, |manager, name| manager.detach_disk(name, id, limit, control))
    }

    fn attach_nic(&self, vm: Uuid, id: NicId, nic: &Nic, control: &Control) -> Result<()> {
        self.with(vm, |manager, name| manager.attach_nic(name, id, nic, control))
    }

    fn detach_nic(&self, vm: Uuid, id: NicId, limit: Option<Duration>, control: &Control) -> Result<()> {
        self.with(vm, |manager, name| manager.detach_nic(name, id, limit, control))
    }

    fn set_port(&self, vm: Uuid, id: NicId, port: &Port, control: &Control) -> Result<()> {
        self.with(vm, |manager, name| manager.set_port(name, id, port, control))
    }

    fn vms(&self) -> Result<Vec<Vm>> {
        self.manager()?.record().vms()
    }

    fn metrics(&self, vm: Uuid) -> Result<Metrics> {
        self.with(vm, |manager, name| manager.metrics(name))
    }

    fn usage(&self) -> Result<Usage> {
        let manager = self.manager()?;
        let memory = manager.xen().machine_memory().xen("tell the machine's memory")?;
        let io = radon_linux::usage::all();
        let all = manager.xen().all_domains().xen("list domains")?.into_iter().filter(|d| !d.dying);
        let domains = all.map(|d| DomainUsage {
            domid: d.domid,
            vm: Uuid::from_bytes(d.handle),
            vcpus: d.online_vcpus,
            cpu_ns: d.cpu_time_ns,
            memory: d.pages.saturating_mul(4096),
            io: io.get(&d.domid).copied().unwrap_or_default(),
        });
        let bytes = |pages: u64| pages.saturating_mul(4096);
        Ok(Usage {
            memory_total: bytes(memory.total),
            memory_free: bytes(memory.free),
            domains: domains.collect(),
        })
    }

    fn free_memory(&self) -> Result<u64> {
        let memory = self.manager()?.xen().machine_memory().xen("tell the machine's memory")?;
        Ok(memory.free * 4096)
    }

    fn follow(&self, changed: &dyn Fn()) -> Result<()> {
        let manager = self.manager()?;
        let mut store = Xenstore::open()?;
        store.watch("@releaseDomain", "radond")?;
        loop {
            // A watch tells once at its beginning: guests that ended while nobody looked are found then.
            if store.next_event(Instant::now() + LOOK)?.is_some() {
                let ended = manager.follow_ends(&Control::default());
                if let Err(Error::Cancelled(_)) = &ended {
                    return ended.map(drop);
                }
            }
            changed();
        }
    }
}
