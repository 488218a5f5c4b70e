//! The commands of `xenstore-control` that concern the daemon rather than the store.

use super::domains::Domains;
use super::logger;
use super::machine::Machine;
use crate::connection::ConnId;
use crate::errno::{Errno, Result};
use crate::perm::DomId;
use crate::store::{Control, Host};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A request that is answered later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Who.
    pub conn: ConnId,
    /// Head of the request.
    pub kind: u32,
    /// Head of the request.
    pub req_id: u32,
    /// Head of the request.
    pub tx_id: u32,
}

/// The daemon's own state.
#[derive(Debug, Default)]
pub struct Admin {
    /// The request in hand.
    pub current: Option<Asked>,
    /// The program that is to take over.
    pub program: Option<PathBuf>,
    /// Its arguments; the present ones if not given.
    pub arguments: Option<Vec<String>>,
    /// Who has asked for it to take over now.
    pub update: Option<Asked>,
}

impl Admin {
    fn control(&mut self, arguments: &[&[u8]]) -> Option<Result<Control>> {
        let done = || Ok(Control::Reply(b"OK\0".to_vec()));
        Some(match arguments {
            [b"log", b"on"] => done().inspect(|_| logger::trace(true)),
            [b"log", b"off"] => done().inspect(|_| logger::trace(false)),
            [b"logfile", path] => {
                logger::trace_to(Path::new(OsStr::from_bytes(path)));
                done()
            }
            [b"print", text] => {
                log::info!("control: {}", String::from_utf8_lossy(text));
                done()
            }
            [b"memreport", report] => {
                String::from_utf8_lossy(report).lines().for_each(|line| log::info!("{line}"));
                done()
            }
            [b"memreport", path, report] => match fs::write(OsStr::from_bytes(path), report) {
                Ok(()) => done(),
                Err(error) => {
                    log::warn!("memreport: {error}");
                    Err(Errno::Io)
                }
            },
            [b"live-update", rest @ ..] => self.live_update(rest),
            _ => return None,
        })
    }

    /// `-f <file>`, `-c <command line>`, `-s [-t <seconds>] [-F]`, `-a`: the steps that `xenstore-control` takes.
    fn live_update(&mut self, arguments: &[&[u8]]) -> Result<Control> {
        let reply = |text: &str| Ok(Control::Reply(format!("{text}\0").into_bytes()));
        match arguments {
            [b"-f", path] => {
                let path = PathBuf::from(OsStr::from_bytes(path));
                if !path.is_file() {
                    return reply("no such file");
                }
                self.program = Some(path);
                self.arguments = None;
                reply("OK")
            }
            [b"-c", line] => {
                let line = String::from_utf8_lossy(line);
                self.arguments = Some(line.split_whitespace().map(str::to_owned).collect());
                reply("OK")
            }
            [b"-a"] => {
                *self = Self { current: self.current, ..Self::default() };
                reply("OK")
            }
            // Open transactions do not stand in the way, so there is nothing to wait for and nothing to force.
            [b"-s", ..] => {
                if self.program.is_none() {
                    return reply("no program given");
                }
                self.update = self.current;
                Ok(Control::Later)
            }
            _ => Err(Errno::Inval),
        }
    }
}

/// The world outside, as the store's operations reach it.
#[derive(Debug)]
pub struct Outside<'a, M: Machine> {
    /// Rings.
    pub domains: &'a mut Domains<M>,
    /// The daemon.
    pub admin: &'a mut Admin,
}

impl<M: Machine> Host for Outside<'_, M> {
    fn exists(&mut self, domid: DomId) -> bool {
        self.domains.exists(domid)
    }

    fn connect(&mut self, domid: DomId, gfn: u64, port: u32) -> Result<()> {
        self.domains.connect(domid, gfn, port)
    }

    fn disconnect(&mut self, domid: DomId) {
        self.domains.disconnect(domid);
    }

    fn control(&mut self, _: ConnId, arguments: &[&[u8]]) -> Option<Result<Control>> {
        self.admin.control(arguments)
    }
}
