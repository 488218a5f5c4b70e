//! `console`: made with a VM's domain, removed with it.

use crate::app::{fields, named_uuid};
use crate::database::Change;
use radon_api::{Result, Value};

/// A VM with a domain has a text console. Its number is the same in every life of the VM.
pub(super) fn follow(c: &mut Change<'_>, host: &str, vm: &str, running: bool) -> Result<()> {
    let known = c.referring(vm, "console", "VM")?;
    if !running {
        return known.iter().try_for_each(|console| c.remove("console", console));
    }
    if known.is_empty() {
        let uuid = named_uuid("console", c.text("VM", vm, "uuid")?);
        let location = format!("https://{}/console?uuid={uuid}", c.text("host", host, "hostname")?);
        let row = fields([
            ("uuid", Value::from(uuid)),
            ("protocol", Value::from("vt100")),
            ("location", Value::from(location)),
            ("VM", Value::from(vm)),
        ]);
        c.insert("console", row)?;
    }
    Ok(())
}
