//! `host`, `pool` and what belongs to them: found out when the daemon starts.

use super::{done, text};
use crate::app::fields;
use crate::database::{Change, Database, Row};
use crate::dispatch::{Args, Context, Handler};
use radon_api::{ApiError, NULL, Result, Time, Value, model};
use std::collections::BTreeMap;
use std::fs;

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("host.enable", enable),
    ("host.disable", disable),
    ("host.get_servertime", time),
    ("host.get_server_localtime", time),
    ("host.compute_free_memory", free_memory),
    ("host.compute_memory_overhead", overhead),
    ("host.list_methods", methods),
    ("PIF.scan", scan),
];

fn enable(context: &Context, args: &Args) -> Result<Value> {
    context.app.database.change(|c| c.set("host", args.text("host")?, "enabled", true))?;
    done()
}

fn disable(context: &Context, args: &Args) -> Result<Value> {
    context.app.database.change(|c| c.set("host", args.text("host")?, "enabled", false))?;
    done()
}

fn known(context: &Context, args: &Args) -> Result<()> {
    context.app.database.state().object("host", args.text("host")?).map(drop)
}

fn time(context: &Context, args: &Args) -> Result<Value> {
    known(context, args)?;
    Ok(Value::Time(Time::now()))
}

fn free_memory(context: &Context, args: &Args) -> Result<Value> {
    known(context, args)?;
    context.app.domains.free_memory().map(Value::from).map_err(ApiError::internal)
}

fn overhead(context: &Context, args: &Args) -> Result<Value> {
    context.app.database.state().field("host", args.text("host")?, "memory_overhead").cloned()
}

fn methods(_: &Context, _: &Args) -> Result<Value> {
    Ok(Value::strings(model().messages().map(|m| m.full_name())))
}

fn scan(context: &Context, args: &Args) -> Result<Value> {
    let host = args.text("host")?;
    known(context, args)?;
    context.app.database.change(|c| interfaces(c, host))?;
    done()
}

/// Makes the objects of this host as they are now; the host's reference.
pub fn discover(database: &Database) -> Result<String> {
    database.change(|c| {
        let host = match c.all("host")?.into_iter().next() {
            Some(host) => host,
            None => first(c)?,
        };
        let metrics = c.text("host", &host, "metrics")?.to_owned();
        c.set("host_metrics", &metrics, "memory_total", memory_total())?;
        c.set("host_metrics", &metrics, "last_updated", Time::now())?;
        let name = rustix::system::uname();
        let release = name.release().to_string_lossy().into_owned();
        let versions = [
            ("product_brand", "Radon"),
            ("product_version", env!("CARGO_PKG_VERSION")),
            ("linux", release.as_str()),
            ("xapi", "2.21"),
        ];
        c.set("host", &host, "software_version", Value::pairs(versions))?;
        c.set("host", &host, "hostname", name.nodename().to_string_lossy().into_owned())?;
        processors(c, &host)?;
        interfaces(c, &host)?;
        Ok(host)
    })
}

/// The host, its pool and its dom0, for the first time.
fn first(c: &mut Change<'_>) -> Result<String> {
    let metrics = c.insert("host_metrics", Row::new())?;
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host = c.insert(
        "host",
        fields([
            ("name_label", Value::from(name.as_str())),
            ("metrics", Value::from(metrics)),
            ("capabilities", Value::strings(["hvm-3.0-x86_64"])),
        ]),
    )?;
    let control = c.insert(
        "VM",
        fields([
            ("name_label", Value::from(format!("Control domain on host: {name}"))),
            ("is_control_domain", Value::Bool(true)),
            ("power_state", Value::from("Running")),
            ("domid", Value::Int(0)),
            ("resident_on", Value::from(host.as_str())),
        ]),
    )?;
    c.set("host", &host, "control_domain", control)?;
    c.insert("pool", fields([("master", Value::from(host.as_str())), ("default_SR", Value::from(NULL))]))?;
    Ok(host)
}

/// Bytes of memory that Linux here has.
fn memory_total() -> i64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let kib = line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse::<i64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

fn processors(c: &mut Change<'_>, host: &str) -> Result<()> {
    for old in c.all("host_cpu")? {
        c.remove("host_cpu", &old)?;
    }
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut count = 0i64;
    let mut last = BTreeMap::new();
    for block in text.split("\n\n").filter(|b| !b.trim().is_empty()) {
        let pairs = block.lines().filter_map(|l| l.split_once(':'));
        let told: BTreeMap<&str, &str> = pairs.map(|(k, v)| (k.trim(), v.trim())).collect();
        let get = |name: &str| told.get(name).copied().unwrap_or_default();
        let number =
            |name: &str| Value::Int(get(name).split('.').next().unwrap_or_default().parse().unwrap_or(0));
        let row = fields([
            ("uuid", Value::from(crate::app::named_uuid("cpu", &format!("{host}/{count}")))),
            ("host", Value::from(host)),
            ("number", Value::Int(count)),
            ("vendor", Value::from(get("vendor_id"))),
            ("modelname", Value::from(get("model name"))),
            ("speed", number("cpu MHz")),
            ("family", number("cpu family")),
            ("model", number("model")),
            ("stepping", Value::from(get("stepping"))),
            ("flags", Value::from(get("flags"))),
        ]);
        count += 1;
        let sum = [("vendor", get("vendor_id")), ("modelname", get("model name")), ("flags", get("flags"))];
        last = sum.into_iter().map(|(k, v)| (k.to_owned(), Value::from(v))).collect();
        c.insert("host_cpu", row)?;
    }
    last.insert("cpu_count".into(), Value::from(count.to_string()));
    c.set("host", host, "cpu_info", Value::Map(last.clone()))?;
    for pool in c.all("pool")? {
        c.set("pool", &pool, "cpu_info", Value::Map(last.clone()))?;
    }
    Ok(())
}

/// PIFs of the devices that there are (not of bridges, and not of guests' interfaces).
fn interfaces(c: &mut Change<'_>, host: &str) -> Result<()> {
    let read = |device: &str, what: &str| {
        fs::read_to_string(format!("/sys/class/net/{device}/{what}")).unwrap_or_default().trim().to_owned()
    };
    let mut present = Vec::new();
    for entry in fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
        if entry.path().join("device").exists() {
            present.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    for pif in c.all("PIF")? {
        let device = c.text("PIF", &pif, "device")?.to_owned();
        if !present.contains(&device) {
            let metrics = c.text("PIF", &pif, "metrics")?.to_owned();
            c.remove("PIF", &pif)?;
            c.remove("PIF_metrics", &metrics)?;
        } else {
            present.retain(|p| *p != device);
            let metrics = c.text("PIF", &pif, "metrics")?.to_owned();
            c.set("PIF_metrics", &metrics, "carrier", read(&device, "carrier") == "1")?;
        }
    }
    for device in present {
        let carrier = Value::Bool(read(&device, "carrier") == "1");
        let metrics = fields([("carrier", carrier), ("last_updated", Value::Time(Time::now()))]);
        let metrics = c.insert("PIF_metrics", metrics)?;
        let network = fields([
            ("name_label", Value::from(format!("Network of {device}"))),
            ("bridge", Value::from(format!("xenbr-{device}"))),
            // Whose network card it is, is the operator's decision.
            ("managed", Value::Bool(false)),
        ]);
        let network = c.insert("network", network)?;
        let row = fields([
            ("MAC", Value::from(read(&device, "address"))),
            ("MTU", Value::Int(read(&device, "mtu").parse().unwrap_or(1500))),
            ("device", Value::from(device)),
            ("host", Value::from(host)),
            ("network", Value::from(network)),
            ("metrics", Value::from(metrics)),
        ]);
        c.insert("PIF", row)?;
    }
    Ok(())
}

/// An error if the host takes no more VMs.
pub fn assert_enabled(context: &Context, host: &str) -> Result<()> {
    let state = context.app.database.state();
    let row = &state.object("host", host)?.row;
    if super::truth(row, "enabled") { Ok(()) } else { Err(ApiError::host_disabled(text(row, "uuid"))) }
}
