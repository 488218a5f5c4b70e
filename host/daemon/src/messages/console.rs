//! `console`: made with a VM's domain, removed with it.

use crate::app::{fields, named_uuid};
use crate::database::Change;
use radon_api::{Result, Value};

/// A VM with a domain has a text console, and a picture if the domain has a framebuffer. Their numbers are the same in every life of the
/// VM.
pub(super) fn follow(
    c: &mut Change<'_>,
    host: &str,
    vm: &str,
    running: bool,
    framebuffer: bool,
) -> Result<()> {
    let known = c.referring(vm, "console", "VM")?;
    let mut there = Vec::new();
    for console in known {
        let protocol = c.text("console", &console, "protocol")?.to_owned();
        if running && (framebuffer || protocol != "rfb") {
            there.push(protocol);
        } else {
            c.remove("console", &console)?;
        }
    }
    let wanted = [("vt100", "console", running), ("rfb", "framebuffer", running && framebuffer)];
    for (protocol, kind, _) in
        wanted.into_iter().filter(|(protocol, _, wanted)| *wanted && !there.iter().any(|p| p == protocol))
    {
        let uuid = named_uuid(kind, c.text("VM", vm, "uuid")?);
        let location = format!("https://{}/console?uuid={uuid}", c.text("host", host, "hostname")?);
        let row = fields([
            ("uuid", Value::from(uuid)),
            ("protocol", Value::from(protocol)),
            ("location", Value::from(location)),
            ("VM", Value::from(vm)),
        ]);
        c.insert("console", row)?;
    }
    Ok(())
}
