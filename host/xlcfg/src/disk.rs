//! One entry of `disk` (xl-disk-configuration(5)): positions, names, and the old prefixes, as `libxlu_disk_l.l` of Xen 4.17 takes them.

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Disk {
    /// What it is: here, a volume's name or number.
    pub target: String,
    /// Its name in the guest, if it was given one.
    pub vdev: Option<String>,
    /// The guest cannot write to it.
    pub read_only: bool,
}

#[derive(Default)]
struct Reading {
    target: Option<String>,
    vdev: Option<String>,
    format: Option<String>,
    access: Option<bool>,
    prefixed: bool,
}

/// Old prefixes that say nothing about the content.
const PREFIXES: [&str; 6] = ["phy:", "file:", "aio:", "tap:", "tap2:", "raw:"];
/// Those that do.
const FORMATS: [&str; 3] = ["qcow:", "qcow2:", "vhd:"];

/// Reads an entry.
pub fn parse(text: &str) -> Result<Disk, String> {
    let mut reading = Reading::default();
    let mut rest = text.trim_start();
    if let Some(prefix) = FORMATS.iter().find(|p| rest.starts_with(**p)) {
        return Err(not_raw(prefix.trim_end_matches(':')));
    }
    if let Some(behind) = PREFIXES.iter().find_map(|p| rest.strip_prefix(p)) {
        (rest, reading.prefixed) = (behind, true);
    }
    while !rest.is_empty() {
        // It eats the rest, commas and all.
        if let Some(target) = rest.strip_prefix("target=") {
            set(&mut reading.target, "target", target.trim_end_matches(','))?;
            break;
        }
        let (part, behind) = rest.split_once(',').unwrap_or((rest, ""));
        reading.part(part.trim())?;
        rest = behind.trim_start();
    }
    let target = reading.target.filter(|t| !t.is_empty()).ok_or("it has no target, the volume's name")?;
    Ok(Disk { target, vdev: reading.vdev, read_only: reading.access == Some(false) })
}

fn set<T: PartialEq + From<V>, V>(place: &mut Option<T>, what: &str, value: V) -> Result<(), String> {
    match place {
        None => {
            *place = Some(value.into());
            Ok(())
        }
        Some(_) => Err(format!("it has two: {what}")),
    }
}

fn not_raw(format: &str) -> String {
    format!("format {format}: volumes have no format; read the image into one with `radon volume import`")
}

impl Reading {
    fn part(&mut self, part: &str) -> Result<(), String> {
        if let Some((name, value)) = part.split_once('=') {
            return self.named(name, value);
        }
        match part {
            "cdrom" => Err("a CD-ROM needs an emulated device: PVH guests have none".into()),
            // What the back end does anyway, or leaves to the volume.
            "discard" | "no-discard" | "direct-io-safe" | "trusted" | "no-colo" => Ok(()),
            "untrusted" | "colo" => Err(format!("{part} is not served")),
            _ => self.positional(part),
        }
    }

    fn named(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "format" => self.format(value),
            "vdev" => set(&mut self.vdev, "vdev", value),
            "access" => self.access(value),
            "devtype" if value == "disk" => Ok(()),
            "devtype" => Err(format!("devtype {value}: a guest's disks are of type disk")),
            "backendtype" if value == "phy" => Ok(()),
            "specification" if value == "xen" => Ok(()),
            "backend" | "backendtype" | "script" | "specification" => {
                Err(format!("{name}={value}: volumes are served by the host itself"))
            }
            _ => Err(format!("{name} is nothing of a disk")),
        }
    }

    fn format(&mut self, value: &str) -> Result<(), String> {
        match value {
            "" | "raw" => set(&mut self.format, "format", "raw"),
            "qcow" | "qcow2" | "vhd" | "qed" | "empty" => Err(not_raw(value)),
            _ => Err(format!("{value} is no format")),
        }
    }

    fn access(&mut self, value: &str) -> Result<(), String> {
        match value {
            "r" | "ro" => set(&mut self.access, "access", false),
            "" | "w" | "rw" => set(&mut self.access, "access", true),
            _ => Err(format!("access {value}: r, ro, w or rw")),
        }
    }

    /// target, format (not behind an old prefix), vdev, access.
    fn positional(&mut self, value: &str) -> Result<(), String> {
        if self.target.is_none() {
            set(&mut self.target, "target", value)
        } else if !self.prefixed && self.format.is_none() {
            self.format(value)
        } else if self.vdev.is_none() {
            match value.rsplit_once(':') {
                Some((vdev, "disk")) => set(&mut self.vdev, "vdev", vdev),
                Some((_, "cdrom")) => self.part("cdrom"),
                Some((_, other)) => Err(format!("{other} is no type of a disk")),
                None => set(&mut self.vdev, "vdev", value),
            }
        } else if self.access.is_none() {
            self.access(value)
        } else {
            Err(format!("{value} is too much"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn disk(target: &str, vdev: Option<&str>, read_only: bool) -> Disk {
        Disk { target: target.into(), vdev: vdev.map(str::to_owned), read_only }
    }

    #[test]
    fn both_syntaxes() {
        for text in [
            "root,raw,xvda,w",
            "root,,xvda",
            "phy:root,xvda,w",
            "file:root,xvda:disk",
            "format=raw,vdev=xvda,access=rw,target=root",
            "root,vdev=xvda,format=raw,rw",
            " vdev=xvda, discard, target=root",
        ] {
            assert_eq!(parse(text), Ok(disk("root", Some("xvda"), false)), "{text}");
        }
        assert_eq!(parse("data,raw,xvdb,r"), Ok(disk("data", Some("xvdb"), true)));
        assert_eq!(parse("vdev=xvdb,access=ro,target=a=b,c"), Ok(disk("a=b,c", Some("xvdb"), true)));
        assert_eq!(parse("data"), Ok(disk("data", None, false)));
    }

    #[test]
    fn what_is_refused_and_why() {
        for (text, why) in [
            ("", "no target"),
            ("vdev=xvda", "no target"),
            ("disk.qcow2,qcow2,xvda", "radon volume import"),
            ("qcow2:disk,xvda", "radon volume import"),
            (",,hdc:cdrom,r", "no format"),
            ("a,raw,hdc:cdrom,r", "PVH guests have none"),
            ("a,raw,xvda,w,x", "too much"),
            ("a,raw,xvda,q", "r, ro, w or rw"),
            ("a,vdev=xvda,vdev=xvdb", "two: vdev"),
            ("a,backendtype=qdisk", "by the host itself"),
            ("a,sector=512", "nothing of a disk"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(why) || text.starts_with(",,"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn named_there_and_back(target in "[ -~]{0,19}[!-+.-~]", letter in "[a-p]", read_only: bool) {
            let access = if read_only { "ro" } else { "rw" };
            let text = format!("format=raw,vdev=xvd{letter},access={access},target={target}");
            prop_assert_eq!(parse(&text), Ok(disk(&target, Some(&format!("xvd{letter}")), read_only)));
        }

        #[test]
        fn any_text(text in "\\PC{0,60}|([a-z]{1,6}[=:,]{0,2}){0,8}") {
            let _ = parse(&text);
        }
    }
}
