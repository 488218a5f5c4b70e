//! `radon vm`, `radon snapshot`.

use super::{list, made};
use crate::arguments::{Create, Snapshot, Told, Vm};
use crate::client::Client;
use crate::show::{bytes, record, table, text};
use crate::{Done, Failed, names, task};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const MIB: u64 = 1 << 20;

pub fn run(client: &Client, json: bool, command: &Vm) -> Done {
    let vm = |name: &str| names::vm(client, name);
    // A message about a VM, as a task.
    let act = |message: &str, name: &str| -> Done {
        task::run(client, &format!("VM.{message}"), &[json!(vm(name)?)]).map(drop)
    };
    match command {
        Vm::List { templates } => show_list(client, json, *templates),
        Vm::Show { vm: name } => record(json, &client.call("VM.get_record", &[json!(vm(name)?)])?),
        Vm::Create(Create { file: Some(path), template, .. }) => {
            super::xl::create(client, json, path, *template)
        }
        Vm::Create(create) => new(client, json, create),
        Vm::Clone { vm: name, name: new, told } => {
            let told = config(told)?;
            let clone = task::run(client, "VM.clone", &[json!(vm(name)?), json!(new)])?;
            client.call("VM.provision", &[json!(clone)])?;
            for (key, value) in told {
                client.call("VM.remove_from_other_config", &[json!(clone), json!(key)])?;
                client.call("VM.add_to_other_config", &[json!(clone), json!(key), json!(value)])?;
            }
            made(client, json, "VM", &clone)
        }
        Vm::Start { vm: name, paused } => {
            task::run(client, "VM.start", &[json!(vm(name)?), json!(paused), json!(false)]).map(drop)
        }
        Vm::Autostart { vm: name, wanted } => {
            let (vm, key) = (json!(vm(name)?), json!("auto_poweron"));
            client.call("VM.remove_from_other_config", &[vm.clone(), key.clone()])?;
            if wanted == "on" {
                client.call("VM.add_to_other_config", &[vm, key, json!("true")])?;
            }
            Ok(())
        }
        Vm::Stop { vm, force } => act(if *force { "hard_shutdown" } else { "clean_shutdown" }, vm),
        Vm::Reboot { vm, force } => act(if *force { "hard_reboot" } else { "clean_reboot" }, vm),
        Vm::Pause { vm } => act("pause", vm),
        Vm::Unpause { vm } => act("unpause", vm),
        Vm::Suspend { vm } => act("suspend", vm),
        Vm::Resume { vm: name, paused } => {
            task::run(client, "VM.resume", &[json!(vm(name)?), json!(paused), json!(false)]).map(drop)
        }
        Vm::Memory { vm: name, mib } => {
            task::run(client, "VM.set_memory", &[json!(vm(name)?), json!(mib * MIB)]).map(drop)
        }
        Vm::Vcpus { vm: name, count } => set_vcpus(client, &vm(name)?, *count),
        Vm::Attach { vm: name, volume, read_only } => {
            attach(client, &vm(name)?, &names::volume(client, volume)?, *read_only)
        }
        Vm::Connect { vm: name, network, address, locking_mode } => {
            connect(client, &vm(name)?, network, address, locking_mode)
        }
        Vm::Delete { vm: name, volumes } => delete(client, &vm(name)?, *volumes),
    }
}

fn show_list(client: &Client, json: bool, templates: bool) -> Done {
    let mut all = list(client, "VM")?;
    all.retain(|r| {
        r["is_a_template"] == templates && r["is_a_snapshot"] == false && r["is_control_domain"] == false
    });
    let columns: &[crate::show::Column<'_>] = &[
        ("NAME", &|r| text(r, "name_label")),
        ("STATE", &|r| text(r, "power_state").to_lowercase()),
        ("VCPUS", &|r| text(r, "VCPUs_at_startup")),
        ("MEMORY", &|r| bytes(r, "memory_dynamic_max")),
        ("AUTOSTART", &|r| if r["other_config"]["auto_poweron"] == "true" { "on" } else { "off" }.to_owned()),
        ("DISKS", &|r| r["VBDs"].as_array().map_or(0, Vec::len).to_string()),
        ("UUID", &|r| text(r, "uuid")),
    ];
    table(json, all, columns)
}

fn new(client: &Client, json: bool, create: &Create) -> Done {
    let memory = create.memory * MIB;
    let told: serde_json::Map<String, Value> =
        config(&create.told)?.into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect();
    let record = json!({
        "name_label": create.name.as_deref().unwrap_or_default(), "PV_kernel": create.kernel.as_deref().unwrap_or_default(), "PV_ramdisk": create.initrd, "PV_args": create.cmdline,
        "memory_static_max": memory, "memory_dynamic_max": memory, "memory_dynamic_min": memory, "memory_static_min": 0,
        "VCPUs_max": create.vcpus, "VCPUs_at_startup": create.vcpus, "is_a_template": create.template,
        "other_config": told, "platform": create.vfb.iter().map(|size| ("vfb", size)).collect::<BTreeMap<_, _>>(),
    });
    let volumes: Vec<String> =
        create.volumes.iter().map(|v| names::volume(client, v)).collect::<Result<_, _>>()?;
    let vm = client.text("VM.create", &[record])?;
    let devices = || -> Done {
        volumes.iter().try_for_each(|volume| attach(client, &vm, volume, false))?;
        create.networks.iter().try_for_each(|network| connect(client, &vm, network, &[], "network_default"))
    };
    if let Err(error) = devices() {
        // Made with its devices, or not at all.
        client.call("VM.destroy", &[json!(vm)])?;
        return Err(error);
    }
    made(client, json, "VM", &vm)
}

pub(super) fn attach(client: &Client, vm: &str, volume: &str, read_only: bool) -> Done {
    let record = json!({"VM": vm, "VDI": volume, "userdevice": "autodetect", "mode": if read_only { "RO" } else { "RW" }});
    let vbd = client.text("VBD.create", &[record])?;
    if client.text("VM.get_power_state", &[json!(vm)])? == "Running" {
        task::run(client, "VBD.plug", &[json!(vbd)])?;
    }
    Ok(())
}

/// Settings of a VM for cloud-init, from files.
fn config(told: &Told) -> Result<Vec<(&'static str, String)>, Failed> {
    let files = [("radon:user-data", &told.user_data), ("radon:public-keys", &told.public_keys)];
    let given = files.into_iter().filter_map(|(key, file)| Some((key, file.as_ref()?)));
    given
        .map(|(key, file)| match std::fs::read_to_string(file) {
            Ok(text) => Ok((key, text)),
            Err(error) => Err(format!("{}: {error}", file.display()).into()),
        })
        .collect()
}

pub(super) fn connect(
    client: &Client,
    vm: &str,
    network: &str,
    addresses: &[String],
    locking_mode: &str,
) -> Done {
    let network = names::find(client, "network", network, |_| true)?;
    let free = client.call("VM.get_allowed_VIF_devices", &[json!(vm)])?;
    let place = free[0].as_str().ok_or("the VM has all the interfaces that it can have")?;
    let record = json!({
        "VM": vm, "network": network, "device": place, "ipv4_allowed": addresses, "locking_mode": locking_mode,
    });
    let vif = client.text("VIF.create", &[record])?;
    if client.text("VM.get_power_state", &[json!(vm)])? == "Running" {
        task::run(client, "VIF.plug", &[json!(vif)])?;
    }
    Ok(())
}

fn set_vcpus(client: &Client, vm: &str, count: u32) -> Done {
    if client.text("VM.get_power_state", &[json!(vm)])? == "Running" {
        return task::run(client, "VM.set_VCPUs_number_live", &[json!(vm), json!(count)]).map(drop);
    }
    let most = client.call("VM.get_VCPUs_max", &[json!(vm)])?.as_u64().unwrap_or(0);
    if u64::from(count) > most {
        client.call("VM.set_VCPUs_max", &[json!(vm), json!(count)])?;
    }
    client.call("VM.set_VCPUs_at_startup", &[json!(vm), json!(count)]).map(drop)
}

/// Volumes of a VM.
fn volumes(client: &Client, vm: &str) -> Result<Vec<Value>, Failed> {
    let vbds = client.call("VM.get_VBDs", &[json!(vm)])?;
    vbds.as_array()
        .into_iter()
        .flatten()
        .map(|vbd| client.call("VBD.get_VDI", std::slice::from_ref(vbd)))
        .collect()
}

pub(super) fn delete(client: &Client, vm: &str, with_volumes: bool) -> Done {
    let volumes = if with_volumes { volumes(client, vm)? } else { Vec::new() };
    client.call("VM.destroy", &[json!(vm)])?;
    volumes.into_iter().try_for_each(|volume| client.call("VDI.destroy", &[volume]).map(drop))
}

pub fn snapshot(client: &Client, json: bool, command: &Snapshot) -> Done {
    match command {
        Snapshot::List => {
            let mut all = list(client, "VM")?;
            let names: Vec<(String, String)> = names::records(client, "VM")?
                .iter()
                .map(|(r, v)| (r.clone(), text(v, "name_label")))
                .collect();
            all.retain(|r| r["is_a_snapshot"] == true);
            let of = |r: &Value| {
                let found = names.iter().find(|(reference, _)| r["snapshot_of"] == *reference);
                found.map_or_else(|| "-".to_owned(), |(_, name)| name.clone())
            };
            let columns: &[crate::show::Column<'_>] = &[
                ("NAME", &|r| text(r, "name_label")),
                ("VM", &of),
                ("TIME", &|r| text(r, "snapshot_time")),
                ("UUID", &|r| text(r, "uuid")),
            ];
            table(json, all, columns)
        }
        Snapshot::Create { vm, name } => {
            let arguments = [json!(names::vm(client, vm)?), json!(name)];
            made(client, json, "VM", &task::run(client, "VM.snapshot", &arguments)?)
        }
        Snapshot::Revert { snapshot } => {
            task::run(client, "VM.revert", &[json!(names::snapshot(client, snapshot)?)]).map(drop)
        }
        Snapshot::Delete { snapshot } => delete(client, &names::snapshot(client, snapshot)?, true),
    }
}
