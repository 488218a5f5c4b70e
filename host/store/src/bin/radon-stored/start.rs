//! From the command line to the loop: first start, restart after a kill, second half of a live update.

use crate::client;
use crate::options::Options;
use radon_linux::service;
use radon_store::daemon::journal::Journal;
use radon_store::daemon::machine::Xen;
use radon_store::daemon::server::Server;
use radon_store::daemon::{logger, takeover, update};
use radon_store::state::Restored;
use radon_store::{ConnId, DomId, Store};
use radon_xen::evtchn::Port;
use radon_xen::inherit;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Does what the options say.
pub fn run(options: &Options) -> Result<()> {
    if options.check_state {
        update::read(io::stdin().lock())?;
        return Ok(());
    }
    if options.live_update {
        return Ok(client::live_update(&options.socket())?);
    }
    if !options.no_fork && !options.background && options.resume_from.is_none() {
        let daemon = service::go_to_background("--background")?;
        if options.output_pid {
            println!("{daemon}");
        }
        return Ok(());
    }
    logger::start(options.no_fork, options.verbose, options.trace_file.as_deref());
    service::raise_file_limit();
    let (mut server, _lock) = match options.resume_from {
        Some(fd) => resume(options, fd)?,
        None => start(options)?,
    };
    let hangup = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGHUP, hangup.1)?;
    server.reopen_log_on(hangup.0.into())?;
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|a| !a.starts_with(update::RESUME)).collect();
    loop {
        server.turn(None)?;
        update::run(&mut server, &arguments);
    }
}

/// Only one daemon may serve a folder.
fn lock(options: &Options) -> Result<File> {
    fs::create_dir_all(&options.run_dir)?;
    Ok(service::lock(&options.run_dir.join("lock"))?)
}

fn start(options: &Options) -> Result<(Server<Xen>, File)> {
    let lock = lock(options)?;
    let journal = options.run_dir.join("journal");
    let restored = match Journal::read(&journal)? {
        Some(records) if !options.no_journal => match update::restore(&records) {
            Ok(restored) => Some(restored),
            Err(error) => {
                log::error!("the journal is of no use: {error}");
                None
            }
        },
        _ => None,
    };
    let machine = if options.no_domain_init { None } else { Some(Xen::open()?) };
    let mut server = match restored {
        Some(restored) => {
            log::info!("going on from the journal: {} domains", restored.store.introduced().len());
            let mut server = server(options, restored.store, machine)?;
            takeover::reconnect(&mut server, restored.streams, &BTreeMap::new());
            server
        }
        None => {
            let mut store = Store::new(options.limits()?);
            store.furnish();
            server(options, store, machine)?
        }
    };
    takeover::connect_own_kernel(&mut server)?;
    server.check_domains();
    keep_journal(options, &mut server)?;
    server.listen(service::listen(&options.socket())?)?;
    service::ready(options.pid_file.as_deref(), options.background)?;
    if options.output_pid && !options.background {
        println!("{}", std::process::id());
    }
    Ok((server, lock))
}

/// The successor in a live update.
fn resume(options: &Options, fd: i32) -> Result<(Server<Xen>, File)> {
    let Restored { store, streams, sockets, ports, descriptors, .. } =
        update::read(File::from(inherit::take(fd)?))?;
    let descriptors = descriptors.ok_or("the state names no descriptors")?;
    let machine = match descriptors.events {
        -1 => None,
        events => Some(Xen::inherit(inherit::take(events)?, Port(descriptors.virq))?),
    };
    let lock = lock(options)?;
    let mut server = server(options, store, machine)?;
    takeover::reconnect(&mut server, streams, &ports);
    for socket in sockets {
        let conn = ConnId::Socket(socket.id);
        match inherit::take(socket.fd) {
            Ok(fd) => drop(server.add_client(fd, Some(socket.id), socket.rest)?),
            Err(error) => {
                log::error!("a client is lost: {error}");
                server.store.close(conn);
            }
        }
    }
    server.check_domains();
    keep_journal(options, &mut server)?;
    server.listen(UnixListener::from(inherit::take(descriptors.listener)?))?;
    log::info!("live update done");
    Ok((server, lock))
}

fn server(options: &Options, mut store: Store, machine: Option<Xen>) -> Result<Server<Xen>> {
    store.keep_orphans(options.keep_orphans);
    if let Some(domid) = options.priv_domid {
        store.privilege(DomId(domid));
    }
    Ok(Server::new(store, machine)?)
}

fn keep_journal(options: &Options, server: &mut Server<Xen>) -> Result<()> {
    if !options.no_journal {
        let state = server.state(&[]);
        server.keep(Journal::create(&options.run_dir.join("journal"), &state)?);
    }
    Ok(())
}
