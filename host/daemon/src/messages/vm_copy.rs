//! `VM`: clones, copies, snapshots.
//!
//! The disks come first, under the name of unfinished ones; one transaction makes VM, devices and VDIs. Killed before it, nothing is
//! left after the next start; killed after it, all is there.

use super::vm::{assert_possible, insert};
use super::{done, text, truth, vdi};
use crate::app::{Busy, fields};
use crate::database::{Change, Row};
use crate::dispatch::{Args, Context, Handler};
use crate::storage::UNFINISHED;
use radon_api::{ApiError, NULL, Result, Time, Value};
use radon_volume::{Repository, Volume};
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) const HANDLERS: &[(&str, Handler)] =
    &[("VM.clone", clone), ("VM.copy", copy), ("VM.snapshot", snapshot), ("VM.revert", revert)];

/// How disks are copied.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way<'a> {
    /// In constant time.
    Clone,
    /// Into this repository, or their own if it is none.
    Copy(&'a str),
    /// As they are at this moment; they never change.
    Snapshot,
}

/// The copy of a disk, and the use it is for.
struct Disk {
    vbd: String,
    sr: String,
    repository: Arc<Repository>,
    volume: Volume,
    row: Row,
}

/// Copies that go again if nothing comes of them.
#[derive(Default)]
struct Disks(Vec<Disk>);

impl Drop for Disks {
    fn drop(&mut self) {
        for disk in &self.0 {
            vdi::undo(&disk.repository, disk.volume.id);
        }
    }
}

fn copies(context: &Context, vm: &str, way: Way<'_>, ignored: &[Value]) -> Result<Disks> {
    let uses: Vec<(String, String)> = {
        let state = context.app.database.state();
        let vbds = state.referring(vm, "VBD", "VM");
        let uses = vbds.map(|vbd| Ok((vbd.clone(), state.text("VBD", vbd, "VDI")?.to_owned())));
        uses.collect::<Result<_>>()?
    };
    let mut made = Disks::default();
    for (vbd, of) in uses {
        if of == NULL || ignored.iter().any(|i| i.text() == Some(&of)) {
            continue;
        }
        let place = vdi::place(&context.app, &of)?;
        let mut row = vdi::inherited(&context.app, &of)?;
        let (sr, repository) = match way {
            Way::Copy(sr) if sr != NULL => (sr.to_owned(), context.app.storage.find(sr)?),
            _ => (place.sr.clone(), place.repository.clone()),
        };
        let volume = match way {
            Way::Snapshot => repository.snapshot(place.id, UNFINISHED).map_err(crate::storage::refused)?,
            Way::Clone | Way::Copy(_) => vdi::duplicate(context, &place, &repository, sr == place.sr, &of)?,
        };
        if way == Way::Snapshot {
            vdi::as_snapshot(&mut row, &of);
        }
        made.0.push(Disk { vbd, sr, repository, volume, row });
    }
    Ok(made)
}

/// What a copy of a VM does not have of it.
const OWN: [&str; 14] = [
    "uuid",
    "power_state",
    "current_operations",
    "allowed_operations",
    "resident_on",
    "scheduled_to_be_resident_on",
    "domid",
    "domarch",
    "metrics",
    "guest_metrics",
    "is_default_template",
    "is_a_snapshot",
    "snapshot_of",
    "snapshot_time",
];

/// A VM like another, with these disks.
fn like(c: &mut Change<'_>, vm: &str, name: &str, way: Way<'_>, disks: &Disks) -> Result<String> {
    let mut row = c.row("VM", vm)?.clone();
    row.retain(|field, _| !OWN.contains(&field.as_str()));
    row.extend(fields([
        ("name_label", Value::from(name)),
        ("parent", Value::from(NULL)),
        ("reference_label", Value::from(c.text("VM", vm, "name_label")?)),
    ]));
    if way == Way::Snapshot {
        row.extend(fields([
            ("is_a_snapshot", Value::Bool(true)),
            ("is_a_template", Value::Bool(true)),
            ("snapshot_of", Value::from(vm)),
            ("snapshot_time", Value::Time(Time::now())),
            ("snapshot_info", Value::pairs([("power-state-at-snapshot", c.text("VM", vm, "power_state")?)])),
        ]));
    } else if truth(c.row("VM", vm)?, "is_a_snapshot") {
        // A clone of a snapshot is a template, as snapshots are.
        row.insert("is_a_template".into(), Value::Bool(true));
    }
    let made = insert(c, row)?;
    devices(c, vm, &made, way, disks)?;
    Ok(made)
}

/// Devices of a VM for another one; disks that were not copied are left out.
fn devices(c: &mut Change<'_>, from: &str, to: &str, way: Way<'_>, disks: &Disks) -> Result<()> {
    for disk in &disks.0 {
        c.row("SR", &disk.sr)?;
        let vdi = vdi::located(disk.row.clone(), &disk.sr, &disk.repository, &disk.volume);
        let vdi = c.insert("VDI", vdi)?;
        super::sr::figures(c, &disk.sr, &disk.repository)?;
        let mut row = c.row("VBD", &disk.vbd)?.clone();
        row.retain(|field, _| {
            !matches!(field.as_str(), "uuid" | "currently_attached" | "current_operations")
        });
        row.extend(fields([("VM", Value::from(to)), ("VDI", Value::from(vdi))]));
        c.insert("VBD", row)?;
    }
    for vif in c.referring(from, "VIF", "VM")? {
        let mut row = c.row("VIF", &vif)?.clone();
        row.retain(|field, _| {
            !matches!(field.as_str(), "uuid" | "currently_attached" | "current_operations")
        });
        row.insert("VM".into(), Value::from(to));
        if way != Way::Snapshot && truth(&row, "MAC_autogenerated") {
            row.insert("MAC".into(), Value::from(super::vif::new_mac()?));
        }
        c.insert("VIF", row)?;
    }
    Ok(())
}

/// The copies are VDIs now: they stay, under their names.
fn keep(mut disks: Disks) {
    for disk in std::mem::take(&mut disks.0) {
        vdi::name(&disk.repository, disk.volume.id, text(&disk.row, "name_label"));
    }
}

fn make(
    context: &Context,
    vm: &str,
    operation: &'static str,
    name: &str,
    way: Way<'_>,
    ignored: &[Value],
) -> Result<Value> {
    let _busy = context.app.begin("VM", vm, operation)?;
    let states: &[&str] =
        if way == Way::Snapshot { &["Halted", "Running", "Paused", "Suspended"] } else { &["Halted"] };
    context.app.database.change(|c| assert_possible(c, vm, operation, states))?;
    let disks = copies(context, vm, way, ignored)?;
    let made = context.app.database.change(|c| like(c, vm, name, way, &disks))?;
    keep(disks);
    Ok(Value::from(made))
}

fn clone(context: &Context, args: &Args) -> Result<Value> {
    make(context, args.text("vm")?, "clone", args.text("new_name")?, Way::Clone, &[])
}

fn copy(context: &Context, args: &Args) -> Result<Value> {
    let sr = args.text("sr")?;
    make(context, args.text("vm")?, "copy", args.text("new_name")?, Way::Copy(sr), &[])
}

fn snapshot(context: &Context, args: &Args) -> Result<Value> {
    let ignored = args.value("ignore_vdis")?.items();
    make(context, args.text("vm")?, "snapshot", args.text("new_name")?, Way::Snapshot, ignored)
}

/// What a VM gets back from its snapshot.
const REVERTED: [&str; 14] = [
    "memory_static_max",
    "memory_dynamic_max",
    "memory_dynamic_min",
    "memory_static_min",
    "VCPUs_max",
    "VCPUs_at_startup",
    "VCPUs_params",
    "PV_kernel",
    "PV_ramdisk",
    "PV_args",
    "platform",
    "other_config",
    "actions_after_reboot",
    "actions_after_shutdown",
];

fn revert(context: &Context, args: &Args) -> Result<Value> {
    let snapshot = args.text("snapshot")?;
    let vm = {
        let state = context.app.database.state();
        let row = &state.object("VM", snapshot)?.row;
        if !truth(row, "is_a_snapshot") {
            return Err(ApiError::operation_not_allowed("only a snapshot can be reverted to"));
        }
        text(row, "snapshot_of").to_owned()
    };
    let _busy = context.app.begin("VM", &vm, "revert")?;
    let _held = context.app.begin("VM", snapshot, "revert")?;
    context.app.database.change(|c| assert_possible(c, &vm, "revert", &["Halted"]))?;
    let _replaced = hold_volumes(context, &vm)?;
    let disks = copies(context, snapshot, Way::Clone, &[])?;
    let old = retire(context, &vm)?;
    context.app.database.change(|c| {
        for (vdi, _, _) in &old {
            vdi::assert_unused(&context.app, c, vdi, "revert")?;
            for later in c.referring(vdi, "VDI", "snapshot_of")? {
                c.set("VDI", &later, "snapshot_of", NULL)?;
            }
            vdi::remove_rows(c, vdi)?;
        }
        for class in ["VBD", "VIF"] {
            for device in c.referring(&vm, class, "VM")? {
                c.remove(class, &device)?;
            }
        }
        for field in REVERTED {
            let value = c.field("VM", snapshot, field)?.clone();
            c.set("VM", &vm, field, value)?;
        }
        c.set("VM", &vm, "parent", snapshot)?;
        devices(c, snapshot, &vm, Way::Clone, &disks)
    })?;
    keep(disks);
    for (_, repository, volume) in old {
        vdi::undo(&repository, volume);
    }
    done()
}

type Retired = (String, Arc<Repository>, radon_volume::VolumeId);

/// The volumes of a VM, of all its disks, busy: nobody gets them meanwhile.
fn hold_volumes(context: &Context, vm: &str) -> Result<Vec<Busy>> {
    let vdis = volumes(context, vm)?;
    vdis.iter().map(|vdi| context.app.begin("VDI", vdi, "destroy")).collect()
}

fn volumes(context: &Context, vm: &str) -> Result<BTreeSet<String>> {
    let state = context.app.database.state();
    let all = state.referring(vm, "VBD", "VM").map(|vbd| Ok(state.text("VBD", vbd, "VDI")?.to_owned()));
    all.filter(|vdi| !matches!(vdi, Ok(vdi) if vdi == NULL)).collect()
}

/// Gives a VM's disks the name of unfinished ones: they are nobody's as soon as the database has forgotten them.
fn retire(context: &Context, vm: &str) -> Result<Vec<Retired>> {
    let mut old = Vec::new();
    for vdi in volumes(context, vm)? {
        let place = vdi::place(&context.app, &vdi)?;
        place.repository.rename(place.id, UNFINISHED).map_err(crate::storage::refused)?;
        old.push((vdi, place.repository, place.id));
    }
    Ok(old)
}
