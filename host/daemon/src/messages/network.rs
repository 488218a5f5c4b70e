//! `network`: bridges.

use super::{done, text};
use crate::database::Change;
use crate::dispatch::{Args, Context, Handler};
use radon_api::{ApiError, Result, Value};

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
        c.insert("network", row)
    })?;
    Ok(Value::from(made))
}

fn destroy(context: &Context, args: &Args) -> Result<Value> {
    let reference = args.text("self")?;
    context.app.database.change(|c| {
        let vifs = c.referring(reference, "VIF", "network")?;
        if !vifs.is_empty() {
            return Err(ApiError::network_contains_vif(vifs.join(",")));
        }
        let pifs = c.referring(reference, "PIF", "network")?;
        if !pifs.is_empty() {
            return Err(ApiError::network_contains_pif(pifs.join(",")));
        }
        c.remove("network", reference)
    })?;
    done()
}
