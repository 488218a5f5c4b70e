//! `VM`: what they are. What they do is in [`super::vm_power`], copies of them in [`super::vm_copy`].

use super::{done, int, text, truth};
use crate::app::fields;
use crate::database::{Change, Row};
use crate::dispatch::{Args, Context, Handler};
use radon_api::{ApiError, NULL, Result, Role, Time, Value};
use radon_domain::uuid::Uuid;

pub use super::vm_sync::follow;

/// dom0's number.
const NIL: &str = "00000000-0000-0000-0000-000000000000";

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("VM.create", create),
    ("VM.destroy", destroy),
    ("VM.provision", provision),
    ("VM.set_memory_static_range", set_static_range),
    ("VM.set_memory_limits", set_limits),
    ("VM.get_allowed_VBD_devices", free_vbds),
    ("VM.get_allowed_VIF_devices", free_vifs),
    ("VM.get_possible_hosts", possible_hosts),
    ("VM.assert_operation_valid", assert_operation),
    ("VM.assert_can_boot_here", assert_can_boot),
    ("VM.update_allowed_operations", update_allowed),
];

/// What can be done with a VM in its state.
pub(super) fn allowed(row: &Row) -> Vec<&'static str> {
    if truth(row, "is_control_domain") {
        return Vec::new();
    }
    if truth(row, "is_a_snapshot") {
        return vec!["revert", "clone", "copy", "destroy"];
    }
    let mut words = match text(row, "power_state") {
        "Halted" if truth(row, "is_a_template") => vec!["clone", "copy", "provision", "destroy"],
        "Halted" => vec![
            "start",
            "start_on",
            "clone",
            "copy",
            "destroy",
            "make_into_template",
            "changing_memory_limits",
            "changing_static_range",
            "changing_dynamic_range",
            "changing_VCPUs",
        ],
        "Running" => vec![
            "pause",
            "clean_shutdown",
            "clean_reboot",
            "hard_shutdown",
            "hard_reboot",
            "suspend",
            "shutdown",
            "changing_dynamic_range",
            "changing_VCPUs_live",
        ],
        "Paused" => vec!["unpause", "hard_shutdown", "hard_reboot"],
        "Suspended" => vec!["resume", "resume_on", "hard_shutdown"],
        _ => Vec::new(),
    };
    words.extend(["snapshot", "power_state_reset"]);
    let blocked = row.get("blocked_operations");
    words.retain(|w| blocked.is_none_or(|b| b.get(w).is_none()));
    words
}

/// An error if an operation is not possible now; says which of several reasons it is.
pub(super) fn assert_possible(c: &Change<'_>, vm: &str, operation: &str, states: &[&str]) -> Result<()> {
    let row = c.row("VM", vm)?;
    if truth(row, "is_control_domain") {
        return Err(ApiError::operation_not_allowed("this is the host's own domain"));
    }
    if let Some(why) = row.get("blocked_operations").and_then(|b| b.get(operation)) {
        return Err(ApiError::operation_blocked(vm, why.plain()));
    }
    let state = text(row, "power_state");
    if !states.contains(&state) {
        return Err(ApiError::bad_power_state(vm, states.join(", ").to_lowercase(), state.to_lowercase()));
    }
    if truth(row, "is_a_snapshot") && !matches!(operation, "destroy" | "clone" | "copy" | "revert") {
        return Err(ApiError::vm_is_snapshot(vm));
    }
    if truth(row, "is_a_template") && matches!(operation, "start" | "start_on") {
        return Err(ApiError::vm_is_template(vm));
    }
    Ok(())
}

/// Limits of memory in their order; a domain's lower bound is what Linux needs to say anything.
fn check_memory(row: &Row) -> Result<()> {
    let get = |name: &str| int(row, &format!("memory_{name}"));
    let limits = [get("static_min"), get("dynamic_min"), get("dynamic_max"), get("static_max")];
    if limits[0] < 0 || !limits.is_sorted() {
        return Err(ApiError::memory_constraint("static_min <= dynamic_min <= dynamic_max <= static_max"));
    }
    Ok(())
}

/// The most vCPUs of a domain.
const MOST_VCPUS: i64 = radon_domain::acpi::MOST_VCPUS as i64;

fn check_vcpus(row: &Row) -> Result<()> {
    let (most, start) = (int(row, "VCPUs_max"), int(row, "VCPUs_at_startup"));
    if !(1..=MOST_VCPUS).contains(&most) {
        return Err(ApiError::invalid_value("VCPUs_max", most));
    }
    if !(1..=most).contains(&start) {
        return Err(ApiError::invalid_value("VCPUs_at_startup", start));
    }
    Ok(())
}

fn create(context: &Context, args: &Args) -> Result<Value> {
    let record = args.value("args")?;
    let row = Change::construct("VM", record)?;
    // It may be the number of a domain that another toolstack made, or dom0's: whose console it would be, and what
    // `VM.hard_shutdown` would end. Only who has the host anyway chooses.
    let chooses = context.role >= Role::PoolOperator;
    let wanted = record.get("uuid").and_then(Value::text).and_then(|t| t.parse::<Uuid>().ok());
    let wanted = wanted.filter(|uuid| chooses && uuid.to_string() != NIL);
    let made = context.app.database.change(|c| {
        let mut row = row.clone();
        // A number that nobody has is kept; a record that was copied from another VM gets one of its own.
        if let Some(uuid) = wanted.map(|u| u.to_string()).filter(|u| c.before().by_uuid("VM", u).is_none()) {
            row.insert("uuid".into(), Value::from(uuid));
        }
        insert(c, row)
    })?;
    Ok(Value::from(made))
}

/// A new VM with its metrics; what makes no sense in the row is refused.
pub(super) fn insert(c: &mut Change<'_>, mut row: Row) -> Result<String> {
    let metrics = c.insert("VM_metrics", fields([("install_time", Value::Time(Time::now()))]))?;
    row.insert("metrics".into(), Value::from(metrics));
    let vm = c.insert("VM", row)?;
    let row = c.row("VM", &vm)?;
    check_memory(row)?;
    check_vcpus(row)?;
    if !matches!(text(row, "domain_type"), "pvh" | "unspecified") {
        return Err(ApiError::not_supported("domain_type", text(row, "domain_type"), "guests are PVH"));
    }
    let affinity = text(row, "affinity").to_owned();
    if affinity != NULL {
        c.row("host", &affinity)?;
    }
    Ok(vm)
}

pub(super) fn may_set(c: &mut Change<'_>, vm: &str, field: &str, value: &Value) -> Result<()> {
    let mut row = c.row("VM", vm)?.clone();
    row.insert(field.to_owned(), value.clone());
    match field {
        "VCPUs_max" | "VCPUs_at_startup" => {
            assert_possible(c, vm, "changing_VCPUs", &["Halted"])?;
            check_vcpus(&row)
        }
        "is_a_template" if truth(&row, "is_a_template") => {
            assert_possible(c, vm, "make_into_template", &["Halted"])
        }
        "is_a_template" if truth(&row, "is_a_snapshot") => Err(ApiError::vm_is_snapshot(vm)),
        "domain_type" if !matches!(text(&row, field), "pvh" | "unspecified") => {
            Err(ApiError::not_supported(field, text(&row, field), "guests are PVH"))
        }
        _ => Ok(()),
    }
}

/// Removes the rows of a VM and its devices; not its disks'.
pub(super) fn remove_rows(c: &mut Change<'_>, vm: &str) -> Result<()> {
    for class in ["VBD", "VIF", "console"] {
        for device in c.referring(vm, class, "VM")? {
            c.remove(class, &device)?;
        }
    }
    for (class, field) in [("VM_metrics", "metrics"), ("VM_guest_metrics", "guest_metrics")] {
        let reference = c.text("VM", vm, field)?.to_owned();
        if reference != NULL {
            c.remove(class, &reference)?;
        }
    }
    for snapshot in c.referring(vm, "VM", "snapshot_of")? {
        c.set("VM", &snapshot, "snapshot_of", NULL)?;
    }
    c.remove("VM", vm)
}

fn destroy(context: &Context, args: &Args) -> Result<Value> {
    let vm = args.text("self")?;
    let _busy = context.app.begin("VM", vm, "destroy")?;
    let uuid = super::vm_power::uuid(&context.app, vm)?;
    context.app.database.change(|c| {
        assert_possible(c, vm, "destroy", &["Halted"])?;
        remove_rows(c, vm)
    })?;
    // Below it is known only if it was ever started; what is left there is found when the daemon starts again.
    if let Err(error) = context.app.domains.forget(uuid) {
        log_unless_nothing_below(&error);
    }
    // What its console said goes with it; without a console daemon there is nothing, or it is found by age.
    let _ = radon_console::client::request(&context.app.places.consoles, &format!("forget {uuid}"));
    done()
}

/// Without a hypervisor there is nothing to forget.
fn log_unless_nothing_below(error: &radon_domain::Error) {
    if !matches!(error, radon_domain::Error::Xen { .. }) {
        eprintln!("radond: {error}");
    }
}

fn provision(context: &Context, args: &Args) -> Result<Value> {
    let vm = args.text("vm")?;
    context.app.database.change(|c| {
        assert_possible(c, vm, "provision", &["Halted"])?;
        c.set("VM", vm, "is_a_template", false)
    })?;
    done()
}

fn limits(context: &Context, vm: &str, values: &[(&str, i64)]) -> Result<Value> {
    context.app.database.change(|c| {
        assert_possible(c, vm, "changing_memory_limits", &["Halted"])?;
        for (name, value) in values {
            c.set("VM", vm, &format!("memory_{name}"), *value)?;
        }
        check_memory(c.row("VM", vm)?)
    })?;
    done()
}

fn set_static_range(context: &Context, args: &Args) -> Result<Value> {
    let values = [("static_min", args.int("min")?), ("static_max", args.int("max")?)];
    limits(context, args.text("self")?, &values)
}

fn set_limits(context: &Context, args: &Args) -> Result<Value> {
    let names = ["static_min", "static_max", "dynamic_min", "dynamic_max"];
    let values = names.map(|n| args.int(n).map(|v| (n, v)));
    let values = values.into_iter().collect::<Result<Vec<_>>>()?;
    limits(context, args.text("self")?, &values)
}

/// Sets the dynamic limits of memory, if they keep their order.
pub(super) fn set_dynamic(c: &mut Change<'_>, vm: &str, least: i64, most: i64) -> Result<()> {
    c.set("VM", vm, "memory_dynamic_min", least)?;
    c.set("VM", vm, "memory_dynamic_max", most)?;
    check_memory(c.row("VM", vm)?)
}

/// Places that a VM's devices do not take up.
fn free(context: &Context, vm: &str, class: &str, field: &str, most: u32) -> Result<Value> {
    let state = context.app.database.state();
    state.object("VM", vm)?;
    let mut taken = Vec::new();
    for device in state.referring(vm, class, "VM") {
        taken.push(state.text(class, device, field)?.to_owned());
    }
    Ok(Value::strings((0..most).map(|n| n.to_string()).filter(|n| !taken.contains(n))))
}

fn free_vbds(context: &Context, args: &Args) -> Result<Value> {
    free(context, args.text("vm")?, "VBD", "userdevice", super::vbd::PLACES)
}

fn free_vifs(context: &Context, args: &Args) -> Result<Value> {
    free(context, args.text("vm")?, "VIF", "device", super::vif::PLACES)
}

fn possible_hosts(context: &Context, args: &Args) -> Result<Value> {
    context.app.database.state().object("VM", args.text("vm")?)?;
    Ok(Value::strings([context.app.host.as_str()]))
}

fn assert_operation(context: &Context, args: &Args) -> Result<Value> {
    let (vm, operation) = (args.text("self")?, args.text("op")?);
    if context.app.is_busy(vm) {
        return Err(ApiError::other_operation("VM", vm));
    }
    let possible = allowed(&context.app.database.state().object("VM", vm)?.row);
    if possible.contains(&operation) {
        return done();
    }
    context.app.database.change(|c| assert_possible(c, vm, operation, &["none"]))?;
    done()
}

fn assert_can_boot(context: &Context, args: &Args) -> Result<Value> {
    super::host::assert_enabled(context, args.text("host")?)?;
    super::vm_power::config(&context.app, args.text("self")?)?;
    done()
}

fn update_allowed(context: &Context, args: &Args) -> Result<Value> {
    context.app.database.state().object("VM", args.text("self")?)?;
    done()
}
