//! The host's own address, kept by a process of its own.

use crate::Failed;
use crate::settings::Settings;
use radon_network::host::{self, Client};
use std::path::Path;
use std::time::Duration;

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Sets the address, or has one given by DHCP and keeps it, until it is ended.
pub fn run() -> Result<(), Failed> {
    let (settings, _) = Settings::load();
    let interface = settings.interface().ok_or("there is no network interface with a driver")?;
    host::up(&interface)?;
    let told = &mut |text: &str| println!("{text}");
    match settings.static_address()? {
        None => match Client::new(&interface)?.run(Path::new(RESOLV_CONF), told)? {},
        Some(address) => {
            let wanted = host::Settings { address, router: settings.router, dns: settings.dns };
            host::set(&interface, &wanted, Path::new(RESOLV_CONF))?;
            told(&format!("{interface} has {}/{}", address.0, address.1));
            loop {
                std::thread::sleep(Duration::from_secs(3600));
            }
        }
    }
}
