//! What a file asks for.

use crate::disk::{self, Disk};
use crate::syntax::{self, Setting, Value};
use crate::vif::{self, Vif};
use crate::{Error, Result, keys, wrong};
use std::collections::BTreeMap;

/// What follows a guest's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is taken away.
    Destroy,
    /// It is started again.
    Restart,
    /// It stays as it is, for who wants to look.
    Preserve,
}

/// A guest, as a file describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Its name.
    pub name: String,
    /// Its number, if it was given one.
    pub uuid: Option<String>,
    /// The kernel's file.
    pub kernel: String,
    /// The RAM disk's.
    pub ramdisk: Option<String>,
    /// The kernel's command line.
    pub command_line: String,
    /// Memory at its start, MiB.
    pub memory: u64,
    /// The most that it can have, MiB.
    pub memory_max: u64,
    /// vCPUs at its start.
    pub vcpus: u64,
    /// The most.
    pub vcpus_max: u64,
    /// Disks, with their places 0 to 15.
    pub disks: Vec<(u8, Disk)>,
    /// Interfaces, in order.
    pub vifs: Vec<Vif>,
    /// It has a framebuffer.
    pub framebuffer: bool,
    /// When it powers off.
    pub on_poweroff: Action,
    /// When it reboots.
    pub on_reboot: Action,
    /// When it crashes.
    pub on_crash: Action,
}

struct File(BTreeMap<String, Setting>);

impl File {
    fn text(&mut self, name: &str) -> Result<Option<(usize, String)>> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Setting { line, value: Value::Text(text) }) => Ok(Some((line, text))),
            Some(setting) => wrong(setting.line, format!("{name} is a text, not a list")),
        }
    }

    fn plain(&mut self, name: &str) -> Result<Option<String>> {
        Ok(self.text(name)?.map(|(_, text)| text))
    }

    fn number(&mut self, name: &str, least: u64, most: u64) -> Result<Option<u64>> {
        let Some((line, text)) = self.text(name)? else { return Ok(None) };
        match number(&text).filter(|n| (least..=most).contains(n)) {
            Some(number) => Ok(Some(number)),
            None => wrong(line, format!("{name} is a number from {least} to {most}, not {text}")),
        }
    }

    /// Texts of a list, with the line of the whole.
    fn list(&mut self, name: &str) -> Result<(usize, Vec<String>)> {
        let Some(setting) = self.0.remove(name) else { return Ok((0, Vec::new())) };
        let line = setting.line;
        let Value::List(all) = setting.value else {
            return wrong(line, format!("{name} is a list: {name} = [ ... ]"));
        };
        let texts = all.into_iter().map(|value| match value {
            Value::Text(text) => Ok(text),
            Value::List(_) => wrong(line, format!("{name} is a list of texts, not of lists")),
        });
        Ok((line, texts.collect::<Result<_>>()?))
    }

    fn action(&mut self, name: &str, default: Action, preserve: bool) -> Result<Action> {
        let Some((line, text)) = self.text(name)? else { return Ok(default) };
        match text.as_str() {
            "destroy" => Ok(Action::Destroy),
            "restart" => Ok(Action::Restart),
            "preserve" if preserve => Ok(Action::Preserve),
            "preserve" => wrong(line, format!("{name}: only a crashed guest can be preserved")),
            "rename-restart" | "coredump-destroy" | "coredump-restart" | "soft-reset" => {
                wrong(line, format!("{name}: {text} is not served: destroy or restart"))
            }
            _ => wrong(line, format!("{name} is destroy, restart or preserve, not {text}")),
        }
    }
}

/// As `strtol` with base 0 reads it.
fn number(text: &str) -> Option<u64> {
    match (text.strip_prefix("0x"), text.strip_prefix('0')) {
        (Some(hex), _) => u64::from_str_radix(hex, 16).ok(),
        (None, Some(octal)) if !octal.is_empty() => u64::from_str_radix(octal, 8).ok(),
        _ => text.parse().ok(),
    }
}

/// Reads a file.
pub fn parse(text: &str) -> Result<Guest> {
    let mut file = File(syntax::parse(text)?);
    let missing = |name: &str| Error { line: 1, why: format!("{name} is missing") };
    kind(&mut file)?;
    let name = file.plain("name")?.filter(|n| !n.is_empty()).ok_or_else(|| missing("name"))?;
    let kernel = file.plain("kernel")?.ok_or_else(|| missing("kernel"))?;
    let command_line = command_line(&mut file)?;
    let memory_line = file.0.get("memory").map_or(1, |s| s.line);
    let memory = file.number("memory", 1, 1 << 24)?;
    let memory_max = file.number("maxmem", 1, 1 << 24)?;
    let memory = memory.or(memory_max).ok_or_else(|| missing("memory"))?;
    let memory_max = memory_max.unwrap_or(memory);
    if memory > memory_max {
        return wrong(memory_line, format!("memory ({memory}) is more than maxmem ({memory_max})"));
    }
    let vcpus_line = file.0.get("vcpus").map_or(1, |s| s.line);
    let vcpus = file.number("vcpus", 1, 4096)?;
    let vcpus_max = file.number("maxvcpus", 1, 4096)?.or(vcpus).unwrap_or(1);
    let vcpus = vcpus.unwrap_or(vcpus_max);
    if vcpus > vcpus_max {
        return wrong(vcpus_line, format!("vcpus ({vcpus}) is more than maxvcpus ({vcpus_max})"));
    }
    let guest = Guest {
        name,
        uuid: uuid(&mut file)?,
        kernel,
        ramdisk: file.plain("ramdisk")?.filter(|f| !f.is_empty()),
        command_line,
        memory,
        memory_max,
        vcpus,
        vcpus_max,
        disks: disks(&mut file)?,
        vifs: vifs(&mut file)?,
        framebuffer: vfb(&mut file)?,
        on_poweroff: file.action("on_poweroff", Action::Destroy, false)?,
        on_reboot: file.action("on_reboot", Action::Restart, false)?,
        on_crash: file.action("on_crash", Action::Destroy, true)?,
    };
    rest(&file)?;
    Ok(guest)
}

/// A guest of another kind than PVH is refused before anything else: what else is wrong with it comes of that.
fn kind(file: &mut File) -> Result<()> {
    for name in ["type", "builder"] {
        let Some((line, text)) = file.text(name)? else { continue };
        if name == "type" && text != "pvh" || name == "builder" && text != "generic" {
            return wrong(line, format!("{name} {text}: guests are PVH (type = \"pvh\")"));
        }
    }
    Ok(())
}

/// `cmdline`, or else `root` and `extra`.
fn command_line(file: &mut File) -> Result<String> {
    let (root, extra) = (file.plain("root")?, file.plain("extra")?);
    if let Some(whole) = file.plain("cmdline")? {
        return Ok(whole);
    }
    let parts = [root.map(|r| format!("root={r}")), extra];
    Ok(parts.into_iter().flatten().collect::<Vec<_>>().join(" "))
}

fn uuid(file: &mut File) -> Result<Option<String>> {
    let Some((line, text)) = file.text("uuid")? else { return Ok(None) };
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    if groups != [8, 4, 4, 4, 12] || !text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit()) {
        return wrong(line, format!("{text} is no UUID"));
    }
    Ok(Some(text.to_ascii_lowercase()))
}

fn disks(file: &mut File) -> Result<Vec<(u8, Disk)>> {
    let (line, entries) = file.list("disk")?;
    let mut all: Vec<(u8, Disk)> = Vec::new();
    for entry in entries {
        let disk =
            disk::parse(&entry).map_err(|why| Error { line, why: format!("disk \"{entry}\": {why}") })?;
        let free = |place: &u8| all.iter().all(|(taken, _)| taken != place);
        let place = match disk.vdev.as_deref() {
            None => (0..16).find(free),
            Some(vdev) => match vdev.strip_prefix("xvd").map(str::as_bytes) {
                Some(&[letter @ b'a'..=b'p']) => Some(letter - b'a').filter(free),
                _ => return wrong(line, format!("disk \"{entry}\": {vdev}: disks are xvda to xvdp")),
            },
        };
        let Some(place) = place else {
            return wrong(line, format!("disk \"{entry}\": its place is taken, or all are"));
        };
        all.push((place, disk));
    }
    Ok(all)
}

fn vifs(file: &mut File) -> Result<Vec<Vif>> {
    let (line, entries) = file.list("vif")?;
    let named = |entry: &String| {
        vif::parse(entry).map_err(|why| Error { line, why: format!("vif \"{entry}\": {why}") })
    };
    entries.iter().map(named).collect()
}

/// Whether there is a framebuffer: where viewers reach it, and who may, is the host's matter.
fn vfb(file: &mut File) -> Result<bool> {
    let (line, entries) = file.list("vfb")?;
    let refused = |entry: &str, why: String| wrong(line, format!("vfb \"{entry}\": {why}"));
    for entry in &entries {
        for part in entry.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("vnc", "1") | ("sdl" | "opengl", "0")) => {}
                Some(("vncpasswd", "")) => {}
                // Of an address and a port in dom0, which there is not.
                Some(("vnclisten" | "vncdisplay" | "vncunused" | "keymap", _)) => {}
                Some(("vncpasswd", _)) => {
                    return refused(entry, "vncpasswd: the host's users are who may see it".into());
                }
                Some(("vnc" | "sdl" | "opengl" | "display" | "xauthority", _)) => {
                    return refused(entry, format!("{part}: it is shown by VNC, to radon console --vnc"));
                }
                _ => return refused(entry, format!("{part} is nothing of a framebuffer")),
            }
        }
    }
    if entries.len() > 1 {
        return wrong(line, "vfb: a guest has one framebuffer at most".to_owned());
    }
    Ok(!entries.is_empty())
}

/// What nobody has taken is not served.
fn rest(file: &File) -> Result<()> {
    let mut left: Vec<(&String, &Setting)> = file.0.iter().collect();
    left.sort_by_key(|(_, setting)| setting.line);
    for (name, setting) in left {
        match &setting.value {
            Value::Text(text) if keys::is_as_served(name, text) => {}
            Value::List(all) if all.is_empty() && keys::reason(name).is_some() => {}
            _ => {
                let why = match keys::reason(name) {
                    Some(reason) => format!("{name} is not served: {reason}"),
                    None => format!("{name} is no setting that xl knows"),
                };
                return wrong(setting.line, why);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: &str = "type = 'pvh'\nname = 'web'\nkernel = 'vmlinuz'\nmemory = 256\n";

    #[test]
    fn a_whole_file() {
        let guest = parse(
            r#"# A guest.
type = "pvh"
name = "web"
uuid = "01234567-89AB-cdef-0123-456789abcdef"
kernel = "vmlinuz"; ramdisk = "initrd"
root = "/dev/xvda"
extra = "console=hvc0 quiet"
memory = 256
maxmem = '0x200'
vcpus = 2
maxvcpus = 4
disk = [ 'root,raw,xvda,w',
         'format=raw,vdev=xvdc,access=ro,target=data', # the data
         'more' ]
vif = [ 'bridge=xenbr0', '' ]
vfb = [ 'vnc=1, vnclisten=0.0.0.0, vncunused=1' ]
on_crash = 'preserve'
on_reboot = "destroy"
vnc = 0
pci = []
"#,
        )
        .unwrap();
        assert_eq!(guest.command_line, "root=/dev/xvda console=hvc0 quiet");
        assert_eq!((guest.memory, guest.memory_max, guest.vcpus, guest.vcpus_max), (256, 512, 2, 4));
        assert_eq!(guest.uuid.as_deref(), Some("01234567-89ab-cdef-0123-456789abcdef"));
        let disks: Vec<_> = guest.disks.iter().map(|(p, d)| (*p, d.target.as_str(), d.read_only)).collect();
        assert_eq!(disks, [(0, "root", false), (2, "data", true), (1, "more", false)]);
        assert_eq!((guest.vifs.len(), guest.framebuffer), (2, true));
        let actions = (guest.on_poweroff, guest.on_reboot, guest.on_crash);
        assert_eq!(actions, (Action::Destroy, Action::Destroy, Action::Preserve));
        let plain = parse(&format!("{PLAIN}cmdline = 'c'\nextra = 'not this'\n")).unwrap();
        assert_eq!((plain.command_line.as_str(), plain.vcpus, plain.on_reboot), ("c", 1, Action::Restart));
        assert!(!plain.framebuffer && parse(&format!("{PLAIN}vfb = ['']\n")).unwrap().framebuffer);
    }

    #[test]
    fn what_is_refused_names_line_and_reason() {
        for (more, line, why) in [
            ("colour = 'red'", 5, "colour is no setting that xl knows"),
            ("vnc = 1", 5, "radon console"),
            ("pci = ['01:00.0']", 5, "passthrough"),
            ("type = 'hvm'", 5, "guests are PVH"),
            ("builder = 'hvm'", 5, "guests are PVH"),
            ("memory = 'much'", 5, "memory is a number"),
            ("maxmem = 100", 4, "more than maxmem"),
            ("vcpus = 3\nmaxvcpus = 2", 5, "more than maxvcpus"),
            ("vcpus = 0", 5, "vcpus is a number"),
            ("uuid = 'x'", 5, "no UUID"),
            ("disk = 'root'", 5, "disk is a list"),
            ("disk = [['root']]", 5, "list of texts"),
            ("disk = ['a,raw,sda']", 5, "xvda to xvdp"),
            ("disk = ['a,raw,xvda', 'b,raw,xvda']", 5, "taken"),
            ("disk = ['a,qcow2,xvda']", 5, "radon volume import"),
            ("vif = ['model=e1000']", 5, "emulated"),
            ("vfb = ['sdl=1']", 5, "VNC"),
            ("vfb = ['vncpasswd=x']", 5, "users"),
            ("vfb = ['colour=red']", 5, "nothing of"),
            ("vfb = ['', '']", 5, "one framebuffer"),
            ("on_crash = 'coredump-destroy'", 5, "not served"),
            ("on_poweroff = 'preserve'", 5, "only a crashed"),
            ("on_reboot = 'again'", 5, "destroy, restart or preserve"),
            ("name = ['x']", 5, "a text, not a list"),
        ] {
            let error = parse(&format!("{PLAIN}{more}\n")).expect_err(more);
            assert!(error.line == line && error.why.contains(why), "{more}: {error}");
        }
        for missing in ["name", "kernel", "memory"] {
            let file: String =
                PLAIN.lines().filter(|l| !l.starts_with(missing)).map(|l| format!("{l}\n")).collect();
            assert_eq!(parse(&file).unwrap_err().why, format!("{missing} is missing"));
        }
    }

    proptest! {
        #[test]
        fn any_settings(name in "(disk|vif|memory|vcpus|uuid|on_crash|pci|root|[a-z]{1,6})", value in "\\PC{0,20}|[0-9a-fx]{1,20}|(phy:|vdev=|xvd[a-z]|,|raw){0,6}", list: bool) {
            let quoted = format!("{value:?}");
            let value = if list { format!("[{quoted}]") } else { quoted };
            let _ = parse(&format!("{PLAIN}{name} = {value}\n"));
        }
    }
}
