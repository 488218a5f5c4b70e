//! `cargo xtask up`: from nothing to a server of our own with a first VM.

pub mod host;

use crate::qemu::Hypervisor;
use crate::scenario::Options;
use crate::{host_image, paths, program, setup, shell};
use anyhow::{Context, Result};
use host::{Host, Medium};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Arguments of `up`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Which hypervisor boots the host: the same daemon runs on both
    #[arg(long, value_enum, default_value_t = Hypervisor::Radon)]
    hypervisor: Hypervisor,
    /// Memory of the server in MiB
    #[arg(long, default_value_t = 3072)]
    memory: u32,
    /// Start the server from its UEFI, not its BIOS
    #[arg(long)]
    uefi: bool,
    /// Start with the disk of the last time: its VMs, volumes and networks
    #[arg(long)]
    keep: bool,
    /// End when the VM's log-in has been seen
    #[arg(long)]
    headless: bool,
    /// Emulator to use
    #[arg(long, default_value = "qemu-system-x86_64", value_name = "PATH")]
    qemu: PathBuf,
}

/// Bytes of the server's disk. Holes in its file take no room.
pub const DISK: u64 = 16 << 30;
/// The template's name, and its disk's file.
pub const TEMPLATE: &str = "debian-12";
/// How long the whole of it may take, with everything emulated.
const LIMIT: Duration = Duration::from_secs(3600);
/// The first VM, its network and its disks' repository.
const VM: &str = "demo";
const NETWORK: &str = "inside";
const SUBNET: &str = "10.55.0.0/24";

/// Runs it as asked.
pub fn run(args: &Args) -> Result<()> {
    let began = Instant::now();
    let say = |text: &str| println!("{:7.1} s  {text}", began.elapsed().as_secs_f64());
    setup::run()?;
    let options = Options {
        memory: args.memory,
        qemu: args.qemu.clone(),
        // One vCPU: with two of them dom0 waits for itself, on the one processor that emulates everything.
        dom0_cpus: Some(1),
        ..Options::plain(args.hypervisor, 1024)
    };
    options.check_control()?;
    say("building the host image, the programs in it, and the command line");
    let image = host_image::cached(&options)?;
    let cli = cli()?;
    say("building the template from Debian's packages (once; some minutes)");
    let template = template(&cli)?;

    let disk = folder().join(format!("{}.img", args.hypervisor.name()));
    let fresh = !(args.keep && disk.exists());
    if fresh {
        new_disk(&image.disk, &disk)?;
    }
    let medium = if args.uefi { Medium::Uefi(disk) } else { Medium::Bios(disk) };
    let mut host = Host::start(&options, &medium, &cli, &folder(), "up", LIMIT)?;
    say(&format!("the server is switched on; its serial line: {}", host.log().display()));
    host.wait_ready()?;
    say(&format!("host ready ({:.1} s after its first process began)", host.seconds));
    host.login()?;
    if fresh {
        first_vm(&mut host, &template, &say)?;
    }
    say(&format!("starting {VM}; its systemd and cloud-init take minutes in an emulated processor"));
    host.radon(&["vm", "start", VM])?;
    host.wait_console(VM, "login:", Duration::from_secs(1500))?;
    say(&format!("{VM} asks for a log-in"));
    tell(&host, &cli);
    if args.headless { Ok(()) } else { host.follow() }
}

/// What belongs to the server: its disks, its log-in.
fn folder() -> PathBuf {
    paths::target().join("up")
}

/// The command line, built for this machine.
pub fn cli() -> Result<PathBuf> {
    shell::loud(program::cargo().args(["build", "--quiet", "-p", "radon-cli"]))?;
    Ok(paths::target().join("debug/radon"))
}

/// The template's disk, built by the command line; kept.
pub fn template(cli: &Path) -> Result<PathBuf> {
    let made_by = [include_bytes!("../../../host/cli/src/commands/template.rs").as_slice()];
    let file = paths::cache().join(format!("{TEMPLATE}-{}.raw", shell::fingerprint(made_by)));
    if !file.exists() {
        let mut build = Command::new(cli);
        build.args(["template", "build", "debian", "--file"]).arg(&file);
        shell::quiet(&mut build).context("the template")?;
    }
    Ok(file)
}

/// The server's disk: the image at the beginning of a larger one.
pub fn new_disk(image: &Path, disk: &Path) -> Result<()> {
    if let Some(folder) = disk.parent() {
        fs::create_dir_all(folder)?;
    }
    let _ = fs::remove_file(disk);
    shell::quiet(shell::command("cp").arg("--sparse=always").arg(image).arg(disk))?;
    File::options().write(true).open(disk)?.set_len(DISK)?;
    Ok(())
}

/// What a new host gets: a repository, a network, the template, a VM of it.
pub fn first_vm(host: &mut Host, template: &Path, say: &dyn Fn(&str)) -> Result<()> {
    host.radon(&["sr", "create", "main", "/var/lib/radon/volumes"])?;
    host.radon(&["network", "create", NETWORK, "--subnet", SUBNET, "--outside", "nat"])?;
    say("importing the template");
    host.radon(&["template", "import", &template.display().to_string(), TEMPLATE])?;
    let user_data = folder().join("user-data");
    let password = shell::fingerprint([host.password.as_bytes(), VM.as_bytes()]);
    let text = format!("#cloud-config\npassword: {password}\nchpasswd: {{ expire: false }}\n");
    shell::write(&user_data, text.as_bytes())?;
    say(&format!("a VM of the template: {VM}"));
    let user_data = user_data.display().to_string();
    host.radon(&["template", "deploy", TEMPLATE, VM, "--network", NETWORK, "--user-data", &user_data])?;
    Ok(())
}

fn tell(host: &Host, cli: &Path) {
    let config = host.config();
    let user_data = fs::read_to_string(folder().join("user-data")).unwrap_or_default();
    let password = user_data.lines().find_map(|l| l.strip_prefix("password: ")).unwrap_or("?");
    println!();
    println!("XenAPI        https://{}   user root, password {}", host.address, host.password);
    println!("certificate   SHA-256 {}", host.fingerprint);
    println!("{VM}          user debian, password {password}");
    println!();
    println!(
        "  export XDG_CONFIG_HOME={} PATH={}:$PATH",
        config.display(),
        cli.parent().unwrap_or(cli).display()
    );
    println!("  radon vm list");
    println!("  radon console {VM}");
    println!();
}
