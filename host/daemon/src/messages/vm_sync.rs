//! `VM`: the rows say what is below.

use super::text;
use crate::app::{App, fields};
use crate::database::Change;
use radon_api::{NULL, Result, Time, Value};
use radon_domain::config::{DiskId, NicId};
use radon_domain::guest::Metrics;
use radon_domain::machine::Power;
use radon_domain::record::Vm;
use radon_network::{Declared, Networks};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// How long nothing is tried after the layer below was not there.
const PAUSE: Duration = Duration::from_secs(10);

/// Follows the layer below in a thread, until the daemon's end.
pub fn follow(app: &Arc<App>) {
    sync(app);
    let weak = Arc::downgrade(app);
    let domains = app.domains.clone();
    let body = move || {
        let mut told = String::new();
        loop {
            let changed = || {
                if let Some(app) = weak.upgrade() {
                    sync(&app);
                }
            };
            let Err(error) = domains.follow(&changed) else { return };
            // Said once: on a machine without a hypervisor it stays so.
            let error = error.to_string();
            if told != error {
                eprintln!("radond: VMs cannot be followed: {error}");
                told = error;
            }
            std::thread::sleep(PAUSE);
            if weak.strong_count() == 0 {
                return;
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("follow".into()).spawn(body) {
        eprintln!("radond: cannot start a thread: {error}");
    }
}

/// Makes power states, domains and attached devices what they are below. Without a hypervisor there are none.
pub fn sync(app: &App) {
    let below: HashMap<String, Vm> = match app.domains.vms() {
        Ok(vms) => vms.into_iter().map(|vm| (vm.uuid.to_string(), vm)).collect(),
        Err(_) => HashMap::new(),
    };
    let mut used: HashMap<String, Metrics> = HashMap::new();
    for vm in below.values().filter(|vm| vm.domid.is_some()) {
        if let Ok(metrics) = app.domains.metrics(vm.uuid) {
            used.insert(vm.uuid.to_string(), metrics);
        }
    }
    let declared = Networks::open(&app.places.networks).and_then(|n| n.declared()).unwrap_or_default();
    let synced = app.database.change(|c| {
        for vm in c.all("VM")? {
            let row = c.row("VM", &vm)?;
            if super::truth(row, "is_control_domain") {
                continue;
            }
            let uuid = text(row, "uuid").to_owned();
            one(c, &app.host, &vm, below.get(&uuid))?;
            if let Some(metrics) = used.get(&uuid) {
                tell(c, &vm, metrics)?;
            }
        }
        addresses(c, &declared)
    });
    if let Err(error) = synced {
        eprintln!("radond: {error}");
    }
}

fn one(c: &mut Change<'_>, host: &str, vm: &str, below: Option<&Vm>) -> Result<()> {
    let power = below.map_or(Power::Halted, |b| b.power);
    let state = match power {
        Power::Halted => "Halted",
        Power::Running => "Running",
        Power::Paused | Power::Preserved => "Paused",
        Power::Suspended => "Suspended",
    };
    let domain = below.and_then(|b| b.domid).filter(|_| !matches!(power, Power::Halted | Power::Suspended));
    if c.text("VM", vm, "power_state")? == "Halted" && state != "Halted" {
        let metrics = c.text("VM", vm, "metrics")?.to_owned();
        c.set("VM_metrics", &metrics, "start_time", Time::now())?;
        c.set("VM_metrics", &metrics, "current_domain_type", "pvh")?;
    }
    c.set("VM", vm, "power_state", state)?;
    c.set("VM", vm, "domid", domain.map_or(-1, i64::from))?;
    c.set("VM", vm, "domarch", if domain.is_some() { "x86_64" } else { "" })?;
    c.set("VM", vm, "resident_on", if domain.is_some() { host } else { NULL })?;
    let framebuffer = below.is_some_and(|b| b.config.framebuffer.is_some());
    super::console::follow(c, host, vm, domain.is_some(), framebuffer)?;
    // A suspended guest still counts on its disks: nobody else may change them.
    let config = below.filter(|_| domain.is_some() || power == Power::Suspended).map(|b| &b.config);
    for vbd in c.referring(vm, "VBD", "VM")? {
        let id: Option<DiskId> = c.text("VBD", &vbd, "device")?.parse().ok();
        let attached = config.zip(id).is_some_and(|(config, id)| config.disks.contains_key(&id));
        c.set("VBD", &vbd, "currently_attached", attached)?;
        let disk = config.zip(id).and_then(|(config, id)| config.disks.get(&id));
        let served = Value::pairs(disk.map(|disk| ("radon:backend", disk.backend.to_string())));
        c.set("VBD", &vbd, "runtime_properties", served)?;
    }
    for vif in c.referring(vm, "VIF", "VM")? {
        let id = c.text("VIF", &vif, "device")?.parse().ok().map(NicId);
        let attached = config.zip(id).is_some_and(|(config, id)| config.nics.contains_key(&id));
        c.set("VIF", &vif, "currently_attached", attached)?;
    }
    if domain.is_none() {
        let told = c.text("VM", vm, "guest_metrics")?.to_owned();
        if told != NULL {
            c.remove("VM_guest_metrics", &told)?;
            c.set("VM", vm, "guest_metrics", NULL)?;
        }
        let metrics = c.text("VM", vm, "metrics")?.to_owned();
        c.set("VM_metrics", &metrics, "memory_actual", 0i64)?;
        c.set("VM_metrics", &metrics, "VCPUs_number", 0i64)?;
    }
    Ok(())
}

/// The addresses that guests were given on the host's networks.
fn addresses(c: &mut Change<'_>, declared: &Declared) -> Result<()> {
    for network in c.all("network")? {
        let mut given = Vec::new();
        for vif in c.referring(&network, "VIF", "network")? {
            let (vm, device) =
                (c.text("VIF", &vif, "VM")?.to_owned(), c.text("VIF", &vif, "device")?.to_owned());
            let interface = format!("vif{}.{device}", super::int(c.row("VM", &vm)?, "domid"));
            let port = declared.interfaces.get(interface.as_str());
            let all: Vec<String> = port.into_iter().flat_map(|p| &p.ipv4).map(ToString::to_string).collect();
            if let Some(first) = all.first() {
                given.push((vif.clone(), first.clone()));
            }
            c.set("VIF", &vif, "ipv4_addresses", Value::strings(all))?;
        }
        c.set("network", &network, "assigned_ips", Value::pairs(given))?;
    }
    Ok(())
}

/// What a guest uses, and what it says: text that it chose, which is shown as it is.
fn tell(c: &mut Change<'_>, vm: &str, metrics: &Metrics) -> Result<()> {
    let own = c.text("VM", vm, "metrics")?.to_owned();
    c.set("VM_metrics", &own, "memory_actual", metrics.memory_kib.saturating_mul(1024))?;
    c.set("VM_metrics", &own, "VCPUs_number", i64::from(metrics.online_vcpus))?;
    if metrics.told.is_empty() {
        return Ok(());
    }
    let below = |prefix: &str| -> Value {
        let mut found = BTreeMap::new();
        for (path, value) in &metrics.told {
            if let Some(rest) = path.strip_prefix(prefix) {
                found.insert(rest.to_owned(), Value::from(value.as_str()));
            }
        }
        Value::Map(found)
    };
    let reference = match c.text("VM", vm, "guest_metrics")? {
        NULL => {
            let made = c.insert("VM_guest_metrics", fields([("live", Value::Bool(true))]))?;
            c.set("VM", vm, "guest_metrics", made.as_str())?;
            made
        }
        known => known.to_owned(),
    };
    let agent = metrics.told.keys().any(|k| k.starts_with("attr/PVAddons"));
    let mut changed = false;
    for (field, value) in [
        ("networks", below("attr/vif/")),
        ("os_version", below("data/os_")),
        ("PV_drivers_version", below("attr/PVAddons/")),
        ("other", below("data/")),
        ("PV_drivers_detected", Value::Bool(agent)),
    ] {
        changed |= *c.field("VM_guest_metrics", &reference, field)? != value;
        c.set("VM_guest_metrics", &reference, field, value)?;
    }
    if changed { c.set("VM_guest_metrics", &reference, "last_updated", Time::now()) } else { Ok(()) }
}
