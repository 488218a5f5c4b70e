//! `radon vm create -f`: a VM as a configuration file of xl's describes it.

use super::made;
use crate::client::Client;
use crate::{Done, Failed, names};
use radon_xlcfg::guest::{self, Action, Guest};
use serde_json::{Value, json};
use std::path::Path;

/// Reads the file, and makes the VM with all its devices, or not at all.
pub fn create(client: &Client, json: bool, path: &Path, template: bool) -> Done {
    let named = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let text = std::fs::read_to_string(path).map_err(|e| named(&e))?;
    let guest = guest::parse(&text).map_err(|e| named(&e))?;
    let vbds = vbds(client, &guest)?;
    let vifs = vifs(client, &guest)?;
    let vm = client.text("VM.create", &[record(&guest, template)])?;
    let whole = || -> Done {
        let number = client.text("VM.get_uuid", &[json!(vm)])?;
        if guest.uuid.as_ref().is_some_and(|wanted| *wanted != number) {
            return Err("there is a VM of this uuid already".into());
        }
        for (class, devices) in [("VBD", &vbds), ("VIF", &vifs)] {
            for device in devices {
                let mut device = device.clone();
                device["VM"] = json!(vm);
                client.text(&format!("{class}.create"), &[device])?;
            }
        }
        Ok(())
    };
    if let Err(error) = whole() {
        client.call("VM.destroy", &[json!(vm)])?;
        return Err(error);
    }
    made(client, json, "VM", &vm)
}

fn record(guest: &Guest, template: bool) -> Value {
    let bytes = |mib: u64| mib << 20;
    let action = |action: Action| match action {
        Action::Destroy => "destroy",
        Action::Restart => "restart",
        Action::Preserve => "preserve",
    };
    json!({
        "uuid": guest.uuid.as_deref().unwrap_or_default(),
        "name_label": guest.name,
        "is_a_template": template,
        "PV_kernel": guest.kernel,
        "PV_ramdisk": guest.ramdisk.as_deref().unwrap_or_default(),
        "PV_args": guest.command_line,
        "platform": if guest.framebuffer { json!({"vfb": "true"}) } else { json!({}) },
        "memory_static_min": 0,
        "memory_dynamic_min": bytes(guest.memory),
        "memory_dynamic_max": bytes(guest.memory),
        "memory_static_max": bytes(guest.memory_max),
        "VCPUs_at_startup": guest.vcpus,
        "VCPUs_max": guest.vcpus_max,
        "actions_after_shutdown": action(guest.on_poweroff),
        "actions_after_reboot": action(guest.on_reboot),
        "actions_after_crash": action(guest.on_crash),
    })
}

fn vbds(client: &Client, guest: &Guest) -> Result<Vec<Value>, Failed> {
    let one = |(place, disk): &(u8, radon_xlcfg::disk::Disk)| {
        let volume = names::volume(client, &disk.target).map_err(|error| {
            format!("disk {}: {error}: a disk is a volume of the host's; read a file into one with `radon volume import`", disk.target)
        })?;
        let mode = if disk.read_only { "RO" } else { "RW" };
        Ok(json!({"VDI": volume, "userdevice": place.to_string(), "mode": mode}))
    };
    guest.disks.iter().map(one).collect()
}

/// Interfaces; the network is the one of that bridge, or of that name, or the only one.
fn vifs(client: &Client, guest: &Guest) -> Result<Vec<Value>, Failed> {
    if guest.vifs.is_empty() {
        return Ok(Vec::new());
    }
    let networks = names::records(client, "network")?;
    let one = |(place, vif): (usize, &radon_xlcfg::vif::Vif)| {
        let fits = |record: &Value| {
            vif.bridge.as_ref().is_none_or(|b| record["bridge"] == **b || record["name_label"] == **b)
        };
        let mut found = networks.iter().filter(|(_, record)| fits(record));
        let bridge = vif.bridge.as_deref().unwrap_or("none given");
        let network = match (found.next(), found.next()) {
            (Some((reference, _)), None) => reference,
            (None, _) => {
                return Err(format!(
                    "vif: there is no network with bridge or name {bridge}: radon network create"
                )
                .into());
            }
            _ => return Err(format!("vif: which network (bridge {bridge})? Several fit").into()),
        };
        let mac = vif.mac.as_deref().unwrap_or_default();
        Ok(json!({"network": network, "device": place.to_string(), "MAC": mac}))
    };
    guest.vifs.iter().enumerate().map(one).collect()
}
