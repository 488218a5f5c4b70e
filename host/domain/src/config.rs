//! What a VM is to be: memory, processors, kernel, disks, interfaces, and what follows its end.

use crate::acpi::MOST_VCPUS;
use crate::error::{Error, Result};
use crate::layout::Kib;
use crate::port::Port;
use crate::uuid::Uuid;
pub use radon_network::Mac;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A disk by its name in the guest, `xvda` to `xvdp`; ordered like the letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct DiskId(u8);

impl DiskId {
    /// The number that front and back end know it by: major 202, 16 minors each (`docs/man/xen-vbd-interface`).
    pub fn number(self) -> u32 {
        202 << 8 | u32::from(self.0) << 4
    }

    /// The disk of such a number.
    pub fn from_number(number: u32) -> Option<Self> {
        (number >> 8 == 202 && number & 15 == 0).then_some(Self((number >> 4 & 15) as u8))
    }
}

impl fmt::Display for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "xvd{}", char::from(b'a' + self.0))
    }
}

impl FromStr for DiskId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.strip_prefix("xvd").map(str::as_bytes) {
            Some(&[letter @ b'a'..=b'p']) => Ok(Self(letter - b'a')),
            _ => Err(Error::Invalid(format!("{text} is no disk: xvda to xvdp are"))),
        }
    }
}

impl From<DiskId> for String {
    fn from(id: DiskId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for DiskId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

/// An interface by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NicId(pub u32);

impl fmt::Display for NicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vif{}", self.0)
    }
}

/// The address of an interface that was given none: Xen's prefix, and bits of the VM's UUID.
pub fn mac_of(uuid: Uuid, id: NicId) -> Mac {
    let seed = uuid.bytes().into_iter().chain(id.0.to_le_bytes());
    // FNV-1a, 64 bits.
    let hash = seed.fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let [a, b, c, ..] = (hash ^ hash >> 32).to_le_bytes();
    Mac::xen([a & 0x7f, b, c])
}

/// Who serves a disk.
///
/// The default is what a record means that does not say: it was written when there was dom0's kernel only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// dom0's kernel (blkback).
    #[default]
    Kernel,
    /// `radon-block`, from the file itself.
    Radon,
}

impl Backend {
    /// What its directory in the store is called.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Kernel => "vbd",
            Self::Radon => "rdisk",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Radon => "radon",
        })
    }
}

impl FromStr for Backend {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "kernel" => Ok(Self::Kernel),
            "radon" => Ok(Self::Radon),
            _ => Err(Error::Invalid(format!("{text} is no back end of disks: kernel and radon are"))),
        }
    }
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// A block device, or a file (through a loop device if the kernel serves it).
    pub path: PathBuf,
    /// The guest may not write.
    pub read_only: bool,
    /// Who serves it.
    #[serde(default)]
    pub backend: Backend,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// dom0's bridge.
    pub bridge: String,
    /// Its hardware address; one made from the VM's UUID if there is none.
    pub mac: Option<Mac>,
    /// What it is to be on the declared network whose bridge that is; none: the bridge is somebody else's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Box<Port>>,
}

/// A framebuffer, with keyboard and pointer, served by `radon-vnc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Framebuffer {
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
}

impl Default for Framebuffer {
    /// As large as Linux makes it without being asked.
    fn default() -> Self {
        Self { width: 800, height: 600 }
    }
}

impl FromStr for Framebuffer {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let side = |text: &str| text.parse::<u16>().ok().filter(|side| (64..=4096).contains(side));
        let sides = text.split_once('x').and_then(|(width, height)| Some((side(width)?, side(height)?)));
        let wrong = || Error::Invalid(format!("{text} is no size of a framebuffer: 64x64 to 4096x4096 are"));
        sides.map(|(width, height)| Self { width, height }).ok_or_else(wrong)
    }
}

/// What follows when a guest ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The domain goes; the VM is halted.
    Destroy,
    /// A new domain of the same VM.
    Restart,
    /// The domain stays as it is, to be looked at.
    Preserve,
}

/// What a VM is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Its name.
    pub name: String,
    /// The kernel: ELF or bzImage with a PVH entry.
    pub kernel: PathBuf,
    /// The kernel's initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line.
    pub command_line: String,
    /// Memory that it may ever have.
    pub memory_max: Kib,
    /// Memory that it is to have.
    pub memory: Kib,
    /// vCPUs that it may ever have.
    pub vcpus_max: u32,
    /// vCPUs that it is to use.
    pub vcpus: u32,
    /// Disks.
    pub disks: BTreeMap<DiskId, Disk>,
    /// Interfaces.
    pub nics: BTreeMap<NicId, Nic>,
    /// Its framebuffer, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framebuffer: Option<Framebuffer>,
    /// When it powers off.
    pub on_poweroff: Action,
    /// When it reboots.
    pub on_reboot: Action,
    /// When it crashes.
    pub on_crash: Action,
}

/// Memory of a guest unless it says otherwise: 256 MiB.
const DEFAULT_MEMORY: u64 = 256 << 10;

impl Config {
    /// A VM of one vCPU and 256 MiB, without devices.
    pub fn new(name: &str, kernel: PathBuf) -> Self {
        let memory = Kib::new(DEFAULT_MEMORY).unwrap_or_else(|| unreachable!("within the limits"));
        Self {
            name: name.to_owned(),
            kernel,
            initrd: None,
            command_line: String::new(),
            memory_max: memory,
            memory,
            vcpus_max: 1,
            vcpus: 1,
            disks: BTreeMap::new(),
            nics: BTreeMap::new(),
            framebuffer: None,
            on_poweroff: Action::Destroy,
            on_reboot: Action::Restart,
            on_crash: Action::Destroy,
        }
    }

    /// The devices of its framebuffer, if it has one, by their directories' names.
    pub fn screen(&self) -> impl Iterator<Item = (&'static str, &Framebuffer)> {
        self.framebuffer.iter().flat_map(|framebuffer| ["vfb", "vkbd"].map(|kind| (kind, framebuffer)))
    }

    /// An error that names what makes no sense.
    pub fn check(&self) -> Result<()> {
        let wrong = |text: String| Err(Error::Invalid(text));
        let name_ok = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty() || self.name.len() > 63 || !self.name.chars().all(name_ok) {
            return wrong(format!("name {:?}: 1 to 63 of letters, digits, '-', '_' and '.'", self.name));
        }
        if self.memory > self.memory_max {
            return wrong(format!(
                "memory of {} KiB is more than its limit of {} KiB",
                self.memory.get(),
                self.memory_max.get()
            ));
        }
        if self.vcpus == 0 || self.vcpus > self.vcpus_max || self.vcpus_max > MOST_VCPUS {
            return wrong(format!(
                "{} vCPUs of at most {}: from 1 up to the limit, which is at most {MOST_VCPUS}",
                self.vcpus, self.vcpus_max
            ));
        }
        if self.command_line.contains('\0') {
            return wrong("the kernel's command line holds a zero".to_owned());
        }
        match self
            .nics
            .values()
            .filter(|n| n.port.is_none())
            .find(|n| n.bridge.is_empty() || n.bridge.len() > 15 || n.bridge.contains('/'))
        {
            Some(nic) => wrong(format!("{:?} is no name of a bridge", nic.bridge)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_by_name_and_number() {
        for (name, number) in [("xvda", 51712), ("xvdb", 51728), ("xvdp", 51952)] {
            let id: DiskId = name.parse().unwrap();
            assert_eq!((id.number(), id.to_string()), (number, name.to_owned()));
            assert_eq!(DiskId::from_number(number), Some(id));
        }
        for bad in ["", "xvd", "xvdq", "xvdaa", "sda", "xvdA"] {
            assert!(bad.parse::<DiskId>().is_err(), "{bad}");
        }
        assert_eq!(DiskId::from_number(51713), None);
        assert_eq!(DiskId::from_number(2048), None);
    }

    #[test]
    fn framebuffers() {
        assert_eq!("1024x768".parse::<Framebuffer>().unwrap(), Framebuffer { width: 1024, height: 768 });
        for bad in ["", "1024", "x", "63x64", "5000x100", "100x-1", "70000x100"] {
            assert!(bad.parse::<Framebuffer>().is_err(), "{bad}");
        }
        // What was recorded before there were any.
        let mut old = serde_json::to_value(Config::new("vm", "/k".into())).unwrap();
        assert!(old.as_object_mut().unwrap().get("framebuffer").is_none());
        assert_eq!(serde_json::from_value::<Config>(old).unwrap().framebuffer, None);
    }

    #[test]
    fn hardware_addresses() {
        let mac: Mac = "00:16:3e:0a:0b:0c".parse().unwrap();
        assert_eq!(mac.to_string(), "00:16:3e:0a:0b:0c");
        for bad in [
            "",
            "00:16:3e:0a:0b",
            "00:16:3e:0a:0b:0c:0d",
            "01:16:3e:0a:0b:0c",
            "0:16:3e:0a:0b:0c",
            "zz:16:3e:0a:0b:0c",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    #[test]
    fn nonsense_is_named() {
        let good = Config::new("vm-1", "/k".into());
        good.check().unwrap();
        let bad = |change: fn(&mut Config)| {
            let mut config = good.clone();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(bad(|c| c.name = "a/b".into()).contains("name"));
        assert!(bad(|c| c.memory_max = Kib::new(65536).unwrap()).contains("limit of 65536"));
        assert!(bad(|c| c.vcpus = 2).contains("2 vCPUs"));
        assert!(bad(|c| c.vcpus_max = 129).contains("128"));
        assert!(
            bad(|c| {
                c.nics.insert(NicId(0), Nic { bridge: "".into(), mac: None, port: None });
            })
            .contains("bridge")
        );
    }
}
