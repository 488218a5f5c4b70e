//! `radon volume`.

use super::{list, made};
use crate::arguments::Volume;
use crate::client::Client;
use crate::show::{Column, bytes, record, table, text};
use crate::{Done, Failed, names, task};
use serde_json::json;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

const MIB: u64 = 1 << 20;

pub fn run(client: &Client, json: bool, command: &Volume) -> Done {
    let find = |name: &str| names::volume(client, name).map(|v| json!(v));
    match command {
        Volume::List => {
            let columns: &[Column<'_>] = &[
                ("NAME", &|r| text(r, "name_label")),
                ("SIZE", &|r| bytes(r, "virtual_size")),
                ("USED", &|r| bytes(r, "physical_utilisation")),
                ("KIND", &|r| if r["is_a_snapshot"] == true { "snapshot" } else { "volume" }.to_owned()),
                ("UUID", &|r| text(r, "uuid")),
            ];
            table(json, list(client, "VDI")?, columns)
        }
        Volume::Show { volume } => record(json, &client.call("VDI.get_record", &[find(volume)?])?),
        Volume::Create { name, mib, sr } => {
            let sr = names::sr(client, sr.as_deref())?;
            let record = json!({"name_label": name, "virtual_size": mib * MIB, "SR": sr});
            made(client, json, "VDI", &client.text("VDI.create", &[record])?)
        }
        Volume::Clone { volume, name } => copied(client, json, "clone", volume, name),
        Volume::Snapshot { volume, name } => copied(client, json, "snapshot", volume, name),
        Volume::Resize { volume, mib } => {
            client.call("VDI.resize", &[find(volume)?, json!(mib * MIB)]).map(drop)
        }
        Volume::Import { volume, file, format } => {
            import(client, &names::volume(client, volume)?, file, format)
        }
        Volume::Export { volume, file, format } => {
            export(client, &names::volume(client, volume)?, file, format)
        }
        Volume::Delete { volume } => client.call("VDI.destroy", &[find(volume)?]).map(drop),
    }
}

fn copied(client: &Client, json: bool, message: &str, volume: &str, name: &str) -> Done {
    let copy = task::run(client, &format!("VDI.{message}"), &[json!(names::volume(client, volume)?)])?;
    client.call("VDI.set_name_label", &[json!(copy), json!(name)])?;
    made(client, json, "VDI", &copy)
}

/// Where an image goes, or comes from. References have no letters that need escaping.
fn path(client: &Client, what: &str, volume: &str, format: &str, task: &str) -> Result<String, Failed> {
    if !format.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(format!("there is no format {format}").into());
    }
    Ok(format!(
        "/{what}_raw_vdi?session_id={}&vdi={volume}&format={format}&task_id={task}",
        client.reference()
    ))
}

/// Sends a raw image as a dynamic VHD: what is zero in it is not sent.
pub(super) fn import_raw(client: &Client, volume: &str, file: &Path) -> Done {
    let named = |e: io::Error| format!("{}: {e}", file.display());
    let raw = radon_image::FileSource::new(File::open(file).map_err(named)?).map_err(named)?;
    let packed = file.with_extension("vhd-part");
    let result = (|| -> Done {
        let mut out = radon_image::Pipe(io::BufWriter::new(File::create(&packed)?));
        radon_image::export(&raw, radon_image::Format::Vhd, &radon_image::Identity::default(), &mut out)?;
        out.0.flush()?;
        import(client, volume, &packed, "vhd")
    })();
    let _ = fs::remove_file(&packed);
    result
}

fn import(client: &Client, volume: &str, file: &Path, format: &str) -> Done {
    let named = |e: io::Error| format!("{}: {e}", file.display());
    let from = File::open(file).map_err(named)?;
    let length = from.metadata().map_err(named)?.len();
    let bar = task::bar();
    bar.set_length(length);
    let task = client.text("task.create", &[json!(format!("Import of {}", file.display())), json!("")])?;
    let path = path(client, "import", volume, format, &task)?;
    let sent = client.server().request("PUT", &path, length, &mut bar.wrap_read(from)).map(drop);
    bar.finish_and_clear();
    sent?;
    client.call("task.destroy", &[json!(task)]).map(drop)
}

/// The file is there when all of it is.
fn export(client: &Client, volume: &str, file: &Path, format: &str) -> Done {
    let part = file.with_extension("part");
    let named = |e: io::Error| format!("{}: {e}", part.display());
    let task = client.text("task.create", &[json!(format!("Export to {}", file.display())), json!("")])?;
    let path = path(client, "export", volume, format, &task)?;
    let mut body = client.server().request("GET", &path, 0, &mut io::empty())?;
    let mut to = File::create(&part).map_err(named)?;
    let bar = task::bar();
    bar.set_length(0);
    let mut piece = vec![0; 256 << 10];
    let copied = loop {
        match body.read(&mut piece) {
            Ok(0) => break to.sync_all().map_err(named),
            Ok(count) => {
                bar.inc(count as u64);
                if let Err(error) = to.write_all(piece.get(..count).unwrap_or_default()) {
                    break Err(named(error));
                }
            }
            Err(error) => break Err(format!("the host ended the export: {error}")),
        }
    };
    bar.finish_and_clear();
    // The connection's end is not enough: the task knows whether that was all.
    let ended = copied.map_err(Failed::from).and_then(|()| task::follow(client, &task));
    if let Err(error) = ended {
        let _ = fs::remove_file(&part);
        return Err(error);
    }
    fs::rename(&part, file).map_err(named)?;
    client.call("task.destroy", &[json!(task)]).map(drop)
}
