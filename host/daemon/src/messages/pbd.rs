//! `PBD`: this host's connections to repositories.

use super::{done, sr, truth};
use crate::app::App;
use crate::database::Change;
use crate::dispatch::{Args, Context, Handler};
use radon_api::{ApiError, Result, Value};

pub(super) const HANDLERS: &[(&str, Handler)] =
    &[("PBD.create", create), ("PBD.destroy", destroy), ("PBD.plug", plug), ("PBD.unplug", unplug)];

fn create(context: &Context, args: &Args) -> Result<Value> {
    let row = Change::construct("PBD", args.value("args")?)?;
    let made = context.app.database.change(|c| {
        let get = |name: &str| row.get(name).and_then(Value::text).unwrap_or_default().to_owned();
        c.row("host", &get("host"))?;
        c.row("SR", &get("SR"))?;
        sr::location(row.get("device_config").unwrap_or(&Value::void()))?;
        if !c.referring(&get("SR"), "PBD", "SR")?.is_empty() {
            return Err(ApiError::sr_has_pbd(get("SR")));
        }
        c.insert("PBD", row)
    })?;
    Ok(Value::from(made))
}

pub(super) fn may_set(c: &Change<'_>, pbd: &str, field: &str) -> Result<()> {
    if field == "device_config" && truth(c.row("PBD", pbd)?, "currently_attached") {
        return Err(ApiError::operation_not_allowed("the PBD is plugged"));
    }
    Ok(())
}

fn destroy(context: &Context, args: &Args) -> Result<Value> {
    let pbd = args.text("self")?;
    context.app.database.change(|c| {
        if truth(c.row("PBD", pbd)?, "currently_attached") {
            return Err(ApiError::operation_not_allowed("the PBD is plugged"));
        }
        c.remove("PBD", pbd)
    })?;
    done()
}

fn plug(context: &Context, args: &Args) -> Result<Value> {
    let pbd = args.text("self")?;
    let (sr, dir) = {
        let state = context.app.database.state();
        let sr = state.text("PBD", pbd, "SR")?.to_owned();
        (sr, sr::location(state.field("PBD", pbd, "device_config")?)?)
    };
    let _busy = context.app.begin("SR", &sr, "plug")?;
    sr::plug(&context.app, &sr, &dir)?;
    done()
}

fn unplug(context: &Context, args: &Args) -> Result<Value> {
    let pbd = args.text("self")?;
    let sr = context.app.database.state().text("PBD", pbd, "SR")?.to_owned();
    let _busy = context.app.begin("SR", &sr, "unplug")?;
    {
        let state = context.app.database.state();
        for vdi in state.referring(&sr, "VDI", "SR") {
            let attached =
                |vbd: &String| state.object("VBD", vbd).is_ok_and(|o| truth(&o.row, "currently_attached"));
            if state.referring(vdi, "VBD", "VDI").any(attached)
                || context.app.reserved.is(vdi)
                || context.app.is_busy(vdi)
            {
                return Err(ApiError::vdi_in_use(vdi, "unplug"));
            }
        }
    }
    context.app.database.change(|c| c.set("PBD", pbd, "currently_attached", false))?;
    context.app.storage.close(&sr);
    done()
}

/// At the start of the daemon: connects to what was connected, and brings to an end what a killed daemon had begun there. What cannot
/// be connected stays unplugged, and says why.
pub fn plug_all(app: &App) {
    let all: Vec<(String, String, Value)> = {
        let state = app.database.state();
        let attached = state.objects("PBD").filter(|(_, o)| truth(&o.row, "currently_attached"));
        let rows = attached.map(|(r, o)| {
            let config = o.row.get("device_config").cloned().unwrap_or_else(Value::void);
            (r.clone(), super::text(&o.row, "SR").to_owned(), config)
        });
        rows.collect()
    };
    for (pbd, sr, config) in all {
        let plugged = sr::location(&config)
            .and_then(|dir| app.storage.open(&sr, &dir))
            .and_then(|_| sr::sweep(app, &sr))
            .and_then(|()| sr::rescan(app, &sr));
        if let Err(error) = plugged {
            eprintln!("radond: cannot connect to repository {sr}: {error}");
            app.storage.close(&sr);
            if let Err(error) = app.database.change(|c| c.set("PBD", &pbd, "currently_attached", false)) {
                eprintln!("radond: {error}");
            }
        }
    }
}
