//! The daemon: one loop over events of guests, terminals, clients, and news of the store.
//!
//! Nothing here waits for anybody: a guest that does not read, a terminal that nobody has opened, a client that is slow have each a
//! place in a history, and no more than that.

use crate::discovery::{Found, Terminal};
use crate::file;
use crate::life::{Life, Vm};
use crate::logs::Hypervisor;
use crate::machine::Machine;
use crate::request::{Request, Who};
use crate::viewer::{Gone, Stage, Viewer};
use radon_domain::uuid::Uuid;
use radon_linux::mailbox::{Mailbox, Post};
use radon_xen::evtchn::Port;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Clients at a time.
const MOST_VIEWERS: usize = 512;
/// How long nothing is tried with a console that could not be mapped or bound.
const RETRY: Duration = Duration::from_secs(1);

/// Where things are, and how much is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder of histories.
    pub histories: PathBuf,
    /// Bytes of each.
    pub most: usize,
    /// This boot of the host ([`crate::record::boot`]).
    pub boot: u32,
    /// Folder of guests' logs, if they are kept.
    pub logs: Option<PathBuf>,
}

/// What the daemon hears from.
#[derive(Debug)]
pub struct Ears {
    /// Consoles that there are.
    pub found: Mailbox<Vec<Found>>,
    /// Where the store is told of terminals.
    pub terminals: Post<Terminal>,
    /// Clients.
    pub listener: UnixListener,
    /// A byte for each SIGHUP: logs are opened anew.
    pub hangup: UnixStream,
    /// The hypervisor's log, if it is kept.
    pub hypervisor: Option<Hypervisor>,
}

/// The daemon.
#[derive(Debug)]
pub struct Daemon<M: Machine> {
    machine: M,
    settings: Settings,
    ears: Ears,
    wanted: Vec<Found>,
    retry: Option<Instant>,
    /// The last failure that was told, by domain.
    failed: BTreeMap<u16, String>,
    lives: BTreeMap<u16, Life<M::Page>>,
    ports: HashMap<Port, u16>,
    vms: BTreeMap<Uuid, Vm>,
    viewers: BTreeMap<u64, Viewer>,
    next_viewer: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Events,
    Found,
    Listener,
    Hangup,
    Hypervisor,
    Terminal(u16),
    Viewer(u64),
}

impl<M: Machine> Daemon<M> {
    /// Serves nothing yet.
    pub fn new(machine: M, settings: Settings, ears: Ears) -> io::Result<Self> {
        ears.listener.set_nonblocking(true)?;
        ears.hangup.set_nonblocking(true)?;
        file::prune(&settings.histories, file::MOST_FILES)?;
        Ok(Self {
            machine,
            settings,
            ears,
            wanted: Vec::new(),
            retry: None,
            failed: BTreeMap::new(),
            lives: BTreeMap::new(),
            ports: HashMap::new(),
            vms: BTreeMap::new(),
            viewers: BTreeMap::new(),
            next_viewer: 0,
        })
    }

    /// Waits for something to do, at most so long, and does it.
    pub fn turn(&mut self, limit: Option<Duration>) -> io::Result<()> {
        let now = Instant::now();
        let due = self.lives.values().filter(|l| l.ready).map(|l| l.pace.next()).chain(self.retry);
        let due = due.min().map(|at| at.saturating_duration_since(now));
        let wait = [due, limit].into_iter().flatten().min();
        for (source, flags) in self.poll(wait)? {
            match source {
                Source::Events => self.events()?,
                Source::Found => {
                    if let Some(all) = self.ears.found.take().pop() {
                        self.wanted = all;
                        self.settle();
                    }
                }
                Source::Listener => self.accept(),
                Source::Hangup => self.reopen(),
                Source::Hypervisor => self.copy_hypervisor(),
                Source::Terminal(domid) => self.terminal(domid, flags),
                Source::Viewer(id) => {
                    if self.viewer(id, flags).is_err() {
                        self.viewers.remove(&id);
                    }
                }
            }
        }
        if self.retry.is_some_and(|at| at <= Instant::now()) {
            self.settle();
        }
        self.look();
        self.tidy();
        Ok(())
    }

    fn poll(&self, wait: Option<Duration>) -> io::Result<Vec<(Source, PollFlags)>> {
        let mut sources = vec![Source::Events, Source::Found, Source::Listener, Source::Hangup];
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.machine.events(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.ears.found.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.ears.listener.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.ears.hangup.as_fd(), PollFlags::IN),
        ];
        if let Some(hypervisor) = &self.ears.hypervisor {
            sources.push(Source::Hypervisor);
            fds.push(PollFd::from_borrowed_fd(hypervisor.events(), PollFlags::IN));
        }
        let flags = |input: bool, output: bool| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, input);
            flags.set(PollFlags::OUT, output);
            flags
        };
        for (domid, life) in &self.lives {
            let Some(pty) = &life.pty else { continue };
            let more = self.vms.get(&life.found.vm).is_some_and(|vm| vm.history.end() > pty.place);
            sources.push(Source::Terminal(*domid));
            fds.push(PollFd::from_borrowed_fd(pty.as_fd(), flags(life.room() > 0, more)));
        }
        for (id, viewer) in &self.viewers {
            let input = match viewer.stage {
                Stage::Greeting(_) => true,
                // What is typed while the VM has no domain is thrown away.
                Stage::Attached { vm, .. } => self.newest(vm).is_none_or(|life| life.room() > 0),
                Stage::Ending => false,
            };
            let history = viewer.vm().and_then(|vm| self.vms.get(&vm)).map(|vm| &vm.history);
            sources.push(Source::Viewer(*id));
            fds.push(PollFd::from_borrowed_fd(viewer.as_fd(), flags(input, viewer.wants_output(history))));
        }
        let timeout = wait.map(|w| Timespec { tv_sec: w.as_secs() as i64, tv_nsec: w.subsec_nanos().into() });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {
                let happened = sources.into_iter().zip(&fds).map(|(source, fd)| (source, fd.revents()));
                Ok(happened.filter(|(_, flags)| !flags.is_empty()).collect())
            }
            Err(rustix::io::Errno::INTR) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// The domain that a VM's typing goes to: after a restart of the VM, the new one.
    fn newest(&self, vm: Uuid) -> Option<&Life<M::Page>> {
        self.lives.values().rev().find(|life| life.found.vm == vm)
    }

    fn events(&mut self) -> io::Result<()> {
        for port in self.machine.pending()? {
            if let Some(life) = self.ports.get(&port).and_then(|domid| self.lives.get_mut(domid)) {
                life.ready = true;
            }
        }
        Ok(())
    }

    /// Looks at the rings that have something, as far as their guests' allowances go.
    fn look(&mut self) {
        let now = Instant::now();
        for life in self.lives.values_mut().filter(|l| l.ready) {
            let Some(vm) = self.vms.get_mut(&life.found.vm) else { continue };
            if life.pace.take(now) {
                life.ready = false;
                life.fetch(&self.machine, vm);
                self.machine.unmask(life.port);
            }
        }
    }

    /// Makes the lives those that the store tells of.
    fn settle(&mut self) {
        self.retry = None;
        let wanted = std::mem::take(&mut self.wanted);
        let gone: Vec<u16> =
            self.lives.iter().filter(|(_, life)| !wanted.contains(&life.found)).map(|(id, _)| *id).collect();
        for domid in gone {
            self.end(domid);
        }
        self.failed.retain(|domid, _| wanted.iter().any(|found| found.domid == *domid));
        for found in &wanted {
            if !self.lives.contains_key(&found.domid) {
                self.begin(found);
            }
        }
        self.wanted = wanted;
    }

    fn begin(&mut self, found: &Found) {
        let settings = &self.settings;
        let vm = self.vms.entry(found.vm).or_insert_with(|| Vm::open(settings, found.vm));
        match Life::open(&self.machine, found.clone(), vm, settings.logs.as_deref()) {
            Ok(mut life) => {
                log::info!("domain {} ({}): its console is served", found.domid, found.name);
                life.open_pty(vm, &self.ears.terminals);
                self.failed.remove(&found.domid);
                self.ports.insert(life.port, found.domid);
                self.lives.insert(found.domid, life);
            }
            Err(error) => {
                let error = error.to_string();
                if self.failed.get(&found.domid) != Some(&error) {
                    log::warn!(
                        "domain {} ({}): its console cannot be served: {error}",
                        found.domid,
                        found.name
                    );
                    self.failed.insert(found.domid, error);
                }
                self.retry = Some(Instant::now() + RETRY);
            }
        }
    }

    /// The domain is gone, or its console another one: its last words are kept.
    fn end(&mut self, domid: u16) {
        let Some(mut life) = self.lives.remove(&domid) else { return };
        if let Some(vm) = self.vms.get_mut(&life.found.vm) {
            life.fetch(&self.machine, vm);
            // Who has it open sees the end of it, if the terminal takes it at once.
            let _ = life.show(vm);
        }
        self.ports.remove(&life.port);
        self.machine.unbind(life.port);
        log::info!("domain {domid} ({}): its console has ended", life.found.name);
    }

    fn terminal(&mut self, domid: u16, flags: PollFlags) {
        let Some(life) = self.lives.get_mut(&domid) else { return };
        let Some(vm) = self.vms.get(&life.found.vm) else { return };
        let Some(pty) = &life.pty else { return };
        let mut result = Ok(());
        if flags.contains(PollFlags::IN) {
            match pty.read(life.room()) {
                Ok(typed) => drop(life.put(&self.machine, &typed.unwrap_or_default())),
                Err(error) => result = Err(error),
            }
        }
        if flags.contains(PollFlags::OUT) {
            result = result.and(life.show(vm));
        }
        let broken = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
        if result.is_err() || flags.intersects(broken) {
            life.open_pty(vm, &self.ears.terminals);
        }
    }

    fn accept(&mut self) {
        while self.viewers.len() < MOST_VIEWERS {
            match self.ears.listener.accept().and_then(|(stream, _)| Viewer::new(stream)) {
                Ok(viewer) => {
                    self.viewers.insert(self.next_viewer, viewer);
                    self.next_viewer += 1;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => return log::warn!("cannot take a client: {error}"),
            }
        }
        // No place: the newest one is turned away, so that nobody spins on it.
        drop(self.ears.listener.accept());
    }

    fn viewer(&mut self, id: u64, flags: PollFlags) -> Result<(), Gone> {
        let Some(viewer) = self.viewers.get_mut(&id) else { return Ok(()) };
        if flags.contains(PollFlags::IN) {
            match viewer.vm() {
                None => {
                    if let Some(greeting) = viewer.greet()? {
                        self.answer(id, &greeting.line);
                        self.typed(id, &greeting.rest);
                    }
                }
                Some(vm) => {
                    let room = self.newest(vm).map_or(1024, Life::room);
                    let bytes = self.viewers.get_mut(&id).map_or(Err(Gone), |v| v.read(room.max(1)))?;
                    self.typed(id, &bytes);
                }
            }
        } else if flags.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) {
            return Err(Gone);
        }
        let Some(viewer) = self.viewers.get_mut(&id) else { return Ok(()) };
        if flags.contains(PollFlags::OUT) {
            let vm = viewer.vm();
            viewer.write(vm.and_then(|vm| self.vms.get(&vm)).map(|vm| &vm.history))?;
        }
        Ok(())
    }

    fn typed(&self, viewer: u64, bytes: &[u8]) {
        let vm = self.viewers.get(&viewer).and_then(Viewer::vm);
        if let Some(life) = vm.and_then(|vm| self.newest(vm)) {
            life.put(&self.machine, bytes);
        }
    }

    fn vm_of(&self, who: &Who) -> Result<Uuid, String> {
        let of = |test: &dyn Fn(&Found) -> bool| {
            let mut all: Vec<Uuid> =
                self.lives.values().map(|l| &l.found).filter(|f| test(f)).map(|f| f.vm).collect();
            all.dedup();
            all
        };
        let (found, what) = match who {
            Who::Vm(vm) => return Ok(*vm),
            Who::Domain(domid) => (of(&|f| f.domid == *domid), domid.to_string()),
            Who::Name(name) => (of(&|f| f.name == *name), name.clone()),
        };
        match *found {
            [vm] => Ok(vm),
            [] => Err(format!("no VM with a console runs as {what}")),
            _ => Err(format!("several VMs are called {what}: say which by its UUID")),
        }
    }

    fn answer(&mut self, id: u64, line: &[u8]) {
        let answered = Request::parse(line).and_then(|request| self.carry_out(id, request));
        if let (Err(why), Some(viewer)) = (answered, self.viewers.get_mut(&id)) {
            viewer.end(format!("error {}\n", why.replace('\n', " ")).into_bytes());
        }
    }

    fn carry_out(&mut self, id: u64, request: Request) -> Result<(), String> {
        let mut answer = b"ok\n".to_vec();
        let attach = matches!(request, Request::Attach(_));
        match request {
            Request::Attach(who) | Request::History(who) => {
                let uuid = self.vm_of(&who)?;
                let settings = &self.settings;
                let vm = self.vms.entry(uuid).or_insert_with(|| Vm::open(settings, uuid));
                let Some(viewer) = self.viewers.get_mut(&id) else { return Ok(()) };
                let place = vm.history.beginning();
                if attach {
                    viewer.attach(uuid, place, &answer);
                } else {
                    let skipped = (place - vm.history.start()) as usize;
                    answer.extend(vm.history.to_vec().into_iter().skip(skipped));
                    viewer.end(answer);
                }
                return Ok(());
            }
            Request::List => {
                for found in self.lives.values().map(|l| &l.found) {
                    answer.extend(format!("{} {} {}\n", found.vm, found.domid, found.name).into_bytes());
                }
            }
            Request::Forget(uuid) => {
                if self.newest(uuid).is_some() {
                    return Err(format!("{uuid} is running"));
                }
                self.vms.remove(&uuid);
                // Who watches it has nothing to wait for any more.
                self.viewers.retain(|_, viewer| viewer.vm() != Some(uuid));
                file::remove(&self.settings.histories, uuid).map_err(|e| e.to_string())?;
            }
        }
        if let Some(viewer) = self.viewers.get_mut(&id) {
            viewer.end(answer);
        }
        Ok(())
    }

    fn reopen(&mut self) {
        let _ = self.ears.hangup.read(&mut [0; 64]);
        for life in self.lives.values_mut() {
            life.reopen_log(self.settings.logs.as_deref());
        }
        if let Some(Err(error)) = self.ears.hypervisor.as_mut().map(Hypervisor::reopen) {
            log::error!("the hypervisor's log: {error}");
        }
    }

    fn copy_hypervisor(&mut self) {
        if let Some(Err(error)) = self.ears.hypervisor.as_mut().map(Hypervisor::copy) {
            log::error!("the hypervisor's log: {error}");
            self.ears.hypervisor = None;
        }
    }

    /// Histories that nobody adds to or looks at stay on disk only.
    fn tidy(&mut self) {
        let (lives, viewers) = (&self.lives, &self.viewers);
        self.vms.retain(|uuid, _| {
            lives.values().any(|l| l.found.vm == *uuid) || viewers.values().any(|v| v.vm() == Some(*uuid))
        });
    }
}
