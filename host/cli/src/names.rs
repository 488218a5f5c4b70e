//! From names and numbers to references.

use crate::Failed;
use crate::client::Client;
use serde_json::{Map, Value, json};

/// Records of a class by reference.
pub fn records(client: &Client, class: &str) -> Result<Map<String, Value>, Failed> {
    match client.call(&format!("{class}.get_all_records"), &[])? {
        Value::Object(records) => Ok(records),
        other => Err(format!("{class}.get_all_records answers {other}").into()),
    }
}

/// The reference of the object of a class that has this number or, alone among those that are wanted, this name.
pub fn find(client: &Client, class: &str, name: &str, wanted: fn(&Value) -> bool) -> Result<String, Failed> {
    let looks_like_uuid = name.len() == 36 && name.matches('-').count() == 4;
    if looks_like_uuid && let Ok(found) = client.text(&format!("{class}.get_by_uuid"), &[json!(name)]) {
        return Ok(found);
    }
    let named = records(client, class)?.into_iter().filter(|(_, r)| r["name_label"] == *name && wanted(r));
    let mut named = named.map(|(reference, _)| reference);
    match (named.next(), named.count()) {
        (Some(found), 0) => Ok(found),
        (Some(_), more) => Err(format!("{} are called {name}: say which by its number", more + 1).into()),
        (None, _) => Err(format!("there is no {} {name}", what(class)).into()),
    }
}

fn what(class: &str) -> &str {
    match class {
        "VDI" => "volume",
        "SR" => "storage repository",
        other => other,
    }
}

/// A VM or template, no snapshot.
pub fn vm(client: &Client, name: &str) -> Result<String, Failed> {
    find(client, "VM", name, |r| r["is_a_snapshot"] == false && r["is_control_domain"] == false)
}

/// A snapshot of a VM.
pub fn snapshot(client: &Client, name: &str) -> Result<String, Failed> {
    find(client, "VM", name, |r| r["is_a_snapshot"] == true)
}

/// A volume. Snapshots of VMs leave their disks' snapshots with the same names: the volume itself is meant then.
pub fn volume(client: &Client, name: &str) -> Result<String, Failed> {
    let is_volume: fn(&Value) -> bool = |r| r["is_a_snapshot"] == false;
    let there = records(client, "VDI")?.values().any(|r| r["name_label"] == name && is_volume(r));
    find(client, "VDI", name, if there { is_volume } else { |_| true })
}

/// A repository; the only one if none is named.
pub fn sr(client: &Client, name: Option<&str>) -> Result<String, Failed> {
    if let Some(name) = name {
        return find(client, "SR", name, |_| true);
    }
    let mut all = records(client, "SR")?.into_iter();
    match (all.next(), all.count()) {
        (Some((only, _)), 0) => Ok(only),
        (None, _) => Err("there is no storage repository: radon sr create".into()),
        _ => Err("which storage repository? Pass --sr".into()),
    }
}

/// The host.
pub fn host(client: &Client) -> Result<String, Failed> {
    let all = client.call("host.get_all", &[])?;
    all[0].as_str().map(str::to_owned).ok_or_else(|| "the pool has no host".into())
}
