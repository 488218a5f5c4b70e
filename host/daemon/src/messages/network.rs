//! `network`: bridges.
//!
//! A managed network's bridge is made and removed with it, by the layer of networks, which knows it by its number. The row comes first
//! and goes first; what a killed daemon did not come to is done at the next start ([`settle`]).

use super::{done, network_settings, text, truth};
use crate::app::App;
use crate::database::{Change, Row};
use crate::dispatch::{Args, Context, Handler};
use radon_api::{ApiError, Result, Value};
use radon_network::{NetworkName, Networks};

pub(super) const HANDLERS: &[(&str, Handler)] = &[("network.create", create), ("network.destroy", destroy)];

/// Linux's limit for names of interfaces, without the zero at the end.
const MOST_NAME: usize = 15;

fn create(context: &Context, args: &Args) -> Result<Value> {
    let mut row = Change::construct("network", args.value("args")?)?;
    let made = context.app.database.change(|c| {
        let mut taken = Vec::new();
        for other in c.all("network")? {
            taken.push(c.text("network", &other, "bridge")?.to_owned());
        }
        let bridge = match text(&row, "bridge") {
            "" => (0..).map(|n| format!("radonbr{n}")).find(|name| !taken.contains(name)).unwrap_or_default(),
            name if taken.iter().any(|t| t == name) => return Err(ApiError::bridge_exists(name)),
            name => name.to_owned(),
        };
        let fits = |ch: char| ch.is_ascii_alphanumeric() || "-_.".contains(ch);
        if bridge.len() > MOST_NAME || !bridge.chars().all(fits) {
            return Err(ApiError::invalid_value("bridge", bridge));
        }
        row.insert("bridge".into(), Value::from(bridge));
        if truth(&row, "managed") {
            network_settings::network(&row)?;
        }
        c.insert("network", row)
    })?;
    let row = context.app.database.state().object("network", &made)?.row.clone();
    if truth(&row, "managed")
        && let Err(error) = declare(&context.app, &row)
    {
        context.app.database.change(|c| c.remove("network", &made))?;
        // What of it is declared, though it could not be made, goes at the latest when the daemon starts again.
        let _ = withdraw(&context.app, &row);
        return Err(error);
    }
    Ok(Value::from(made))
}

fn refused(error: radon_network::Error) -> ApiError {
    match error {
        radon_network::Error::Invalid(why) => ApiError::operation_not_allowed(why),
        other => ApiError::internal(other),
    }
}

pub(super) fn may_set(c: &Change<'_>, reference: &str, field: &str, value: &Value) -> Result<()> {
    let mut row = c.row("network", reference)?.clone();
    row.insert(field.to_owned(), value.clone());
    if field == "other_config" && truth(&row, "managed") {
        network_settings::network(&row).map(drop)
    } else {
        Ok(())
    }
}

/// A field has another value: the bridge and what is connected to it become so. If they cannot, it was not set.
pub(super) fn was_set(context: &Context, reference: &str, field: &str, old: Value) -> Result<()> {
    // The guests' domain is named for the network, unless it says another.
    if !matches!(field, "other_config" | "MTU" | "name_label") {
        return Ok(());
    }
    let row = context.app.database.state().object("network", reference)?.row.clone();
    if !truth(&row, "managed") {
        return Ok(());
    }
    let declared = declare(&context.app, &row);
    if declared.is_err() {
        context.app.database.change(|c| c.set("network", reference, field, old))?;
        let row = context.app.database.state().object("network", reference)?.row.clone();
        declare(&context.app, &row)?;
    }
    declared
}

/// The network's number without dashes: the longest name that there may be.
pub(super) fn name(row: &Row) -> Result<NetworkName> {
    text(row, "uuid").replace('-', "").parse().map_err(ApiError::internal)
}

/// Has the bridge of a managed network.
fn declare(app: &App, row: &Row) -> Result<()> {
    let network = network_settings::network(row)?;
    let networks = Networks::open(&app.places.networks).map_err(ApiError::internal)?;
    networks.declare_network(&name(row)?, network).map_err(refused)
}

/// Takes it away.
fn withdraw(app: &App, row: &Row) -> Result<()> {
    let networks = Networks::open(&app.places.networks).map_err(ApiError::internal)?;
    networks.remove_network(&name(row)?).map_err(ApiError::internal)
}

/// At the start of the daemon: bridges are those of the managed networks.
pub fn settle(app: &App) {
    if let Err(error) = settle_all(app) {
        eprintln!("radond: networks: {error}");
    }
}

fn settle_all(app: &App) -> Result<()> {
    let rows: Vec<Row> = {
        let state = app.database.state();
        let managed = state.objects("network").filter(|(_, o)| truth(&o.row, "managed"));
        managed.map(|(_, o)| o.row.clone()).collect()
    };
    let networks = Networks::open(&app.places.networks).map_err(ApiError::internal)?;
    let declared = networks.declared().map_err(ApiError::internal)?;
    for row in &rows {
        let wanted = network_settings::network(row)?;
        if declared.networks.get(&name(row)?) != Some(&wanted) {
            declare(app, row)?;
        }
    }
    for known in declared.networks.keys() {
        // Those with other names are the operator's own.
        let known_as = known.to_string();
        let ours = known_as.len() == 32 && known_as.bytes().all(|b| b.is_ascii_hexdigit());
        if ours && !rows.iter().any(|row| name(row).is_ok_and(|n| n == *known)) {
            networks.remove_network(known).map_err(ApiError::internal)?;
        }
    }
    // What is declared need not be in the kernel: the host was started anew, or who declared it was killed before it came to that.
    networks.reconcile().map(drop).map_err(ApiError::internal)
}

fn destroy(context: &Context, args: &Args) -> Result<Value> {
    let reference = args.text("self")?;
    let row = context.app.database.change(|c| {
        let vifs = c.referring(reference, "VIF", "network")?;
        if !vifs.is_empty() {
            return Err(ApiError::network_contains_vif(vifs.join(",")));
        }
        let pifs = c.referring(reference, "PIF", "network")?;
        if !pifs.is_empty() {
            return Err(ApiError::network_contains_pif(pifs.join(",")));
        }
        let row = c.row("network", reference)?.clone();
        c.remove("network", reference)?;
        Ok(row)
    })?;
    if truth(&row, "managed") {
        withdraw(&context.app, &row)?;
    }
    done()
}
