//! `VBD`: VMs' uses of volumes.

use super::vm_power::{control, refused, uuid};
use super::{done, text, truth, vdi, vm_sync};
use crate::app::App;
use crate::database::{Change, Row, State};
use crate::dispatch::{Args, Context, Handler};
use crate::reserve::{Reservation, Use};
use radon_api::{ApiError, NULL, Result, Value};
use radon_domain::config::{Backend, Disk, DiskId};
use std::time::Duration;

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("VBD.create", create),
    ("VBD.destroy", destroy),
    ("VBD.plug", plug),
    ("VBD.unplug", unplug),
    ("VBD.unplug_force", unplug_force),
    ("VBD.assert_attachable", assert_attachable),
];

/// Places for disks: 0 to 15.
pub(super) const PLACES: u32 = 16;
/// How long a guest may take to let a device go.
pub(super) const LET_GO: Duration = Duration::from_secs(60);

pub(super) fn allowed(state: &State, row: &Row) -> Vec<&'static str> {
    let power = state.text("VM", text(row, "VM"), "power_state").unwrap_or_default();
    match (power, truth(row, "currently_attached")) {
        ("Running", true) => vec!["unplug", "unplug_force"],
        ("Running", false) => vec!["plug", "attach"],
        _ => vec!["attach"],
    }
}

/// The key of `other_config` that says who serves the disk: `radon` or `kernel`.
const BACKEND: &str = "radon:backend";

/// Who is to serve a disk; `None`: it does not say.
fn wanted_backend(other_config: Option<&Value>) -> Result<Option<Backend>> {
    let Some(name) = other_config.and_then(|c| c.get(BACKEND)).and_then(Value::text) else { return Ok(None) };
    let parsed = name.parse();
    parsed.map(Some).map_err(|e| ApiError::not_supported(format!("other_config:{BACKEND}"), name, e))
}

/// Who serves a disk: what it says, otherwise what the daemon was told. What several guests may write is for the kernel:
/// `radon-block` has a disk for itself, so that what it reads through the shared cache cannot become stale.
fn backend(app: &App, row: &Row, sharable: bool) -> Result<Backend> {
    match wanted_backend(row.get("other_config"))? {
        Some(Backend::Radon) if sharable => Err(ApiError::not_supported(
            format!("other_config:{BACKEND}"),
            "radon",
            "a sharable volume is served by dom0's kernel: radon-block gives a disk to one writer only",
        )),
        _ if sharable => Ok(Backend::Kernel),
        wanted => Ok(wanted.unwrap_or(app.places.disks)),
    }
}

/// The name in the guest of a place.
fn device(place: &str) -> Result<String> {
    let number = place.parse::<u32>().ok().filter(|n| *n < PLACES);
    let number = number.ok_or_else(|| ApiError::invalid_device(place))?;
    let id = DiskId::from_number(202 << 8 | number << 4).ok_or_else(|| ApiError::invalid_device(place))?;
    Ok(id.to_string())
}

/// A place that no other disk of the VM has; the first free one if any will do.
fn take_place(c: &Change<'_>, vm: &str, own: Option<&str>, wanted: &str) -> Result<String> {
    let mut taken = Vec::new();
    for other in c.referring(vm, "VBD", "VM")?.iter().filter(|o| Some(o.as_str()) != own) {
        taken.push(c.text("VBD", other, "userdevice")?.to_owned());
    }
    if wanted == "autodetect" {
        let free = (0..PLACES).map(|n| n.to_string()).find(|n| !taken.contains(n));
        return free.ok_or_else(|| ApiError::invalid_device(wanted));
    }
    // Names are understood as well: xvda, hda, sda.
    let letter = |prefix: &str| {
        wanted
            .strip_prefix(prefix)
            .and_then(|l| l.bytes().next())
            .filter(|_| wanted.len() == prefix.len() + 1)
    };
    let letter = letter("xvd").or(letter("hd")).or(letter("sd")).filter(u8::is_ascii_lowercase);
    let place = letter.map_or_else(|| wanted.to_owned(), |l| (l - b'a').to_string());
    device(&place)?;
    if taken.contains(&place) { Err(ApiError::device_exists(place)) } else { Ok(place) }
}

fn create(context: &Context, args: &Args) -> Result<Value> {
    let mut row = Change::construct("VBD", args.value("args")?)?;
    wanted_backend(row.get("other_config"))?;
    let made = context.app.database.change(|c| {
        let (vm, vdi) = (text(&row, "VM").to_owned(), text(&row, "VDI").to_owned());
        if truth(c.row("VM", &vm)?, "is_control_domain") {
            return Err(ApiError::operation_not_allowed("the host's own domain takes no disks"));
        }
        let kind = row.get("type").and_then(Value::text).unwrap_or("Disk");
        if kind != "Disk" || truth(&row, "empty") {
            return Err(ApiError::not_supported("type", kind, "PVH guests have disks only"));
        }
        c.row("VDI", &vdi)?;
        if truth(c.row("VDI", &vdi)?, "read_only") && row.get("mode").and_then(Value::text) != Some("RO") {
            return Err(ApiError::vdi_readonly(vdi));
        }
        let place =
            take_place(c, &vm, None, row.get("userdevice").and_then(Value::text).unwrap_or("autodetect"))?;
        row.insert("device".into(), Value::from(device(&place)?));
        row.insert("userdevice".into(), Value::from(place));
        c.insert("VBD", row)
    })?;
    Ok(Value::from(made))
}

pub(super) fn may_set(c: &mut Change<'_>, vbd: &str, field: &str, value: &Value) -> Result<()> {
    let attached = truth(c.row("VBD", vbd)?, "currently_attached");
    let wanted = value.text().unwrap_or_default();
    match field {
        "other_config" => wanted_backend(Some(value)).map(drop),
        "userdevice" | "mode" if attached => Err(ApiError::device_attached(vbd)),
        "userdevice" => {
            let vm = c.text("VBD", vbd, "VM")?.to_owned();
            let place = take_place(c, &vm, Some(vbd), wanted)?;
            if place != wanted {
                return Err(ApiError::invalid_device(wanted));
            }
            c.set("VBD", vbd, "device", device(&place)?)
        }
        "mode" if wanted == "RW" => {
            let vdi = c.text("VBD", vbd, "VDI")?.to_owned();
            if vdi != NULL && truth(c.row("VDI", &vdi)?, "read_only") {
                Err(ApiError::vdi_readonly(vdi))
            } else {
                Ok(())
            }
        }
        "type" if wanted != "Disk" => {
            Err(ApiError::not_supported(field, wanted, "PVH guests have disks only"))
        }
        _ => Ok(()),
    }
}

fn destroy(context: &Context, args: &Args) -> Result<Value> {
    let vbd = args.text("self")?;
    let vm = context.app.database.state().text("VBD", vbd, "VM")?.to_owned();
    // Not while the VM is about to get it.
    let _held = context.app.begin("VM", &vm, "changing_dynamic_range")?;
    let _busy = context.app.begin("VBD", vbd, "unplug")?;
    context.app.database.change(|c| {
        if truth(c.row("VBD", vbd)?, "currently_attached") {
            return Err(ApiError::operation_not_allowed(format!("VBD {vbd} is still attached: unplug it")));
        }
        c.remove("VBD", vbd)
    })?;
    done()
}

/// The disk as the layer of domains takes it.
pub(super) fn disk(app: &App, vbd: &str) -> Result<(DiskId, Disk)> {
    let (row, sharable) = {
        let state = app.database.state();
        let row = state.object("VBD", vbd)?.row.clone();
        let sharable = truth(&state.object("VDI", text(&row, "VDI"))?.row, "sharable");
        (row, sharable)
    };
    let id = text(&row, "device").parse().map_err(|_| ApiError::invalid_device(text(&row, "device")))?;
    let backend = backend(app, &row, sharable)?;
    let place = vdi::place(app, text(&row, "VDI"))?;
    let path = place.repository.file(place.id).map_err(crate::storage::refused)?;
    Ok((id, Disk { path, read_only: text(&row, "mode") == "RO", backend }))
}

/// Reserves a disk's volume; an error if another VM writes it or is about to, or something is done with it.
pub(super) fn reserve(app: &App, vbd: &str, held: &mut Reservation) -> Result<()> {
    let state = app.database.state();
    let row = &state.object("VBD", vbd)?.row;
    let vdi = text(row, "VDI");
    let volume = &state.object("VDI", vdi)?.row;
    let (writes, sharable) = (text(row, "mode") == "RW", truth(volume, "sharable"));
    if !held.add(Use { vdi: vdi.to_owned(), vbd: vbd.to_owned(), writes, sharable }) {
        return Err(ApiError::vdi_in_use(vdi, "attach"));
    }
    if app.is_busy(vdi) {
        return Err(ApiError::other_operation("VDI", vdi));
    }
    let writes = |row: &Row| text(row, "mode") == "RW";
    for other in state.referring(vdi, "VBD", "VDI").filter(|o| *o != vbd) {
        let other = &state.object("VBD", other)?.row;
        let clash = writes(row) || writes(other);
        if truth(other, "currently_attached") && clash && !truth(volume, "sharable") {
            return Err(ApiError::vdi_in_use(vdi, "attach"));
        }
    }
    Ok(())
}

fn assert_running(app: &App, vm: &str) -> Result<()> {
    let state = app.database.state();
    let power = state.text("VM", vm, "power_state")?;
    if power == "Running" {
        Ok(())
    } else {
        Err(ApiError::bad_power_state(vm, "running", power.to_lowercase()))
    }
}

fn plug(context: &Context, args: &Args) -> Result<Value> {
    let (app, vbd) = (&context.app, args.text("self")?);
    let vm = app.database.state().text("VBD", vbd, "VM")?.to_owned();
    let _busy = app.begin("VM", &vm, "changing_dynamic_range")?;
    assert_running(app, &vm)?;
    if truth(&app.database.state().object("VBD", vbd)?.row, "currently_attached") {
        return Err(ApiError::device_attached(vbd));
    }
    let mut held = Reservation::new(app);
    reserve(app, vbd, &mut held)?;
    let (id, disk) = disk(app, vbd)?;
    let plugged = app.domains.attach_disk(uuid(app, &vm)?, id, &disk, &control(context));
    vm_sync::sync(app);
    plugged.map_err(|e| refused(context, e))?;
    done()
}

fn detach(context: &Context, vbd: &str, limit: Option<Duration>) -> Result<Value> {
    let app = &context.app;
    let vm = app.database.state().text("VBD", vbd, "VM")?.to_owned();
    let _busy = app.begin("VM", &vm, "changing_dynamic_range")?;
    assert_running(app, &vm)?;
    let row = app.database.state().object("VBD", vbd)?.row.clone();
    if !truth(&row, "currently_attached") {
        return Err(ApiError::device_detached(vbd));
    }
    let id = text(&row, "device").parse().map_err(|_| ApiError::invalid_device(text(&row, "device")))?;
    let gone = app.domains.detach_disk(uuid(app, &vm)?, id, limit, &control(context));
    vm_sync::sync(app);
    gone.map_err(|error| match error {
        radon_domain::Error::Timeout { .. } => ApiError::detach_rejected("VBD", vbd, error),
        other => refused(context, other),
    })?;
    done()
}

fn unplug(context: &Context, args: &Args) -> Result<Value> {
    detach(context, args.text("self")?, Some(LET_GO))
}

fn unplug_force(context: &Context, args: &Args) -> Result<Value> {
    detach(context, args.text("self")?, None)
}

fn assert_attachable(context: &Context, args: &Args) -> Result<Value> {
    let vbd = args.text("self")?;
    reserve(&context.app, vbd, &mut Reservation::new(&context.app))?;
    disk(&context.app, vbd)?;
    done()
}
