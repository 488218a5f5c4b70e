//! What the operator has set: `radon.toml` on the data partition; the kernel's command line (`radon.NAME=VALUE`) goes before it.

use serde::Deserialize;
use std::net::Ipv4Addr;
use std::path::Path;

/// Where the settings are.
pub const FILE: &str = "/var/lib/radon/radon.toml";

/// Who may serve guests' disks, as `radond --disks` takes it.
const DISKS: [&str; 2] = ["radon", "kernel"];

/// All of them; each has a default.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The host's name.
    pub hostname: String,
    /// The host's own interface; the first with a driver if it is empty.
    pub interface: String,
    /// `dhcp`, or an address with the number of bits of its network (`192.0.2.10/24`).
    pub address: String,
    /// The way outside, for an address set by hand.
    pub router: Option<Ipv4Addr>,
    /// Who knows names, for an address set by hand.
    pub dns: Vec<Ipv4Addr>,
    /// Where XenAPI is served.
    pub https: String,
    /// Who serves guests' disks that do not say: `radon` (`radon-block`) or `kernel`.
    pub disks: String,
    /// Seconds that guests have for their power-off when the host ends.
    pub guests_stop_seconds: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hostname: "radon".into(),
            interface: String::new(),
            address: "dhcp".into(),
            router: None,
            dns: Vec::new(),
            https: "0.0.0.0:443".into(),
            disks: "radon".into(),
            guests_stop_seconds: 60,
        }
    }
}

/// An address and the bits of its network.
pub type Address = (Ipv4Addr, u8);

impl Settings {
    /// Reads them. What cannot be read is told, and the defaults are in force: a host that nobody can reach helps nobody.
    pub fn load() -> (Self, Option<String>) {
        let text = std::fs::read_to_string(FILE).unwrap_or_default();
        let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
        let (mut settings, mut wrong) = match toml::from_str::<Self>(&text) {
            Ok(settings) => (settings, None),
            Err(error) => (Self::default(), Some(format!("{FILE}: {error}"))),
        };
        if let Err(error) = settings.override_by(&line).and_then(|()| settings.static_address().map(drop)) {
            wrong = Some(error);
            settings.address = Self::default().address;
        }
        if !DISKS.contains(&settings.disks.as_str()) {
            wrong = Some(format!("disks: {} is neither of {}", settings.disks, DISKS.join(", ")));
            settings.disks = Self::default().disks;
        }
        (settings, wrong)
    }

    /// Takes over what the kernel's command line says.
    fn override_by(&mut self, line: &str) -> Result<(), String> {
        for (name, value) in
            line.split_whitespace().filter_map(|word| word.strip_prefix("radon.")?.split_once('='))
        {
            let bad = || format!("radon.{name}={value} on the kernel's command line cannot be understood");
            match name {
                "hostname" => self.hostname = value.into(),
                "interface" => self.interface = value.into(),
                "address" => self.address = value.into(),
                "router" => self.router = Some(value.parse().map_err(|_| bad())?),
                "dns" => {
                    let servers: Result<_, _> = value.split(',').map(str::parse).collect();
                    self.dns = servers.map_err(|_| bad())?;
                }
                "https" => self.https = value.into(),
                "disks" => self.disks = value.into(),
                // Not one of ours: `radon.data`, and what others may have.
                _ => {}
            }
        }
        Ok(())
    }

    /// The address that was set by hand; none for DHCP.
    pub fn static_address(&self) -> Result<Option<Address>, String> {
        if self.address == "dhcp" {
            return Ok(None);
        }
        let bad = || format!("address: {} is neither dhcp nor like 192.0.2.10/24", self.address);
        let (address, length) = self.address.split_once('/').ok_or_else(bad)?;
        let length: u8 = length.parse().map_err(|_| bad())?;
        let address: Ipv4Addr = address.parse().map_err(|_| bad())?;
        (1..=32).contains(&length).then_some(Some((address, length))).ok_or_else(bad)
    }

    /// The host's own interface: the one that was set, or the first with a driver, by name.
    pub fn interface(&self) -> Option<String> {
        if !self.interface.is_empty() {
            return Path::new("/sys/class/net")
                .join(&self.interface)
                .exists()
                .then(|| self.interface.clone());
        }
        let entries = std::fs::read_dir("/sys/class/net").ok()?.flatten();
        let mut names: Vec<String> = entries
            .filter(|e| {
                e.path().join("device").exists() && !e.file_name().to_string_lossy().starts_with("vif")
            })
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names.into_iter().next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_command_line_goes_before_the_file() {
        let mut settings: Settings = toml::from_str("hostname = \"a\"\naddress = \"10.0.0.2/24\"\n").unwrap();
        assert_eq!(settings.static_address().unwrap(), Some((Ipv4Addr::new(10, 0, 0, 2), 24)));
        settings
            .override_by("console=hvc0 radon.address=dhcp radon.dns=1.1.1.1,9.9.9.9 radon.data=x radon.disks=kernel quiet")
            .unwrap();
        assert_eq!((settings.static_address().unwrap(), settings.dns.len()), (None, 2));
        assert_eq!((settings.hostname.as_str(), settings.disks.as_str()), ("a", "kernel"));
        assert!(settings.override_by("radon.router=here").unwrap_err().contains("radon.router=here"));
    }

    #[test]
    fn what_is_unknown_is_said() {
        assert!(toml::from_str::<Settings>("adress = 1").unwrap_err().to_string().contains("adress"));
        for bad in ["10.0.0.2", "10.0.0.2/33", "10.0.0.2/0", "x/8", ""] {
            assert!(
                Settings { address: bad.into(), ..Settings::default() }.static_address().is_err(),
                "{bad}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_no_panic(file in ".{0,80}", line in ".{0,80}") {
            let _ = toml::from_str::<Settings>(&file);
            let _ = Settings::default().override_by(&line);
        }
    }
}
