//! `radon network`.

use super::{list, made};
use crate::arguments::{Network, NewNetwork};
use crate::client::Client;
use crate::show::{Column, table, text};
use crate::{Done, names};
use serde_json::{Map, Value, json};

pub fn run(client: &Client, json: bool, command: &Network) -> Done {
    match command {
        Network::List => {
            let columns: &[Column<'_>] = &[
                ("NAME", &|r| text(r, "name_label")),
                ("BRIDGE", &|r| text(r, "bridge")),
                ("SUBNET", &|r| r["other_config"]["radon:subnet"].as_str().unwrap_or("-").to_owned()),
                ("INTERFACES", &|r| r["VIFs"].as_array().map_or(0, Vec::len).to_string()),
                ("UUID", &|r| text(r, "uuid")),
            ];
            table(json, list(client, "network")?, columns)
        }
        Network::Create(new) => {
            let record = json!({
                "name_label": new.name, "bridge": new.bridge, "managed": !new.unmanaged, "other_config": config(new),
            });
            made(client, json, "network", &client.text("network.create", &[record])?)
        }
        Network::Delete { network } => {
            let network = names::find(client, "network", network, |_| true)?;
            client.call("network.destroy", &[json!(network)]).map(drop)
        }
    }
}

/// What XenAPI has no fields for.
fn config(new: &NewNetwork) -> Map<String, Value> {
    let many = |all: &[String]| (!all.is_empty()).then(|| all.join(","));
    let settings = [
        ("subnet", new.subnet.clone()),
        ("host", new.host_address.clone()),
        ("range", new.range.clone()),
        ("outside", new.outside.clone()),
        ("domain", new.domain.clone()),
        ("forwarders", many(&new.forwarder)),
        ("uplink", new.uplink.clone()),
        ("vlan", new.vlan.map(|n| n.to_string())),
        ("vni", new.vni.map(|n| n.to_string())),
        ("local", new.local.clone()),
        ("peers", many(&new.peer)),
    ];
    let given = settings.into_iter().filter_map(|(key, value)| Some((format!("radon:{key}"), json!(value?))));
    given.collect()
}
