//! `VDI`: volumes.
//!
//! A new volume has the name [`UNFINISHED`] until the database knows it, and an old one gets that name before the database forgets it:
//! what of these is left when the daemon starts again is nobody's.

use super::{done, int, sr, text, truth};
use crate::app::{App, fields};
use crate::database::{Change, Row};
use crate::dispatch::{Args, Context, Handler};
use crate::storage::{UNFINISHED, refused};
use base64::Engine;
use radon_api::{ApiError, NULL, Result, Time, Value};
use radon_image::{Format, Input};
use radon_volume::repository::Shrink;
use radon_volume::{Repository, Volume, VolumeError, VolumeId};
use std::sync::Arc;

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("VDI.create", create),
    ("VDI.destroy", destroy),
    ("VDI.snapshot", snapshot),
    ("VDI.clone", clone),
    ("VDI.copy", copy),
    ("VDI.resize", resize),
    ("VDI.resize_online", resize),
    ("VDI.forget", forget),
    ("VDI.update", update),
    ("VDI.list_changed_blocks", changed_blocks),
    ("VDI.set_name_label", set_name_label),
    ("VDI.set_name_description", set_name_description),
    ("VDI.set_read_only", set_read_only),
    ("VDI.set_sharable", set_sharable),
];

/// A volume, and where it lies.
pub struct Place {
    /// Reference of the SR.
    pub sr: String,
    /// The opened repository.
    pub repository: Arc<Repository>,
    /// The volume's number there.
    pub id: VolumeId,
}

/// Finds a VDI's volume.
pub fn place(app: &App, vdi: &str) -> Result<Place> {
    let (sr, location) = {
        let state = app.database.state();
        let row = &state.object("VDI", vdi)?.row;
        (text(row, "SR").to_owned(), text(row, "location").to_owned())
    };
    let id = location.parse().map_err(|_| ApiError::vdi_missing(&sr, vdi))?;
    Ok(Place { repository: app.storage.find(&sr)?, sr, id })
}

/// What the layer of volumes says of one volume, as XenAPI says it.
fn of(vdi: &str, operation: &'static str) -> impl Fn(VolumeError) -> ApiError {
    move |error| match error {
        VolumeError::InUse(_) => ApiError::vdi_in_use(vdi, operation),
        VolumeError::ReadOnly(_) => ApiError::vdi_readonly(vdi),
        VolumeError::NotFound(_) => ApiError::vdi_missing("", vdi),
        other => refused(other),
    }
}

/// Makes a new volume a VDI's; the volume goes if that fails.
pub fn adopt(app: &App, sr: &str, repository: &Repository, volume: &Volume, row: Row) -> Result<String> {
    let label = text(&row, "name_label").to_owned();
    let recorded = app.database.change(|c| {
        c.row("SR", sr)?;
        let vdi = c.insert("VDI", located(row, sr, repository, volume))?;
        sr::figures(c, sr, repository)?;
        Ok(vdi)
    });
    match &recorded {
        Ok(_) => name(repository, volume.id, &label),
        Err(_) => undo(repository, volume.id),
    }
    recorded
}

/// A row with what a volume says of itself.
pub fn located(mut row: Row, sr: &str, repository: &Repository, volume: &Volume) -> Row {
    let space = repository.space(volume.id).unwrap_or_default();
    row.extend(fields([
        ("SR", Value::from(sr)),
        ("location", Value::from(volume.id.to_string())),
        ("virtual_size", Value::from(volume.size)),
        ("physical_utilisation", Value::from(space.allocated)),
    ]));
    row
}

/// Names a volume after its VDI: for people who look at the repository; the database does not need it.
pub fn name(repository: &Repository, id: VolumeId, label: &str) {
    if let Err(error) = repository.rename(id, label) {
        eprintln!("radond: volume {id} keeps the name of an unfinished one: {error}");
    }
}

/// Takes away a volume that became nobody's.
pub fn undo(repository: &Repository, id: VolumeId) {
    if let Err(error) = repository.delete(id) {
        eprintln!("radond: volume {id} is left until the next start: {error}");
    }
}

fn create(context: &Context, args: &Args) -> Result<Value> {
    let row = Change::construct("VDI", args.value("args")?)?;
    let sr = text(&row, "SR").to_owned();
    context.app.database.state().object("SR", &sr)?;
    let repository = context.app.storage.find(&sr)?;
    let size = int(&row, "virtual_size");
    // As repositories of other hosts do, sizes are made whole sectors.
    let size = u64::try_from(size).ok().and_then(|s| s.checked_next_multiple_of(512));
    let size = size.ok_or_else(|| ApiError::invalid_value("virtual_size", int(&row, "virtual_size")))?;
    let volume = repository.create(UNFINISHED, size).map_err(refused)?;
    adopt(&context.app, &sr, &repository, &volume, row).map(Value::from)
}

/// An error if a VM uses the volume at all, or right now.
///
/// Who asks has marked the volume busy before: whoever is about to use it is seen, or sees that.
pub(super) fn assert_unused(app: &App, c: &Change<'_>, vdi: &str, operation: &str) -> Result<()> {
    if app.reserved.is(vdi) {
        return Err(ApiError::vdi_in_use(vdi, operation));
    }
    for vbd in c.referring(vdi, "VBD", "VDI")? {
        if truth(c.row("VBD", &vbd)?, "currently_attached") {
            return Err(ApiError::vdi_in_use(vdi, operation));
        }
    }
    Ok(())
}

/// Removes the rows of a VDI, and of VMs' uses of it.
pub(super) fn remove_rows(c: &mut Change<'_>, vdi: &str) -> Result<()> {
    for vbd in c.referring(vdi, "VBD", "VDI")? {
        c.remove("VBD", &vbd)?;
    }
    c.remove("VDI", vdi)
}

fn destroy(context: &Context, args: &Args) -> Result<Value> {
    let vdi = args.text("self")?;
    let _busy = context.app.begin("VDI", vdi, "destroy")?;
    let place = place(&context.app, vdi)?;
    context.app.database.change(|c| assert_unused(&context.app, c, vdi, "destroy"))?;
    match place.repository.rename(place.id, UNFINISHED) {
        // Its data were lost before.
        Err(VolumeError::NotFound(_)) => {}
        other => drop(other.map_err(of(vdi, "destroy"))?),
    }
    context.app.database.change(|c| {
        assert_unused(&context.app, c, vdi, "destroy")?;
        remove_rows(c, vdi)
    })?;
    if place.repository.volume(place.id).is_ok() {
        undo(&place.repository, place.id);
    }
    // The figures are right again when the room is free.
    context.app.database.change(|c| sr::figures(c, &place.sr, &place.repository))?;
    done()
}

/// What a copy of a VDI has of it.
pub(super) fn inherited(app: &App, vdi: &str) -> Result<Row> {
    let state = app.database.state();
    let old = &state.object("VDI", vdi)?.row;
    let names = [
        "name_label",
        "name_description",
        "type",
        "sharable",
        "other_config",
        "xenstore_data",
        "sm_config",
        "tags",
    ];
    Ok(names.into_iter().filter_map(|n| Some((n.to_owned(), old.get(n)?.clone()))).collect())
}

/// What makes a row that of a snapshot.
pub(super) fn as_snapshot(row: &mut Row, of: &str) {
    row.extend(fields([
        ("is_a_snapshot", Value::Bool(true)),
        ("read_only", Value::Bool(true)),
        ("snapshot_of", Value::from(of)),
        ("snapshot_time", Value::Time(Time::now())),
    ]));
}

fn snapshot(context: &Context, args: &Args) -> Result<Value> {
    let vdi = args.text("vdi")?;
    let place = place(&context.app, vdi)?;
    let volume = place.repository.snapshot(place.id, UNFINISHED).map_err(of(vdi, "snapshot"))?;
    let row = inherited(&context.app, vdi).inspect_err(|_| undo(&place.repository, volume.id));
    let mut row = row?;
    as_snapshot(&mut row, vdi);
    adopt(&context.app, &place.sr, &place.repository, &volume, row).map(Value::from)
}

fn clone(context: &Context, args: &Args) -> Result<Value> {
    let vdi = args.text("vdi")?;
    let place = place(&context.app, vdi)?;
    let row = inherited(&context.app, vdi)?;
    let volume = place.repository.clone_volume(place.id, UNFINISHED).map_err(of(vdi, "clone"))?;
    adopt(&context.app, &place.sr, &place.repository, &volume, row).map(Value::from)
}

/// A volume with the content of another, in any repository.
pub(super) fn duplicate(
    context: &Context,
    from: &Place,
    to: &Repository,
    same: bool,
    vdi: &str,
) -> Result<Volume> {
    if same {
        return to.clone_volume(from.id, UNFINISHED).map_err(of(vdi, "copy"));
    }
    let source = from.repository.source(from.id).map_err(of(vdi, "copy"))?;
    let mut stopped = None;
    let mut progress = |done: u64, total: Option<u64>| {
        let part = done as f64 / total.unwrap_or(done).max(1) as f64;
        context.progress(part).map_err(|error| {
            stopped = Some(error);
            std::io::Error::other("cancelled")
        })
    };
    let made = to.import(Input::File(&source), Format::Raw, UNFINISHED, &mut progress);
    made.map_err(|error| stopped.unwrap_or_else(|| refused(error)))
}

fn copy(context: &Context, args: &Args) -> Result<Value> {
    let (vdi, sr) = (args.text("vdi")?, args.text("sr")?);
    if args.text("base_vdi")? != NULL || args.text("into_vdi")? != NULL {
        return Err(ApiError::not_implemented("VDI.copy with base_vdi or into_vdi"));
    }
    let from = place(&context.app, vdi)?;
    let sr = if sr == NULL { from.sr.as_str() } else { sr };
    context.app.database.state().object("SR", sr)?;
    let to = context.app.storage.find(sr)?;
    let row = inherited(&context.app, vdi)?;
    let volume = duplicate(context, &from, &to, sr == from.sr, vdi)?;
    adopt(&context.app, sr, &to, &volume, row).map(Value::from)
}

fn resize(context: &Context, args: &Args) -> Result<Value> {
    let (vdi, size) = (args.text("vdi")?, args.int("size")?);
    let _busy = context.app.begin("VDI", vdi, "resize")?;
    let place = place(&context.app, vdi)?;
    let size = u64::try_from(size).map_err(|_| ApiError::invalid_value("size", size))?;
    let resized = place.repository.resize(place.id, size, Shrink::No);
    let volume = resized.map_err(|error| match error {
        VolumeError::Shrinks { .. } | VolumeError::BadSize(_) => ApiError::invalid_value("size", size),
        other => of(vdi, "resize")(other),
    })?;
    context.app.database.change(|c| {
        c.set("VDI", vdi, "virtual_size", volume.size)?;
        sr::figures(c, &place.sr, &place.repository)
    })?;
    done()
}

fn forget(context: &Context, args: &Args) -> Result<Value> {
    let vdi = args.text("vdi")?;
    let _busy = context.app.begin("VDI", vdi, "forget")?;
    context.app.database.change(|c| {
        assert_unused(&context.app, c, vdi, "forget")?;
        remove_rows(c, vdi)
    })?;
    done()
}

fn update(context: &Context, args: &Args) -> Result<Value> {
    let vdi = args.text("vdi")?;
    let place = place(&context.app, vdi)?;
    let space = place.repository.space(place.id).map_err(of(vdi, "update"))?;
    context.app.database.change(|c| c.set("VDI", vdi, "physical_utilisation", space.allocated))?;
    done()
}

/// Bytes that one bit of the answer stands for.
const BLOCK: u64 = 64 << 10;

fn changed_blocks(context: &Context, args: &Args) -> Result<Value> {
    let (old, new) = (args.text("vdi_from")?, args.text("vdi_to")?);
    let (from, to) = (place(&context.app, old)?, place(&context.app, new)?);
    if from.sr != to.sr {
        return Err(ApiError::not_supported("vdi_from", old, "both must be in one repository"));
    }
    let ranges = to.repository.changed(Some(from.id), to.id).map_err(of(new, "list_changed_blocks"))?;
    let size = to.repository.volume(to.id).map_err(of(new, "list_changed_blocks"))?.size;
    let blocks = size.div_ceil(BLOCK);
    let mut bits = vec![0u8; usize::try_from(blocks.div_ceil(8)).unwrap_or(0)];
    for range in ranges.iter().filter(|r| !r.is_empty()) {
        for block in range.start / BLOCK..=((range.end - 1) / BLOCK).min(blocks.saturating_sub(1)) {
            if let Some(byte) = usize::try_from(block / 8).ok().and_then(|n| bits.get_mut(n)) {
                *byte |= 0x80 >> (block % 8);
            }
        }
    }
    Ok(Value::from(base64::engine::general_purpose::STANDARD.encode(bits)))
}

fn set(context: &Context, args: &Args, field: &str) -> Result<Value> {
    context.app.database.change(|c| c.set("VDI", args.text("self")?, field, args.value("value")?.clone()))?;
    done()
}

fn set_name_label(context: &Context, args: &Args) -> Result<Value> {
    set(context, args, "name_label")?;
    if let Ok(place) = place(&context.app, args.text("self")?) {
        name(&place.repository, place.id, args.text("value")?);
    }
    done()
}

fn set_name_description(context: &Context, args: &Args) -> Result<Value> {
    set(context, args, "name_description")
}

fn set_read_only(context: &Context, args: &Args) -> Result<Value> {
    let vdi = args.text("self")?;
    if truth(&context.app.database.state().object("VDI", vdi)?.row, "is_a_snapshot") {
        return Err(ApiError::operation_not_allowed("a snapshot never changes: clone it"));
    }
    set(context, args, "read_only")
}

/// Not while a VM uses it: who serves its disk was chosen by that.
fn set_sharable(context: &Context, args: &Args) -> Result<Value> {
    let vdi = args.text("self")?;
    let _busy = context.app.begin("VDI", vdi, "update")?;
    context.app.database.change(|c| assert_unused(&context.app, c, vdi, "set_sharable"))?;
    set(context, args, "sharable")
}
