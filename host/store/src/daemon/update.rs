//! Live update: another program takes over, with everything that is open.
//!
//! The state, with the numbers of all file descriptors, is written to a memory file. The new program first reads it as
//! a trial, as a child; only if it understands everything does it replace this one by `exec`. If that fails, nothing
//! has happened. Rings and event channels stay as they are; the new program maps the rings again.

use super::machine::Machine;
use super::server::Server;
use crate::record::Record;
use crate::state::{Restored, Socket};
use crate::wire;
use radon_xen::inherit::pass_on;
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// The option with which the new program finds the state.
pub const RESUME: &str = "--resume-from";

/// The option with which a program reads a state from its standard input, and says by its exit whether it could.
pub const TRIAL: &str = "--check-state";

/// Carries out a live update that was asked for; returns only if there was none or it failed.
pub fn run<M: Machine>(server: &mut Server<M>, arguments: &[String]) {
    let Some(asked) = server.admin.update.take() else { return };
    let Some(program) = server.admin.program.take() else { return };
    let arguments = server.admin.arguments.take().unwrap_or_else(|| arguments.to_vec());
    log::info!("live update to {}", program.display());
    let reply = wire::message(asked.kind, asked.req_id, asked.tx_id, b"OK\0");
    let reply = Record::Queued { conn: asked.conn, bytes: reply.into() };
    let error = hand_over(server, &program, &arguments, &reply);
    log::error!("live update failed: {error}");
    keep_open(server, false);
    server.answer(asked, &format!("live update failed: {error}"));
}

/// Returns only with an error.
fn hand_over<M: Machine>(
    server: &mut Server<M>,
    program: &Path,
    arguments: &[String],
    reply: &Record<'_>,
) -> io::Error {
    let mut attempt = || -> io::Result<std::convert::Infallible> {
        let mut file = File::from(memfd_create("radon-stored-state", MemfdFlags::empty())?);
        file.write_all(&state(server, reply))?;
        file.rewind()?;
        let trial = Command::new(program)
            .arg(TRIAL)
            .stdin(Stdio::from(file.try_clone()?))
            .stdout(Stdio::null())
            .status()?;
        if !trial.success() {
            return Err(io::Error::other("the new program does not understand the state"));
        }
        file.rewind()?;
        keep_open(server, true);
        pass_on(&file, true)?;
        let resume = format!("{RESUME}={}", file.as_raw_fd());
        Err(Command::new(program).args(arguments).arg(resume).exec())
    };
    match attempt() {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn state<M: Machine>(server: &mut Server<M>, reply: &Record<'_>) -> Vec<u8> {
    let listener = server.listener().map_or(-1, |l| l.as_raw_fd());
    let (events, virq) = server
        .domains
        .machine()
        .map_or((-1, 0), |m| (m.events().map_or(-1, |fd| fd.as_raw_fd()), m.virq().0));
    let sockets: Vec<Socket> = server
        .clients()
        .map(|(id, client)| Socket { id, fd: client.fd.as_raw_fd(), rest: client.rest().to_vec() })
        .collect();
    let mut state = Vec::new();
    Record::Descriptors { listener, events, virq }.write(&mut state);
    state.extend(server.state(&sockets));
    for (domid, port) in server.domains.streams().1 {
        Record::Bound { domid, port }.write(&mut state);
    }
    reply.write(&mut state);
    state
}

/// Lets everything stay open across `exec`, or not.
fn keep_open<M: Machine>(server: &mut Server<M>, yes: bool) {
    let mut result = Ok(());
    let mut mark = |fd: std::os::fd::BorrowedFd<'_>| {
        if let Err(error) = pass_on(fd, yes) {
            result = Err(error);
        }
    };
    server.clients().for_each(|(_, client)| mark(client.fd.as_fd()));
    if let Some(listener) = server.listener() {
        mark(listener.as_fd());
    }
    if let Some(events) = server.domains.machine().and_then(|m| m.events()) {
        mark(events);
    }
    if let Err(error) = result {
        log::error!("cannot mark a descriptor: {error}");
    }
}

/// Reads a state to its end.
pub fn read(mut from: impl Read) -> io::Result<Restored> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes)?;
    restore(&bytes)
}

/// Makes a state from records.
pub fn restore(records: &[u8]) -> io::Result<Restored> {
    let mut restored = Restored::default();
    for record in Record::read_all(records).map_err(io::Error::other)? {
        restored.apply(record);
    }
    // A second is more changes than the store can see in it; so no number is used twice.
    let epoch = std::time::UNIX_EPOCH.elapsed().map_or(0, |t| t.as_nanos() as u64);
    restored.finish(epoch);
    restored.store.check().map_err(io::Error::other)?;
    Ok(restored)
}
