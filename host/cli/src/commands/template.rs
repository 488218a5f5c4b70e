//! `radon template`: VMs that are there to be cloned.

use super::{made, volume};
use crate::arguments::{Build, Deploy, System, Template, Vm};
use crate::client::Client;
use crate::{Done, Failed, names, task};
use radon_medium::{SECTOR, fat};
use serde_json::json;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const MIB: u64 = 1 << 20;
/// The host's GRUB for guests, which boots the kernel on the guest's own disk.
const GRUB: &str = "grub-pvh";
/// Memory of a new template, in MiB.
const MEMORY: u64 = 512;

/// Carries one out; `build` with a file needs no host.
pub fn run(client: &dyn Fn() -> Result<Client, Failed>, json: bool, command: &Template) -> Done {
    match command {
        Template::List => super::vm::run(&client()?, json, &Vm::List { templates: true }),
        Template::Build(build) => match &build.file {
            Some(file) => debian(build, file),
            None => {
                let client = client()?;
                let folder = Scratch::new()?;
                let file = folder.path("disk.raw");
                debian(build, &file)?;
                import(&client, json, &file, &build.name, None)
            }
        },
        Template::Import { file, name, sr } => import(&client()?, json, file, name, sr.as_deref()),
        Template::Deploy(deploy) => self::deploy(&client()?, json, deploy),
    }
}

/// A folder of our own, which goes with us: nobody else sees into it or knows its name before.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Result<Self, Failed> {
        let ours = fs::Permissions::from_mode(0o700);
        let made = tempfile::Builder::new().prefix("radon-template-").permissions(ours).tempdir();
        Ok(Self(made.map_err(|e| format!("{}: {e}", std::env::temp_dir().display()))?))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// What the template is made of, besides Debian's minimal system.
const PACKAGES: &[&str] = &[
    "linux-image-cloud-amd64",
    "systemd-sysv",
    "systemd-resolved",
    "udev",
    "dbus",
    "cloud-init",
    "e2fsprogs",
    "iproute2",
    "iputils-ping",
    "openssh-server",
    "sudo",
    "ca-certificates",
];

/// What no guest needs, and what would be a third of the image.
const LEFT_OUT: &[&str] =
    &["/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/i18n/*"];

/// Files of the template, with their content. The kernel is found by the links that Debian keeps on the newest one, so a guest
/// that upgrades its kernel boots it.
const FILES: &[(&str, &str)] = &[
    ("etc/fstab", "/dev/xvda / ext4 errors=remount-ro 0 1\n"),
    ("etc/hostname", "debian\n"),
    ("etc/initramfs-tools/conf.d/radon", "MODULES=list\n"),
    ("etc/initramfs-tools/modules", "xen-blkfront\next4\n"),
    ("etc/cloud/cloud.cfg.d/95_radon.cfg", "datasource_list: [ NoCloud, None ]\n"),
    (
        "boot/grub/grub.cfg",
        "set timeout=0\nlinux /vmlinuz root=/dev/xvda ro console=hvc0 quiet\ninitrd /initrd.img\nboot\n",
    ),
];

fn tool(program: &str, package: &str) -> Result<Command, Failed> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let found = folders.map(|f| f.join(program)).find(|p| p.is_file());
    let found = found.ok_or_else(|| format!("there is no {program}; cure: apt-get install {package}"))?;
    Ok(Command::new(found))
}

/// Runs a program to its end; what it wrote on standard error is in the error.
fn done(command: &mut Command) -> Done {
    let out = command.output().map_err(|e| format!("{}: {e}", command.get_program().display()))?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    let last: Vec<&str> = said.lines().rev().take(12).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    Err(format!("{} failed ({}):\n{}", command.get_program().display(), out.status, last.join("\n")).into())
}

/// Makes the disk of a Debian from packages: one ext4 over all of it. The file is there when all of it is.
fn debian(build: &Build, file: &Path) -> Done {
    let System::Debian = build.system;
    let scratch = Scratch::new()?;
    let (tar, overlay, root) = (scratch.path("root.tar"), scratch.path("overlay"), scratch.path("root"));
    for (path, content) in FILES {
        let path = overlay.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&overlay))?;
        fs::write(&path, content).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    eprintln!("making Debian {} from packages: some minutes", build.suite);
    let mut mmdebstrap = tool("mmdebstrap", "mmdebstrap")?;
    mmdebstrap.args(["--quiet", "--variant=minbase"]).arg(format!("--include={}", PACKAGES.join(",")));
    for path in LEFT_OUT {
        mmdebstrap.arg(format!("--dpkgopt=path-exclude={path}"));
    }
    // Before the kernel's package makes its RAM disk.
    mmdebstrap.arg(format!("--essential-hook=copy-in {}/etc /", overlay.display()));
    mmdebstrap.arg(format!("--customize-hook=copy-in {0}/boot {0}/etc /", overlay.display()));
    mmdebstrap
        .arg("--customize-hook=rm -f \"$1/etc/machine-id\" \"$1\"/etc/ssh/ssh_host_* \"$1/etc/resolv.conf\"");
    mmdebstrap.arg("--customize-hook=ln -s ../run/systemd/resolve/stub-resolv.conf \"$1/etc/resolv.conf\"");
    // Empty: the first start is a first start, and gives the clone a number of its own.
    mmdebstrap.arg("--customize-hook=: > \"$1/etc/machine-id\"");
    mmdebstrap.arg(&build.suite).arg(&tar).args(&build.mirror);
    done(&mut mmdebstrap)?;
    let part = file.with_extension("part");
    if let Some(folder) = file.parent().filter(|f| !f.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    let _ = fs::remove_file(&part);
    fs::create_dir_all(&root)?;
    done(as_root()?.args(["tar", "--numeric-owner", "-C"]).arg(&root).arg("-xf").arg(&tar))?;
    let mke2fs = tool("mke2fs", "e2fsprogs")?;
    let mut make = as_root()?;
    make.arg(mke2fs.get_program()).args(["-q", "-t", "ext4", "-L", "root", "-d"]).arg(&root).arg(&part);
    let result = done(make.arg(format!("{}M", build.size)));
    // It belongs to users whom only a name space knows.
    let _ = as_root()?.args(["rm", "-rf"]).arg(&root).status();
    result?;
    Ok(fs::rename(&part, file).map_err(|e| format!("{}: {e}", file.display()))?)
}

/// A command that runs another one as root, or as a root of a name space of its own.
fn as_root() -> Result<Command, Failed> {
    let uid = fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m))?;
    if uid == 0 {
        return tool("env", "coreutils");
    }
    let mut unshare = tool("unshare", "util-linux")?;
    unshare.args(["--map-root-user", "--map-auto", "--"]);
    Ok(unshare)
}

/// A template of a disk image: volume and VM, both or neither.
fn import(client: &Client, json: bool, file: &Path, name: &str, sr: Option<&str>) -> Done {
    let length = fs::metadata(file).map_err(|e| format!("{}: {e}", file.display()))?.len();
    let sr = names::sr(client, sr)?;
    let size = length.next_multiple_of(MIB);
    let disk = client.text("VDI.create", &[json!({"name_label": name, "virtual_size": size, "SR": sr})])?;
    let made_of = || -> Result<String, Failed> {
        volume::import_raw(client, &disk, file)?;
        let memory = MEMORY * MIB;
        let vm = client.text(
            "VM.create",
            &[json!({
                "name_label": name, "PV_kernel": GRUB, "is_a_template": true, "VCPUs_max": 1, "VCPUs_at_startup": 1,
                "memory_static_max": memory, "memory_dynamic_max": memory, "memory_dynamic_min": memory,
                "memory_static_min": 0,
            })],
        )?;
        let vbd = json!({"VM": vm, "VDI": disk, "userdevice": "0", "mode": "RW", "bootable": true});
        if let Err(error) = client.call("VBD.create", &[vbd]) {
            client.call("VM.destroy", &[json!(vm)])?;
            return Err(error);
        }
        Ok(vm)
    };
    match made_of() {
        Ok(vm) => made(client, json, "VM", &vm),
        Err(error) => {
            let _ = client.call("VDI.destroy", &[json!(disk)]);
            Err(error)
        }
    }
}

/// Sectors of the volume for cloud-init: 4 MiB.
const SEED: u64 = 8192;

/// A VM of a template, with what cloud-init is to make of it on a small volume of its own (source `NoCloud`).
fn deploy(client: &Client, json: bool, deploy: &Deploy) -> Done {
    let seed = seed(deploy)?;
    let template = names::find(client, "VM", &deploy.template, |r| r["is_a_template"] == true)?;
    let vm = task::run(client, "VM.clone", &[json!(template), json!(deploy.name)])?;
    let result = equip(client, &vm, deploy, &seed);
    if let Err(error) = result {
        super::vm::delete(client, &vm, true)?;
        return Err(error);
    }
    made(client, json, "VM", &vm)
}

fn equip(client: &Client, vm: &str, deploy: &Deploy, seed: &[u8]) -> Done {
    client.call("VM.provision", &[json!(vm)])?;
    let disks = client.call("VM.get_VBDs", &[json!(vm)])?;
    let disk = client.text("VBD.get_VDI", &[disks[0].clone()])?;
    client.call("VDI.set_name_label", &[json!(disk), json!(deploy.name)])?;
    let sr = client.text("VDI.get_SR", &[json!(disk)])?;
    let name = format!("{}-seed", deploy.name);
    let record = json!({"name_label": name, "virtual_size": seed.len(), "SR": sr});
    let volume = client.text("VDI.create", &[record])?;
    // From here on it goes with the VM if anything fails.
    super::vm::attach(client, vm, &volume, false)?;
    let scratch = Scratch::new()?;
    let file = scratch.path("seed");
    fs::write(&file, seed)?;
    volume::import_raw(client, &volume, &file)?;
    deploy
        .networks
        .iter()
        .try_for_each(|network| super::vm::connect(client, vm, network, &[], "network_default"))
}

/// A file system that cloud-init takes for its own by its label.
fn seed(deploy: &Deploy) -> Result<Vec<u8>, Failed> {
    let host = deploy.host_name.as_deref().unwrap_or(&deploy.name);
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if host.is_empty() || host.len() > 253 || !host.chars().all(fits) {
        return Err(format!("{host} is no host name: letters, digits, - and . are; pass --host-name").into());
    }
    let text = |path: &PathBuf| fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()));
    // JSON is YAML, with nothing to escape by hand.
    let mut meta = json!({"instance-id": format!("{}-{}", deploy.name, nonce()?), "local-hostname": host});
    if let Some(path) = &deploy.ssh_key {
        meta["public-keys"] = json!(text(path)?.lines().filter(|l| !l.trim().is_empty()).collect::<Vec<_>>());
    }
    let user = match &deploy.user_data {
        Some(path) => text(path)?,
        None => "#cloud-config\n{}\n".to_owned(),
    };
    let meta = meta.to_string();
    let mut bytes = std::io::Cursor::new(vec![0; (SEED * SECTOR) as usize]);
    let files = [("meta-data".to_owned(), meta.as_bytes()), ("user-data".to_owned(), user.as_bytes())];
    fat::write(&mut bytes, 0, SEED, "cidata", 0, &files)?;
    Ok(bytes.into_inner())
}

/// Eight letters of chance: a new VM of an old name is not the old one.
fn nonce() -> Result<String, Failed> {
    let mut bytes = [0; 4];
    std::io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn deploy(name: &str) -> Deploy {
        Deploy {
            template: "t".into(),
            name: name.into(),
            host_name: None,
            ssh_key: None,
            user_data: None,
            networks: Vec::new(),
        }
    }

    #[test]
    fn a_seed_has_the_host_name_and_the_key() {
        let mut key = tempfile::NamedTempFile::new().unwrap();
        writeln!(key, "ssh-ed25519 AAAA me").unwrap();
        let bytes = seed(&Deploy { ssh_key: Some(key.path().into()), ..deploy("web-1") }).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("\"local-hostname\":\"web-1\"") && text.contains("[\"ssh-ed25519 AAAA me\"]"));
        assert!(text.contains("#cloud-config") && text.contains("CIDATA"));
    }

    #[test]
    fn folders_of_our_own_are_nobody_elses_and_do_not_go_with_each_other() {
        let outer = Scratch::new().unwrap();
        fs::write(outer.path("disk"), "x").unwrap();
        drop(Scratch::new().unwrap());
        assert_eq!(fs::read(outer.path("disk")).unwrap(), b"x");
        assert_eq!(fs::metadata(outer.path("")).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn what_is_no_host_name_is_refused() {
        assert!(seed(&deploy("a b")).unwrap_err().to_string().contains("--host-name"));
        assert!(seed(&Deploy { host_name: Some("a-b".into()), ..deploy("a b") }).is_ok());
    }
}
