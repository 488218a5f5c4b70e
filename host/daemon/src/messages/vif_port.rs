//! `VIF`: what an interface is on a network that the host manages: addresses, what it may send, how fast, what cloud-init is told.

use super::{network, network_settings, text, truth};
use crate::app::App;
use crate::database::{Row, State};
use radon_api::{ApiError, Result, Value};
use radon_domain::port::Port;
use radon_network::{Guard, HostName, Metadata, Rate, Rates};
use std::collections::BTreeSet;
use std::str::FromStr;

/// The fields that change a port, also of a running guest.
pub(super) const FIELDS: [&str; 5] =
    ["locking_mode", "ipv4_allowed", "ipv6_allowed", "qos_algorithm_type", "qos_algorithm_params"];

/// A value of a VM's `other_config`; `radon:` is in front of its key.
fn told(vm: &Row, key: &str) -> String {
    let value = vm.get("other_config").and_then(|c| c.get(&format!("radon:{key}")));
    value.and_then(Value::text).unwrap_or_default().to_owned()
}

fn addresses<T: FromStr + Ord>(vif: &Row, field: &str) -> Result<BTreeSet<T>> {
    let all = vif.get(field).map(Value::items).unwrap_or_default();
    let one = |v: &Value| v.plain().trim().parse().map_err(|_| ApiError::invalid_value(field, v.plain()));
    all.iter().map(one).collect()
}

/// XenAPI's `kbps` are kibibytes per second.
fn rate(vif: &Row, key: &str) -> Result<Option<Rate>> {
    let Some(text) = vif.get("qos_algorithm_params").and_then(|p| p.get(key)).map(Value::plain) else {
        return Ok(None);
    };
    let bits = text.parse::<u64>().ok().and_then(|k| k.checked_mul(8 << 10));
    let bits = bits.ok_or_else(|| ApiError::invalid_value(format!("qos_algorithm_params:{key}"), &text))?;
    Rate::new(bits)
        .map(Some)
        .map_err(|e| ApiError::not_supported(format!("qos_algorithm_params:{key}"), text, e))
}

fn rates(vif: &Row) -> Result<Rates> {
    match text(vif, "qos_algorithm_type") {
        "" => Ok(Rates::default()),
        "ratelimit" => Ok(Rates { from_guest: rate(vif, "kbps")?, to_guest: rate(vif, "kbps_to_guest")? }),
        other => Err(ApiError::not_supported("qos_algorithm_type", other, "there is ratelimit")),
    }
}

/// Whether the host gives the addresses: then it knows what a guest may send from.
fn guard(vif: &Row, network: &Row, has_subnet: bool) -> Guard {
    match (text(vif, "locking_mode"), text(network, "default_locking_mode")) {
        ("locked", _) => Guard::Locked,
        ("unlocked", _) => Guard::Unlocked,
        ("disabled", _) | (_, "disabled") => Guard::Disabled,
        _ if has_subnet => Guard::Locked,
        _ => Guard::Unlocked,
    }
}

/// The VM's name, unless another VM of that network has it too, or this VM's earlier interface there.
fn host_name(state: &State, vif: &Row, vm: &Row) -> Result<Option<HostName>> {
    let Some(label) = network_settings::label(text(vm, "name_label")) else { return Ok(None) };
    let mut shared = false;
    for other in state.referring(text(vif, "network"), "VIF", "network") {
        let other = &state.object("VIF", other)?.row;
        if text(other, "VM") == text(vif, "VM") {
            if text(other, "device") < text(vif, "device") {
                return Ok(None);
            }
            continue;
        }
        let owner = &state.object("VM", text(other, "VM"))?.row;
        let real = !truth(owner, "is_a_template") && !truth(owner, "is_a_snapshot");
        shared |= real && network_settings::label(text(owner, "name_label")).as_ref() == Some(&label);
    }
    let number = text(vm, "uuid").get(..8).unwrap_or_default();
    let name = if shared { format!("{label}-{number}") } else { label };
    name.parse().map(Some).map_err(ApiError::internal)
}

/// The port of an interface; none on a network that is not the host's.
pub(super) fn port(app: &App, vif: &Row) -> Result<Option<Port>> {
    let state = app.database.state();
    let network = &state.object("network", text(vif, "network"))?.row;
    if !truth(network, "managed") {
        return Ok(None);
    }
    let vm = &state.object("VM", text(vif, "VM"))?.row;
    let has_subnet = network_settings::network(network)?.subnet.is_some();
    let metadata = Metadata {
        instance_id: text(vm, "uuid").to_owned(),
        public_keys: told(vm, "public-keys").lines().map(str::to_owned).filter(|l| !l.is_empty()).collect(),
        user_data: told(vm, "user-data"),
        vendor_data: told(vm, "vendor-data"),
        network_config: told(vm, "network-config"),
    };
    Ok(Some(Port {
        network: network::name(network)?,
        ipv4: addresses(vif, "ipv4_allowed")?,
        ipv6: addresses(vif, "ipv6_allowed")?,
        guard: guard(vif, network, has_subnet),
        rates: rates(vif)?,
        host_name: host_name(&state, vif, vm)?,
        metadata: has_subnet.then_some(metadata),
    }))
}

/// An error if a value for one of the fields makes no sense.
pub(super) fn check(vif: &Row) -> Result<()> {
    addresses::<std::net::Ipv4Addr>(vif, "ipv4_allowed")?;
    addresses::<std::net::Ipv6Addr>(vif, "ipv6_allowed")?;
    rates(vif).map(drop)
}
