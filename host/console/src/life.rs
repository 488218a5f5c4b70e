//! One domain's console while it is served: its ring, its terminal, its log; and the VM's history, which outlives it.

use crate::daemon::Settings;
use crate::discovery::{Found, Terminal};
use crate::file::{HistoryFile, Reached};
use crate::history::History;
use crate::logs;
use crate::machine::Machine;
use crate::pace::Pace;
use crate::pty::Pty;
use crate::record::Source;
use crate::ring::Ring;
use radon_domain::uuid::Uuid;
use radon_linux::mailbox::Post;
use radon_xen::evtchn::Port;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

/// A VM's history, in memory and on disk.
#[derive(Debug)]
pub struct Vm {
    /// What was said.
    pub history: History,
    file: HistoryFile,
    reached: Option<Reached>,
    boot: u32,
}

impl Vm {
    /// As it is on disk.
    pub fn open(settings: &Settings, vm: Uuid) -> Self {
        let (file, history, reached) = HistoryFile::open(&settings.histories, vm, settings.most);
        Self { history, file, reached, boot: settings.boot }
    }

    fn source(&self, domid: u16) -> Source {
        Source { domid, boot: self.boot }
    }
}

/// A domain's console.
#[derive(Debug)]
pub struct Life<P> {
    /// As the store tells of it.
    pub found: Found,
    /// Ours.
    pub port: Port,
    /// How often it is looked at.
    pub pace: Pace,
    /// An event waits to be looked after.
    pub ready: bool,
    /// The terminal; none if there are no more.
    pub pty: Option<Pty>,
    ring: Ring<P>,
    log: Option<File>,
}

impl<P: std::ops::Deref<Target = radon_xen::page::SharedPages>> Life<P> {
    /// Maps and binds; goes on where a killed daemon was.
    pub fn open<M: Machine<Page = P>>(
        machine: &M,
        found: Found,
        vm: &Vm,
        logs: Option<&Path>,
    ) -> io::Result<Self> {
        let ring = Ring::new(machine.map(found.domid, found.frame)?);
        let port = machine.bind(found.domid, found.port)?;
        if let Some(reached) = vm.reached.filter(|r| r.source == vm.source(found.domid)) {
            ring.catch_up(reached.end);
        }
        let mut life =
            Self { found, port, pace: Pace::new(Instant::now()), ready: true, pty: None, ring, log: None };
        life.reopen_log(logs);
        // It may wait for room, or for an answer to an event that nobody was there for.
        machine.notify(port);
        Ok(life)
    }

    /// Opens the log anew, after it was rotated.
    pub fn reopen_log(&mut self, folder: Option<&Path>) {
        let opened = folder.map(|folder| logs::guest(folder, &self.found.name)).transpose();
        self.log = opened.inspect_err(|e| log::error!("{e}")).ok().flatten();
    }

    /// A new terminal, which shows what the history has from now on; the store is told.
    pub fn open_pty(&mut self, vm: &Vm, terminals: &Post<Terminal>) {
        match Pty::open(vm.history.end()) {
            Ok(pty) => {
                terminals.send(Terminal { of: self.found.clone(), path: pty.path().to_owned() });
                self.pty = Some(pty);
            }
            Err(error) => {
                log::error!("domain {}: no terminal for `xl console`: {error}", self.found.domid);
                self.pty = None;
            }
        }
    }

    /// Takes what the guest has written, keeps it, and then gives the guest its place back.
    pub fn fetch<M: Machine<Page = P>>(&mut self, machine: &M, vm: &mut Vm) {
        let Some(chunk) = self.ring.peek() else { return };
        vm.history.push(&chunk.bytes);
        let source = vm.source(self.found.domid);
        vm.file.append(source, &chunk, &vm.history);
        vm.reached = Some(Reached { source, end: chunk.end() });
        if let Some(log) = &mut self.log
            && let Err(error) = log.write_all(&chunk.bytes)
        {
            log::error!("the log of {}: {error}", self.found.name);
            self.log = None;
        }
        self.ring.release(chunk.end());
        machine.notify(self.port);
    }

    /// How much can be typed now.
    pub fn room(&self) -> usize {
        self.ring.room()
    }

    /// Types; how much fitted.
    pub fn put<M: Machine<Page = P>>(&self, machine: &M, bytes: &[u8]) -> usize {
        let count = self.ring.put(bytes);
        if count > 0 {
            machine.notify(self.port);
        }
        count
    }

    /// Shows the terminal what it has not seen.
    pub fn show(&mut self, vm: &Vm) -> io::Result<()> {
        let Some(pty) = &mut self.pty else { return Ok(()) };
        let (lost, piece) = vm.history.piece(pty.place);
        pty.place += lost + pty.write(piece)? as u64;
        Ok(())
    }
}
