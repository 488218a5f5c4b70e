//! `radon host`, `sr`, `task`.

use super::{list, made};
use crate::arguments::{Host, Sr, Task};
use crate::client::Client;
use crate::show::{Column, bytes, record, table, text};
use crate::{Done, names, task as tasks};
use serde_json::json;

pub fn host(client: &Client, json: bool, command: &Host) -> Done {
    let host = names::host(client)?;
    match command {
        Host::Show => record(json, &client.call("host.get_record", &[json!(host)])?),
        Host::Enable => client.call("host.enable", &[json!(host)]).map(drop),
        Host::Disable => client.call("host.disable", &[json!(host)]).map(drop),
    }
}

pub fn sr(client: &Client, json: bool, command: &Sr) -> Done {
    match command {
        Sr::List => {
            let columns: &[Column<'_>] = &[
                ("NAME", &|r| text(r, "name_label")),
                ("TYPE", &|r| text(r, "type")),
                ("SIZE", &|r| bytes(r, "physical_size")),
                ("USED", &|r| bytes(r, "physical_utilisation")),
                ("PROMISED", &|r| bytes(r, "virtual_allocation")),
                ("UUID", &|r| text(r, "uuid")),
            ];
            table(json, list(client, "SR")?, columns)
        }
        Sr::Create { name, folder } => {
            let arguments = [
                json!(names::host(client)?),
                json!({"location": folder}),
                json!(0),
                json!(name),
                json!(""),
                json!("xfs"),
                json!("user"),
                json!(false),
            ];
            made(client, json, "SR", &tasks::run(client, "SR.create", &arguments)?)
        }
        Sr::Scan { sr } => tasks::run(client, "SR.scan", &[json!(names::sr(client, Some(sr))?)]).map(drop),
        Sr::Delete { sr } => {
            tasks::run(client, "SR.destroy", &[json!(names::sr(client, Some(sr))?)]).map(drop)
        }
    }
}

pub fn task(client: &Client, json: bool, command: &Task) -> Done {
    match command {
        Task::List => {
            let percent = |r: &serde_json::Value| {
                format!("{:.0} %", r["progress"].as_f64().unwrap_or_default() * 100.0)
            };
            let columns: &[Column<'_>] = &[
                ("TASK", &|r| text(r, "name_label")),
                ("STATUS", &|r| text(r, "status")),
                ("PROGRESS", &percent),
                ("CREATED", &|r| text(r, "created")),
                ("UUID", &|r| text(r, "uuid")),
            ];
            table(json, list(client, "task")?, columns)
        }
        Task::Wait { task } => tasks::follow(client, &names::find(client, "task", task, |_| true)?).map(drop),
        Task::Cancel { task } => {
            let task = names::find(client, "task", task, |_| true)?;
            client.call("task.cancel", &[json!(task)]).map(drop)
        }
    }
}
