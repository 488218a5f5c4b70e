//! `radond`: the host daemon.

use clap::{Parser, Subcommand};
use radon_api::Role;
use radon_daemon::app::{App, Cut, Places};
use radon_daemon::domains::Xen;
use radon_daemon::users::{Users, random_word};
use radon_daemon::{autostart, server};
use radon_domain::config::Backend;
use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Serves XenAPI over this host's volumes and VMs.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit status: 0 if it was done, 1 if not, 2 for a command line that cannot be read."
)]
struct Arguments {
    /// The daemon's own folder: database, users, certificate
    #[arg(long, default_value = "/var/lib/radon/daemon", global = true)]
    state: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve, until SIGTERM or SIGINT
    Serve(Box<Serve>),
    /// Who may log in; the daemon takes changes at the next log-in
    #[command(subcommand)]
    User(UserCommand),
}

#[derive(clap::Args)]
struct Serve {
    /// Address for HTTPS
    #[arg(long, default_value = "0.0.0.0:443")]
    https: SocketAddr,
    /// Address for HTTP, without encryption: passwords can be read on the way
    #[arg(long)]
    http: Option<SocketAddr>,
    /// Folder of kernels and RAM disks that VMs may name
    #[arg(long, default_value = "/var/lib/radon/kernels")]
    kernels: PathBuf,
    /// What networks there are to be
    #[arg(long, default_value = "/var/lib/radon/networks")]
    networks: PathBuf,
    /// Where the console daemon (radon-consoled) listens
    #[arg(long, default_value = "/run/radon/console.sock")]
    consoles: PathBuf,
    /// Where the daemon of framebuffers (radon-vnc) listens
    #[arg(long, default_value = "/run/radon/framebuffer.sock")]
    framebuffers: PathBuf,
    /// Who serves disks of VMs that do not say (VBD.other_config, radon:backend): radon (radon-block, which has to run) or kernel
    #[arg(long, value_name = "BACKEND", default_value = "radon")]
    disks: Backend,
    /// The record of domains
    #[arg(long, default_value = "/var/lib/radon/domains.redb")]
    domains: PathBuf,
    /// Folder for suspended guests: it needs room for their memory
    #[arg(long, default_value = "/var/lib/radon/suspended")]
    suspended: PathBuf,
    /// Be killed when this message's operation enters the step of this number: for tests
    #[arg(long, value_name = "MESSAGE:STEP", hide = true)]
    kill_at: Option<Cut>,
}

#[derive(Subcommand)]
enum UserCommand {
    /// Add a user, or give one another role and password, which is read from standard input
    Set {
        name: String,
        /// read-only, vm-operator, vm-admin, vm-power-admin, pool-operator or pool-admin
        #[arg(long)]
        role: Role,
    },
    /// Take a user away
    Remove { name: String },
    /// Names and roles
    List,
}

type Failed = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("radond: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Failed> {
    let state = arguments.state;
    std::fs::create_dir_all(&state).map_err(|e| format!("{}: {e}", state.display()))?;
    match arguments.command {
        Command::User(command) => user(&Users::at(state.join("users")), command),
        Command::Serve(serving) => {
            let Serve {
                https,
                http,
                kernels,
                networks,
                consoles,
                framebuffers,
                disks,
                domains,
                suspended,
                kill_at,
            } = *serving;
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            if let Some(folder) = domains.parent() {
                std::fs::create_dir_all(folder)?;
            }
            radon_domain::port::use_state(networks.clone());
            let xen = Xen::new(domains, suspended);
            let places = Places { state, kernels, networks, consoles, framebuffers, disks };
            runtime.block_on(serve(places, xen, https, http, kill_at))
        }
    }
}

fn user(users: &Users, command: UserCommand) -> Result<(), Failed> {
    match command {
        UserCommand::Set { name, role } => {
            let mut password = String::new();
            io::stdin().lock().read_line(&mut password)?;
            Ok(users.set(&name, role, password.trim_end_matches(['\r', '\n']))?)
        }
        UserCommand::Remove { name } => match users.remove(&name)? {
            true => Ok(()),
            false => Err(format!("there is no user {name}").into()),
        },
        UserCommand::List => {
            for user in users.all()? {
                println!("{} {}", user.name, user.role);
            }
            Ok(())
        }
    }
}

/// At the first start: a user who may do everything, with a password that nobody else knows.
fn first_user(places: &Places) -> Result<(), Failed> {
    let users = Users::at(places.state.join("users"));
    if !users.all()?.is_empty() {
        return Ok(());
    }
    let password = random_word(12)?;
    let path = places.state.join("initial-password");
    let _ = std::fs::remove_file(&path);
    let mut options = std::fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.write(true).create_new(true).open(&path)?.write_all(password.as_bytes())?;
    users.set("root", Role::PoolAdmin, &password)?;
    println!("user root was made; its password is in {}", path.display());
    Ok(())
}

async fn serve(
    places: Places,
    xen: Xen,
    https: SocketAddr,
    http: Option<SocketAddr>,
    cut: Option<Cut>,
) -> Result<(), Failed> {
    first_user(&places)?;
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let identity = server::identity(&places.state, &name)?;
    // Before anything is opened: who finds the address taken has touched nothing.
    let secure = TcpListener::bind(https).await.map_err(|e| format!("{https}: {e}"))?;
    let plain = match http {
        Some(address) => Some(TcpListener::bind(address).await.map_err(|e| format!("{address}: {e}"))?),
        None => None,
    };
    let app = tokio::task::spawn_blocking(move || App::open(places, Arc::new(xen))).await??;
    if let Some(cut) = cut {
        let _ = app.cut.set(cut);
    }
    println!("certificate SHA-256 {}", identity.fingerprint);
    println!("https on {}", secure.local_addr()?);
    let seats = server::places();
    tokio::spawn(server::serve(app.clone(), secure, Some(identity.acceptor), seats.clone()));
    if let Some(listener) = plain {
        println!("http on {}", listener.local_addr()?);
        tokio::spawn(server::serve(app.clone(), listener, None, seats));
    }
    println!("ready");
    io::stdout().flush()?;
    if let Err(error) = autostart::begin(&app) {
        eprintln!("radond: no VM starts with the host: {error}");
    }
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        result = tokio::signal::ctrl_c() => result?,
    }
    // Everything is on the disk, always; what is under way is brought to its end or undone at the next start.
    std::process::exit(0);
}
