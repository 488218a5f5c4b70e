//! `SR`: storage repositories.

use super::{done, int, text};
use crate::app::{App, fields};
use crate::database::{Change, Row};
use crate::dispatch::{Args, Context, Handler};
use crate::storage::{UNFINISHED, refused};
use radon_api::{ApiError, Result, Time, Value};
use radon_volume::{Kind, Repository, Sharing, Volume, VolumeError};
use std::fs;
use std::path::{Path, PathBuf};

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("SR.create", create),
    ("SR.introduce", introduce),
    ("SR.forget", forget),
    ("SR.destroy", destroy),
    ("SR.scan", scan),
    ("SR.update", update),
    ("SR.get_supported_types", types),
    ("SR.set_name_label", set_name_label),
    ("SR.set_name_description", set_name_description),
];

/// A folder on a file system that shares blocks between files.
const TYPE: &str = "xfs";

fn types(_: &Context, _: &Args) -> Result<Value> {
    Ok(Value::strings([TYPE]))
}

fn known_type(args: &Args) -> Result<()> {
    match args.text("type")? {
        TYPE => Ok(()),
        other => Err(ApiError::sr_unknown_driver(other)),
    }
}

/// The folder that a connection names.
pub(super) fn location(config: &Value) -> Result<PathBuf> {
    let location = config.get("location").and_then(Value::text).unwrap_or_default();
    let path = Path::new(location);
    let plain = !path.components().any(|c| matches!(c, std::path::Component::ParentDir));
    if path.is_absolute() && plain {
        return Ok(path.to_path_buf());
    }
    Err(ApiError::invalid_value("device_config:location", location))
}

fn described(args: &Args) -> Result<Row> {
    let mut row = Row::new();
    for name in ["name_label", "name_description", "type", "content_type", "shared", "sm_config"] {
        row.insert(name.to_owned(), args.value(name)?.clone());
    }
    Ok(row)
}

fn create(context: &Context, args: &Args) -> Result<Value> {
    known_type(args)?;
    let (host, config) = (args.text("host")?, args.value("device_config")?);
    context.app.database.state().object("host", host)?;
    let dir = location(config)?;
    match Repository::init(&dir) {
        // One without volumes may be what a killed daemon had begun: then it is this one's.
        Err(VolumeError::Exists(_)) if is_free(context, &dir)? => {}
        other => other.map_err(refused)?,
    }
    let reference = context.app.database.change(|c| {
        let sr = c.insert("SR", described(args)?)?;
        c.insert(
            "PBD",
            fields([
                ("host", Value::from(host)),
                ("SR", Value::from(sr.as_str())),
                ("device_config", config.clone()),
            ]),
        )?;
        Ok(sr)
    })?;
    let opened = plug(&context.app, &reference, &dir);
    if let Err(error) = opened {
        remove_rows(context, &reference)?;
        return Err(error);
    }
    Ok(Value::from(reference))
}

/// Whether a repository is nobody's and empty.
fn is_free(context: &Context, dir: &Path) -> Result<bool> {
    let taken = {
        let state = context.app.database.state();
        let mut places = state.objects("PBD").filter_map(|(_, o)| location(o.row.get("device_config")?).ok());
        places.any(|place| place == dir)
    };
    if taken {
        return Ok(false);
    }
    let repository = Repository::open(dir, Sharing::Alone).map_err(refused)?;
    Ok(repository.volumes().map_err(refused)?.is_empty())
}

/// Opens a repository and takes its figures; its PBDs are connected then.
pub(super) fn plug(app: &App, sr: &str, dir: &Path) -> Result<()> {
    app.storage.open(sr, dir)?;
    let scanned = rescan(app, sr);
    if scanned.is_err() {
        app.storage.close(sr);
        return scanned;
    }
    app.database.change(|c| {
        for pbd in c.referring(sr, "PBD", "SR")? {
            c.set("PBD", &pbd, "currently_attached", true)?;
        }
        Ok(())
    })
}

fn introduce(context: &Context, args: &Args) -> Result<Value> {
    known_type(args)?;
    let mut row = described(args)?;
    let uuid = args.text("uuid")?;
    if !uuid.is_empty() {
        let parsed: std::result::Result<radon_domain::uuid::Uuid, _> = uuid.parse();
        parsed.map_err(|_| ApiError::uuid_invalid("SR", uuid))?;
        row.insert("uuid".into(), Value::from(uuid));
    }
    context.app.database.change(|c| c.insert("SR", row)).map(Value::from)
}

fn remove_rows(context: &Context, sr: &str) -> Result<()> {
    context.app.database.change(|c| {
        for pbd in c.referring(sr, "PBD", "SR")? {
            c.remove("PBD", &pbd)?;
        }
        for vdi in c.referring(sr, "VDI", "SR")? {
            for vbd in c.referring(&vdi, "VBD", "VDI")? {
                c.remove("VBD", &vbd)?;
            }
            c.remove("VDI", &vdi)?;
        }
        for pool in c.all("pool")? {
            if c.text("pool", &pool, "default_SR")? == sr {
                c.set("pool", &pool, "default_SR", radon_api::NULL)?;
            }
        }
        c.remove("SR", sr)
    })
}

fn forget(context: &Context, args: &Args) -> Result<Value> {
    let sr = args.text("sr")?;
    let _busy = context.app.begin("SR", sr, "forget")?;
    let attached = {
        let state = context.app.database.state();
        let plugged =
            |p: &String| state.object("PBD", p).is_ok_and(|o| super::truth(&o.row, "currently_attached"));
        state.referring(sr, "PBD", "SR").any(plugged)
    };
    if attached {
        return Err(ApiError::sr_has_pbd(sr));
    }
    remove_rows(context, sr)?;
    done()
}

fn destroy(context: &Context, args: &Args) -> Result<Value> {
    let sr = args.text("sr")?;
    let _busy = context.app.begin("SR", sr, "destroy")?;
    let dir = {
        let state = context.app.database.state();
        let pbd = state.referring(sr, "PBD", "SR").next().ok_or_else(|| ApiError::sr_has_no_pbds(sr))?;
        location(state.field("PBD", pbd, "device_config")?)?
    };
    // Who is making a volume holds the repository, and cannot put it into the database any more once the rows are gone.
    let repository = match context.app.storage.find(sr) {
        Ok(open) => Some(open),
        Err(_) if dir.join("volumes.redb").exists() => Some(context.app.storage.open(sr, &dir)?),
        // A killed daemon had come this far.
        Err(_) => None,
    };
    if let Some(repository) = &repository
        && !repository.volumes().map_err(refused)?.is_empty()
    {
        return Err(ApiError::sr_not_empty());
    }
    drop(repository);
    context.app.storage.close(sr);
    remove_files(&dir).map_err(|e| ApiError::sr_backend("", "", format!("{}: {e}", dir.display())))?;
    remove_rows(context, sr)?;
    done()
}

/// What makes a folder a repository; the folder itself stays.
fn remove_files(dir: &Path) -> std::io::Result<()> {
    let gone = |result: std::io::Result<()>| match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    // First the folder that must be empty: who is just making a volume fails, or makes this fail.
    for name in ["volumes", "frozen"] {
        gone(fs::remove_dir(dir.join(name)))?;
    }
    for name in ["volumes.redb", "volumes.redb.new", "reserve"] {
        gone(fs::remove_file(dir.join(name)))?;
    }
    Ok(())
}

fn scan(context: &Context, args: &Args) -> Result<Value> {
    let sr = args.text("sr")?;
    let _busy = context.app.begin("SR", sr, "scan")?;
    rescan(&context.app, sr)?;
    done()
}

fn update(context: &Context, args: &Args) -> Result<Value> {
    let sr = args.text("sr")?;
    context.app.database.state().object("SR", sr)?;
    let repository = context.app.storage.find(sr)?;
    context.app.database.change(|c| figures(c, sr, &repository))?;
    done()
}

/// Makes VDIs as the repository has volumes.
pub(super) fn rescan(app: &App, sr: &str) -> Result<()> {
    let repository = app.storage.find(sr)?;
    let volumes = repository.volumes().map_err(refused)?;
    app.database.change(|c| {
        let mut known = Vec::new();
        for vdi in c.referring(sr, "VDI", "SR")? {
            let location = c.text("VDI", &vdi, "location")?.to_owned();
            let there = volumes.iter().find(|v| v.id.to_string() == location);
            // One that was made since the list was taken is not missing.
            let there = there.cloned().or_else(|| repository.volume(location.parse().ok()?).ok());
            c.set("VDI", &vdi, "missing", there.is_none())?;
            if let Some(volume) = there {
                let space = repository.space(volume.id).unwrap_or_default();
                c.set("VDI", &vdi, "physical_utilisation", space.allocated)?;
                c.set("VDI", &vdi, "virtual_size", volume.size)?;
            }
            known.push(location);
        }
        for volume in &volumes {
            let new = volume.name != UNFINISHED && !known.contains(&volume.id.to_string());
            // It may be on its way out.
            if new && repository.volume(volume.id).is_ok() {
                let space = repository.space(volume.id).unwrap_or_default();
                c.insert("VDI", found(sr, volume, space.allocated))?;
            }
        }
        figures(c, sr, &repository)
    })
}

/// A VDI for a volume that was not made through this API.
fn found(sr: &str, volume: &Volume, allocated: u64) -> Row {
    let snapshot = volume.kind == Kind::Snapshot;
    let made = Time(i64::try_from(volume.created).unwrap_or_default());
    fields([
        ("name_label", Value::from(volume.name.as_str())),
        ("SR", Value::from(sr)),
        ("location", Value::from(volume.id.to_string())),
        ("virtual_size", Value::from(volume.size)),
        ("physical_utilisation", Value::from(allocated)),
        ("is_a_snapshot", Value::Bool(snapshot)),
        ("read_only", Value::Bool(snapshot)),
        ("snapshot_time", Value::Time(if snapshot { made } else { Time(0) })),
    ])
}

/// Takes a repository's figures.
pub(super) fn figures(c: &mut Change<'_>, sr: &str, repository: &Repository) -> Result<()> {
    let totals = repository.totals().map_err(refused)?;
    let mut promised = 0i64;
    for vdi in c.referring(sr, "VDI", "SR")? {
        promised = promised.saturating_add(int(c.row("VDI", &vdi)?, "virtual_size"));
    }
    c.set("SR", sr, "physical_size", totals.size)?;
    c.set("SR", sr, "physical_utilisation", totals.size.saturating_sub(totals.free))?;
    c.set("SR", sr, "virtual_allocation", promised)
}

/// Removes what a killed daemon had begun to make, and gives volumes their names whose VDIs got theirs last.
pub(super) fn sweep(app: &App, sr: &str) -> Result<()> {
    let repository = app.storage.find(sr)?;
    for volume in repository.volumes().map_err(refused)?.into_iter().filter(|v| v.name == UNFINISHED) {
        let label = {
            let state = app.database.state();
            let location = volume.id.to_string();
            let mut all = state.referring(sr, "VDI", "SR").filter_map(|r| state.object("VDI", r).ok());
            all.find(|o| text(&o.row, "location") == location).map(|o| text(&o.row, "name_label").to_owned())
        };
        match label {
            Some(label) => drop(repository.rename(volume.id, &label).map_err(refused)?),
            None => repository.delete(volume.id).map_err(refused)?,
        }
    }
    Ok(())
}

fn set_name_label(context: &Context, args: &Args) -> Result<Value> {
    context.app.database.change(|c| c.set("SR", args.text("sr")?, "name_label", args.text("value")?))?;
    done()
}

fn set_name_description(context: &Context, args: &Args) -> Result<Value> {
    context
        .app
        .database
        .change(|c| c.set("SR", args.text("sr")?, "name_description", args.text("value")?))?;
    done()
}
