//! A guest into a file, and back.
//!
//! The guest suspends itself when asked. Until the record says that the VM is suspended, the guest can go on where it is, and does
//! if anything fails or is cut short: it is told that its suspension was cancelled. From then on the file is the guest; it is removed
//! once the record says that a new domain is.

use crate::acpi;
use crate::builder;
use crate::config::{Config, mac_of};
use crate::context;
use crate::device;
use crate::error::{Error, Result, XenContext};
use crate::guest::{self, End, Request};
use crate::layout::{ACPI_START, Extents, Layout, PAGE, SPECIAL, SUPERPAGE};
use crate::machine::{Event, Power};
use crate::manager::{Manager, Work, after, domain};
use crate::nodes;
use crate::record::Vm;
use crate::saved::{Clock, MOST_PAGES, Meta, Reader, Record, Writer};
use crate::task::{Control, Progress, Step};
use crate::teardown;
use crate::uuid::Uuid;
use radon_store::client::Tx;
use radon_store::perm::{Access, Perm};
use radon_xen::foreign;
use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use xen_abi::domctl::DomctlTscInfo;

/// The file while it is not whole.
fn part(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn file_error(path: &Path) -> impl Fn(io::Error) -> Error {
    move |source| Error::File { path: path.to_owned(), source }
}

/// A new file that nobody else may read: it is to hold a guest's memory.
fn private(path: &Path) -> io::Result<File> {
    // One that a killed suspension left may be another's to read.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => File::options().write(true).create_new(true).mode(0o600).open(path),
    }
}

impl Manager {
    /// Asks the guest to suspend itself, and puts it into a new file.
    pub fn suspend(&self, name: &str, file: &Path, limit: Duration, control: &Control) -> Result<()> {
        let vm = self.record.find(name)?;
        let (power, domid) = (after(&vm, Event::Suspend)?, domain(&vm)?);
        let file = std::path::absolute(file).map_err(file_error(file))?;
        if file.exists() {
            return Err(Error::Invalid(format!("there is a file {} already", file.display())));
        }
        self.task(&vm, "suspend", control, |work| {
            work.journal.at(Step::Commit)?;
            work.record.update(vm.uuid, |vm| vm.saved = Some(file.clone()))?;
            let features = work.features(domid)?;
            let result = work
                .reserve(&vm, &file)
                .and_then(|()| {
                    guest::ask(work.xen, &mut work.store, domid, Request::Suspend, limit, &mut work.journal)
                })
                .and_then(|()| work.save(&vm, domid, features, &file));
            if let Err(error) = result {
                work.journal.seal();
                work.go_on(domid)?;
                work.remove_files(vm.uuid)?;
                return Err(error);
            }
            work.journal.seal();
            work.take_down(&vm, power)
        })
    }

    /// Gives a suspended guest a new domain, in which it goes on.
    pub fn resume(&self, name: &str, control: &Control) -> Result<()> {
        self.resume_as(name, Power::Running, control)
    }

    /// The same, but its vCPUs wait for [`Manager::unpause`].
    pub fn resume_paused(&self, name: &str, control: &Control) -> Result<()> {
        self.resume_as(name, Power::Paused, control)
    }

    fn resume_as(&self, name: &str, power: Power, control: &Control) -> Result<()> {
        let vm = self.record.find(name)?;
        after(&vm, Event::Resume)?;
        let file =
            vm.saved.clone().ok_or_else(|| Error::Unknown { what: "file of VM", name: name.to_owned() })?;
        self.task(&vm, "resume", control, |work| {
            let result = work.restore(&vm, &file);
            match result {
                Ok(domid) => {
                    // From here on the domain is the guest: what it writes to its disks the file does not know.
                    work.journal.at(Step::RecordDomain)?;
                    work.journal.seal();
                    work.record.update(vm.uuid, |vm| (vm.power, vm.domid) = (power, Some(domid)))?;
                    if power == Power::Running {
                        work.journal.at(Step::Unpause)?;
                        work.xen.unpause_domain(domid).xen("unpause the domain")?;
                    }
                    work.remove_files(vm.uuid)
                }
                Err(error) => {
                    work.journal.seal();
                    teardown::tear_down(work.xen, &mut work.store, vm.uuid, &mut work.journal)?;
                    Err(error)
                }
            }
        })
    }
}

impl Work<'_> {
    /// What the guest has said it can be asked for.
    fn features(&mut self, domid: u16) -> Result<Vec<String>> {
        let control = format!("{}/control", nodes::domain_path(domid));
        let mut found = Vec::new();
        for name in self.store.list(Tx::NONE, &control)? {
            let value = self.store.read(Tx::NONE, &format!("{control}/{name}"))?;
            if name.starts_with("feature-") && value.as_deref() == Some("1") {
                found.push(name);
            }
        }
        Ok(found)
    }

    /// Takes the space for the file before the guest is asked.
    fn reserve(&mut self, vm: &Vm, file: &Path) -> Result<()> {
        let path = part(file);
        let out = private(&path).map_err(file_error(&path))?;
        let size = vm.config.memory.bytes() + (16 << 20);
        rustix::fs::fallocate(&out, rustix::fs::FallocateFlags::empty(), 0, size)
            .map_err(|e| file_error(&path)(e.into()))
    }

    /// Writes a guest that has suspended itself.
    fn save(&mut self, vm: &Vm, domid: u16, features: Vec<String>, file: &Path) -> Result<()> {
        let status = self.xen.domain_status(domid).xen("tell the domain's state")?;
        if status.and_then(|s| s.shutdown).map(End::from) != Some(End::Suspend) {
            let (vm, is) = (vm.config.name.clone(), "ended in another way".to_owned());
            return Err(Error::State { vm, is, needs: "suspended by itself" });
        }
        self.journal.at(Step::Save)?;
        let path = part(file);
        let failed = file_error(&path);
        let out = File::options().write(true).open(&path).map_err(&failed)?;
        let mut writer = Writer::new(BufWriter::with_capacity(1 << 20, out)).map_err(&failed)?;
        let clock = self.xen.tsc_info(domid).xen("tell the domain's clock")?;
        let clock = Clock {
            mode: clock.tsc_mode,
            khz: clock.gtsc_khz,
            incarnation: clock.incarnation,
            elapsed_ns: clock.elapsed_nsec,
        };
        let (leaves, msrs) = self.xen.cpu_policy(domid).xen("tell the domain's CPUID policy")?;
        let context = self.xen.hvm_context(domid).xen("tell the domain's state")?;
        let meta = Meta { config: vm.config.clone(), clock, features };
        let first = [
            Record::Meta(Box::new(meta)),
            Record::Leaves(leaves),
            Record::Msrs(msrs),
            Record::Context(context),
        ];
        first.iter().try_for_each(|r| writer.put(r)).map_err(&failed)?;
        for window in windows(&vm.config) {
            for record in self.window(domid, &window)? {
                writer.put(&record).map_err(&failed)?;
            }
            if self.journal.cancelled() {
                return Err(Error::Cancelled(Step::Save.to_string()));
            }
        }
        let out = writer.finish().map_err(&failed)?.into_inner().map_err(|e| failed(e.into_error()))?;
        // What was set aside and not needed is given back.
        let written = io::Seek::stream_position(&mut &out).map_err(&failed)?;
        out.set_len(written).and_then(|()| out.sync_all()).map_err(&failed)?;
        std::fs::rename(&path, file).map_err(file_error(file))?;
        // The name is to be there after a power cut, when the record says that the VM is suspended.
        let folder = file.parent().unwrap_or(Path::new("/"));
        File::open(folder).and_then(|f| f.sync_all()).map_err(file_error(folder))
    }

    /// The records of a run of frames.
    fn window(&mut self, domid: u16, frames: &[u64]) -> Result<Vec<Record>> {
        let (pages, present) =
            foreign::map_present(self.xen, domid, frames).xen("map the domain's memory")?;
        let mut records = Vec::new();
        let mut at = 0;
        while at < frames.len() {
            let there = present.get(at..).unwrap_or_default().iter().take_while(|p| **p).count();
            if there == 0 {
                at += 1;
                continue;
            }
            let mut bytes = vec![0; there * PAGE as usize];
            pages.read(at * PAGE as usize, &mut bytes);
            let first = frames.get(at).copied().unwrap_or_default();
            records.push(if bytes.iter().all(|b| *b == 0) {
                Record::Zeros(first, there as u64)
            } else {
                Record::Pages(first, bytes)
            });
            at += there;
        }
        Ok(records)
    }

    /// A guest that was suspended for nothing goes on: its hypercall says that it was cancelled.
    pub(crate) fn go_on(&mut self, domid: u16) -> Result<()> {
        let status = self.xen.domain_status(domid).xen("tell the domain's state")?;
        if status.and_then(|s| s.shutdown).map(End::from) != Some(End::Suspend) {
            return Ok(());
        }
        self.journal.at(Step::GoOn)?;
        const CANCELLED: u64 = 1;
        let saved = self.xen.hvm_context(domid).xen("tell the domain's state")?;
        let state = context::with_result(&saved, CANCELLED).map_err(|e| Error::Invalid(e.to_string()))?;
        self.xen.set_hvm_context(domid, &state).xen("set the domain's state")?;
        self.xen.resume_domain(domid).xen("let the domain go on")
    }

    /// Removes what there is of a guest's file, when it is not the guest.
    pub(crate) fn remove_files(&mut self, uuid: Uuid) -> Result<()> {
        let vm = self.record.vm(uuid)?;
        let Some(file) = vm.saved.filter(|_| vm.power != Power::Suspended) else { return Ok(()) };
        self.journal.at(Step::RemoveFile)?;
        for path in [part(&file), file] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(file_error(&path)(error));
                }
                _ => {}
            }
        }
        self.record.update(uuid, |vm| vm.saved = None).map(drop)
    }

    /// A new domain with the state in the file; complete, and paused.
    fn restore(&mut self, vm: &Vm, file: &Path) -> Result<u16> {
        self.journal.at(Step::ReadFiles)?;
        let failed = file_error(file);
        let open = File::open(file).map_err(&failed)?;
        let mut reader = Reader::new(BufReader::with_capacity(1 << 20, open)).map_err(&failed)?;
        let Some(Record::Meta(meta)) = reader.next_record().map_err(&failed)? else {
            return Err(failed(io::ErrorKind::InvalidData.into()));
        };
        self.journal.at(Step::CreateDomain)?;
        let domid = builder::create(self.xen, vm.uuid, &vm.config)?;
        self.journal.at(Step::SetLimits)?;
        builder::limits(self.xen, domid, &vm.config)?;
        // Its balloon may not have been where it should.
        let limit = |memory| self.xen.set_max_memory(domid, builder::memory_limit_kib(memory));
        limit(vm.config.memory_max).xen("set the limit of memory")?;
        let clock = DomctlTscInfo {
            tsc_mode: meta.clock.mode,
            gtsc_khz: meta.clock.khz,
            incarnation: meta.clock.incarnation,
            _pad: 0,
            elapsed_nsec: meta.clock.elapsed_ns,
        };
        self.xen.set_tsc_info(domid, &clock).xen("set the domain's clock")?;
        self.journal.at(Step::Restore)?;
        let context = self.load(domid, &mut reader, &failed)?;
        self.xen
            .set_max_memory(domid, builder::memory_limit_kib(vm.config.memory))
            .xen("set the limit of memory")?;
        self.journal.at(Step::Parameters)?;
        let ports = builder::parameters(self.xen, domid, &layout(&vm.config))?;
        // Rings begin anew; whoever is at their other ends does too.
        let rings =
            foreign::map(self.xen, domid, &[SPECIAL.store, SPECIAL.console]).xen("map its special pages")?;
        rings.clear(0, rings.len());
        self.xen.set_hvm_context(domid, &context).xen("set the domain's state")?;
        builder::introduce(&mut self.store, domid, vm.uuid, &vm.config, ports, &mut self.journal)?;
        self.give_features(domid, &meta.features)?;
        for (id, disk) in &vm.config.disks {
            device::attach_disk(&mut self.store, domid, *id, disk, &mut self.journal)?;
        }
        for (id, nic) in &vm.config.nics {
            let mac = nic.mac.unwrap_or_else(|| mac_of(vm.uuid, *id));
            device::attach_nic(&mut self.store, domid, *id, nic, mac, &mut self.journal)?;
        }
        for (kind, framebuffer) in vm.config.screen() {
            device::attach_screen(&mut self.store, domid, kind, framebuffer, &mut self.journal)?;
        }
        Ok(domid)
    }

    /// Puts the rest of the file into a domain; returns the registers.
    fn load(
        &mut self,
        domid: u16,
        reader: &mut Reader<BufReader<File>>,
        failed: &impl Fn(io::Error) -> Error,
    ) -> Result<Vec<u8>> {
        let (mut leaves, mut context) = (Vec::new(), Vec::new());
        while let Some(record) = reader.next_record().map_err(failed)? {
            match record {
                Record::Meta(_) => return Err(failed(io::ErrorKind::InvalidData.into())),
                Record::Leaves(list) => leaves = list,
                Record::Msrs(msrs) => {
                    self.xen
                        .set_cpu_policy(domid, &leaves, &msrs)
                        .xen("set the CPUID policy (another processor?)")?;
                }
                Record::Context(stream) => context = stream,
                Record::Pages(first, bytes) => {
                    self.put(domid, first, bytes.len() as u64 / PAGE, Some(&bytes))?
                }
                Record::Zeros(first, count) => self.put(domid, first, count, None)?,
            }
        }
        Ok(context)
    }

    fn put(&mut self, domid: u16, first: u64, count: u64, bytes: Option<&[u8]>) -> Result<()> {
        let frames: Vec<u64> = (first..first + count).collect();
        let whole = count == SUPERPAGE && first.is_multiple_of(SUPERPAGE);
        let extents = if whole {
            Extents { order: 9, first: vec![first] }
        } else {
            Extents { order: 0, first: frames.clone() }
        };
        builder::populate_extents(self.xen, domid, &extents, false).xen("give the domain its memory")?;
        let pages = foreign::map(self.xen, domid, &frames).xen("map the new domain's memory")?;
        match bytes {
            Some(bytes) => pages.write(0, bytes),
            None => pages.clear(0, pages.len()),
        }
        Ok(())
    }

    /// Linux says what it can be asked for once, when it boots.
    fn give_features(&mut self, domid: u16, features: &[String]) -> Result<()> {
        let owns = [Perm::new(domid, Access::NONE)];
        for name in features.iter().filter(|n| n.starts_with("feature-") && !n.contains('/')) {
            let path = format!("{}/control/{name}", nodes::domain_path(domid));
            self.store.write(Tx::NONE, &path, "1")?;
            self.store.set_perms(Tx::NONE, &path, &owns)?;
        }
        Ok(())
    }
}

/// The guest's memory as it was built.
fn layout(config: &Config) -> Layout {
    let tables = acpi::tables(ACPI_START, config.vcpus_max).bytes.len() as u64;
    Layout::new(config.memory_max, tables.div_ceil(PAGE), false)
}

/// All frames that it may have memory at, in runs that do not cross superpages.
fn windows(config: &Config) -> Vec<Vec<u64>> {
    let layout = layout(config);
    let mut all: Vec<u64> = layout.ram().flatten().collect();
    all.extend(layout.extra_frames());
    let same = |a: &u64, b: &u64| *b == a + 1 && a / SUPERPAGE == b / SUPERPAGE;
    let runs: Vec<Vec<u64>> = all.chunk_by(same).map(<[u64]>::to_vec).collect();
    debug_assert!(runs.iter().all(|r| r.len() <= MOST_PAGES));
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Kib;

    #[test]
    fn nobody_else_reads_a_guests_memory() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("guest.part");
        std::fs::write(&path, "left over").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        let file = private(&path).unwrap().metadata().unwrap();
        assert_eq!((file.permissions().mode() & 0o777, file.len()), (0o600, 0));
    }

    #[test]
    fn windows_are_superpages_and_hold_every_frame_once() {
        let mut config = Config::new("a", "/k".into());
        config.memory_max = Kib::new(5 << 20 | 4).unwrap();
        let all = windows(&config);
        assert!(all.iter().all(|w| w.len() <= 512 && w[0] / 512 == w[w.len() - 1] / 512));
        let frames: std::collections::BTreeSet<u64> = all.iter().flatten().copied().collect();
        assert_eq!(frames.len(), all.iter().map(Vec::len).sum::<usize>());
        let layout = layout(&config);
        assert_eq!(frames.len() as u64, config.memory_max.pages() + layout.extra_frames().len() as u64);
    }
}
