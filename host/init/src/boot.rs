//! From the kernel's first call to running services, and to the machine's end.

use crate::modules::Modules;
use crate::service;
use crate::settings::Settings;
use crate::supervisor::{Event, Supervisor};
use crate::{console, data, mounts, stop};
use rustix::mount::MountFlags;
use rustix::system::sethostname;
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;
use std::fs;
use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

/// Where programs are.
pub const PATH: &str = "/usr/sbin:/usr/bin";
/// How long the disk with the data may take to appear.
const DISK: Duration = Duration::from_secs(10);
/// Files of the image that belong into the folder of kernels: guests boot their own kernel by them.
const KERNELS: &str = "/usr/lib/radon/kernels";

/// The life of the first process. It never returns: the kernel would stop the machine.
pub fn run() -> ! {
    let started = Instant::now();
    let mut wrong = mounts::all();
    println!("radon-init {}", env!("CARGO_PKG_VERSION"));
    // Warnings of the kernel belong in its own log, not between what is typed.
    wrong.extend(fs::write("/proc/sys/kernel/printk", "3").err().map(|e| e.to_string()));
    wrong.extend(prepare());
    let (settings, unreadable) = Settings::load();
    wrong.extend(unreadable);
    wrong.extend(sethostname(settings.hostname.as_bytes()).err().map(|e| format!("hostname: {e}")));
    wrong.iter().for_each(|text| println!("radon: {text}"));

    let (sender, events) = mpsc::channel();
    signals(sender.clone());
    console::listen(sender.clone());
    let mut supervisor = Supervisor::new(service::all(&settings), events, sender);
    let event = supervisor.run(&mut |s| ready(s, &settings, started));
    stop::machine(&mut supervisor, &event, settings.guests_stop_seconds);
    loop {
        std::thread::park();
    }
}

/// Modules, devices, data; what did not succeed.
fn prepare() -> Vec<String> {
    let mut wrong = Vec::new();
    let mut modules = Modules::open().unwrap_or_else(|error| {
        wrong.push(error);
        Modules::default()
    });
    wrong.extend(modules.always());
    wrong.extend(mounts::one("xenfs", "xenfs", "/proc/xen", MountFlags::empty(), "").err());
    let mut failed = Vec::new();
    while modules.coldplug(&mut failed) {}
    wrong.extend(radon_network::host::up("lo").err().map(|e| format!("lo: {e}")));
    match data::mount(DISK, &mut || modules.coldplug(&mut failed), &mut |text| println!("radon: {text}")) {
        Ok(Some(device)) => println!("radon: data on {}", device.display()),
        Ok(None) => println!("radon: no partition {}: NOTHING WILL BE KEPT when this host ends", data::NAME),
        Err(error) => {
            wrong.push(format!("{}: {error}: NOTHING WILL BE KEPT when this host ends", data::NAME))
        }
    }
    wrong.extend(failed);
    for dir in [
        "/run/xen",
        "/run/xenstored",
        "/run/lock",
        "/var/log",
        "/var/lib/radon/log/guests",
        "/var/lib/radon/volumes",
    ] {
        wrong.extend(fs::create_dir_all(dir).err().map(|e| format!("{dir}: {e}")));
    }
    wrong.extend(kernels().err().map(|e| format!("{KERNELS}: {e}")));
    wrong
}

/// Brings the image's files into the folder of kernels; each whole or as it was.
fn kernels() -> std::io::Result<()> {
    let to = Path::new(data::PLACE).join("kernels");
    fs::create_dir_all(&to)?;
    for entry in fs::read_dir(KERNELS)? {
        let entry = entry?;
        let content = fs::read(entry.path())?;
        let place = to.join(entry.file_name());
        if fs::read(&place).is_ok_and(|old| old == content) {
            continue;
        }
        let part = to.join(format!(".{}.part", entry.file_name().to_string_lossy()));
        fs::write(&part, &content)?;
        fs::File::open(&part)?.sync_all()?;
        fs::rename(&part, &place)?;
    }
    Ok(())
}

/// Signals become events. SIGINT is the kernel's, for Ctrl-Alt-Del; SIGTERM and SIGUSR2 are BusyBox's
/// `reboot` and `poweroff`.
fn signals(events: Sender<Event>) {
    let Ok(mut signals) = Signals::new([SIGCHLD, SIGINT, SIGTERM, SIGUSR2]) else {
        println!("radon: no signals: services that end are not started again");
        return;
    };
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let event = match signal {
                SIGCHLD => Event::Child,
                SIGINT | SIGTERM => Event::Reboot,
                _ => Event::PowerOff,
            };
            if events.send(event).is_err() {
                break;
            }
        }
    });
}

/// Tells people, and programs that watch the console, how to reach the host.
fn ready(supervisor: &Supervisor, settings: &Settings, started: Instant) {
    let address =
        settings.interface().and_then(|name| address(&name)).unwrap_or_else(|| "no address yet".into());
    println!("radon: certificate {}", supervisor.fingerprint.as_deref().unwrap_or("unknown"));
    let password = Path::new(data::PLACE).join("daemon/initial-password");
    if let Ok(password) = fs::read_to_string(password) {
        println!("radon: user root, first password {}", password.trim());
    }
    println!(
        "radon: ready after {:.1} s: https://{address} ({})",
        started.elapsed().as_secs_f64(),
        settings.https
    );
}

/// An interface's address, as the kernel knows it.
fn address(interface: &str) -> Option<String> {
    radon_network::host::address_of(interface).ok().flatten().map(|a| a.to_string())
}
