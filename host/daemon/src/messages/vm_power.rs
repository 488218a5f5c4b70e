//! `VM`: starting, stopping, and what can be changed meanwhile.

use super::vm::assert_possible;
use super::{done, host, int, text, vm, vm_sync};
use crate::app::{App, Busy};
use crate::database::Row;
use crate::dispatch::{Args, Context, Handler};
use crate::reserve::Reservation;
use radon_api::{ApiError, NULL, Result, Value};
use radon_domain::config::{Action, Config, Framebuffer, NicId};
use radon_domain::layout::Kib;
use radon_domain::task::Control;
use radon_domain::uuid::Uuid;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("VM.start", start),
    ("VM.start_on", start),
    ("VM.pause", pause),
    ("VM.unpause", unpause),
    ("VM.clean_shutdown", clean_shutdown),
    ("VM.shutdown", shutdown),
    ("VM.suspend", suspend),
    ("VM.resume", resume),
    ("VM.resume_on", resume),
    ("VM.hard_shutdown", hard_shutdown),
    ("VM.clean_reboot", clean_reboot),
    ("VM.hard_reboot", hard_reboot),
    ("VM.power_state_reset", reset),
    ("VM.set_memory_dynamic_range", set_dynamic_range),
    ("VM.set_memory", set_memory),
    ("VM.set_VCPUs_number_live", set_vcpus),
];

/// How long a guest may take to end when it is asked to.
const LIMIT: Duration = Duration::from_secs(20 * 60);
/// The same before it is ended by force (`VM.shutdown`).
const SHORT_LIMIT: Duration = Duration::from_secs(120);

/// A VM's number, as the layer below has it.
pub(super) fn uuid(app: &App, vm: &str) -> Result<Uuid> {
    let text = app.database.state().text("VM", vm, "uuid")?.to_owned();
    text.parse().map_err(|e| ApiError::internal(format!("{text}: {e}")))
}

/// Whoever cancels the task ends the operation below.
pub(super) fn control(context: &Context) -> Control {
    let cancel = context.task.as_ref().map(|t| t.cancel.clone()).unwrap_or_default();
    let cut = context.app.cut.get().filter(|c| c.message == context.message.full_name());
    Control { cancel, kill_at_step: cut.map(|c| c.step), ..Control::default() }
}

/// What the layer of domains says, as XenAPI says it.
pub(super) fn refused(context: &Context, error: radon_domain::Error) -> ApiError {
    use radon_domain::Error;
    match error {
        Error::Cancelled(_) => ApiError::task_cancelled(context.task.as_ref().map_or(NULL, |t| &t.reference)),
        Error::State { .. } | Error::Invalid(_) => ApiError::operation_not_allowed(error),
        Error::Network(why) if matches!(*why, radon_network::Error::Invalid(_)) => {
            ApiError::operation_not_allowed(why)
        }
        other => ApiError::internal(other),
    }
}

/// A kernel or RAM disk, if it lies in the folder for them.
fn boot_file(app: &App, field: &str, name: &str) -> Result<PathBuf> {
    let folder = &app.places.kernels;
    let wrong = |why: String| ApiError::not_supported(field, name, why);
    let path = folder.join(name).canonicalize().map_err(|e| wrong(e.to_string()))?;
    let folder = folder.canonicalize().map_err(|e| wrong(e.to_string()))?;
    if path.starts_with(&folder) && path.is_file() {
        return Ok(path);
    }
    Err(wrong(format!("it must be a file in {}", folder.display())))
}

fn kib(row: &Row, field: &str) -> Result<Kib> {
    let bytes = int(row, field);
    let kib = u64::try_from(bytes).ok().and_then(|b| Kib::new(b / 1024));
    kib.ok_or_else(|| ApiError::not_supported(field, bytes, "no guest can have that much, or that little"))
}

/// The framebuffer that a VM is to have: its `platform` says `vfb`.
fn framebuffer(row: &Row) -> Result<Option<Framebuffer>> {
    let Some(Value::Map(platform)) = row.get("platform") else { return Ok(None) };
    match platform.get("vfb").and_then(Value::text) {
        None | Some("" | "0" | "false") => Ok(None),
        Some("1" | "true") => Ok(Some(Framebuffer::default())),
        Some(size) => size.parse().map(Some).map_err(|e| ApiError::not_supported("platform", size, e)),
    }
}

/// What a VM is to be, as the layer of domains takes it. Its name there is its number, because names need not be unique here.
///
/// Its volumes are reserved for as long as the second value is there.
pub(super) fn config(app: &Arc<App>, vm: &str) -> Result<(Config, Reservation)> {
    let row = app.database.state().object("VM", vm)?.row.clone();
    if text(&row, "PV_kernel").is_empty() {
        return Err(ApiError::not_supported("PV_kernel", "", "a guest needs a kernel"));
    }
    let mut config = Config::new(text(&row, "uuid"), boot_file(app, "PV_kernel", text(&row, "PV_kernel"))?);
    if !text(&row, "PV_ramdisk").is_empty() {
        config.initrd = Some(boot_file(app, "PV_ramdisk", text(&row, "PV_ramdisk"))?);
    }
    config.command_line = text(&row, "PV_args").to_owned();
    config.memory_max = kib(&row, "memory_static_max")?;
    config.memory = kib(&row, "memory_dynamic_max")?;
    config.vcpus_max = u32::try_from(int(&row, "VCPUs_max")).unwrap_or(0);
    config.vcpus = u32::try_from(int(&row, "VCPUs_at_startup")).unwrap_or(0);
    config.framebuffer = framebuffer(&row)?;
    let action = |field: &str| match text(&row, field) {
        "restart" | "coredump_and_restart" | "rename_restart" => Action::Restart,
        "preserve" => Action::Preserve,
        _ => Action::Destroy,
    };
    config.on_poweroff = action("actions_after_shutdown");
    config.on_reboot = action("actions_after_reboot");
    config.on_crash = action("actions_after_crash");
    let (vbds, vifs): (Vec<String>, Vec<String>) = {
        let state = app.database.state();
        (
            state.referring(vm, "VBD", "VM").cloned().collect(),
            state.referring(vm, "VIF", "VM").cloned().collect(),
        )
    };
    let mut held = Reservation::new(app);
    for vbd in vbds {
        super::vbd::reserve(app, &vbd, &mut held)?;
        let (id, disk) = super::vbd::disk(app, &vbd)?;
        config.disks.insert(id, disk);
    }
    for vif in vifs {
        let (id, nic) = super::vif::nic(app, &vif)?;
        config.nics.insert(id, nic);
    }
    config.check().map_err(ApiError::operation_not_allowed)?;
    Ok((config, held))
}

/// Begins an operation that needs the VM in one of these states.
fn begin(context: &Context, vm: &str, operation: &'static str, states: &[&str]) -> Result<Busy> {
    let busy = context.app.begin("VM", vm, operation)?;
    context.app.database.change(|c| assert_possible(c, vm, operation, states))?;
    Ok(busy)
}

/// Ends an operation: the rows say what is below, however it ended.
fn end(context: &Context, result: radon_domain::Result<()>) -> Result<Value> {
    let result = result.map_err(|e| refused(context, e));
    vm_sync::sync(&context.app);
    result.and_then(|()| done())
}

fn start(context: &Context, args: &Args) -> Result<Value> {
    let vm = args.text("vm")?;
    let host = args.text("host").unwrap_or(&context.app.host);
    let _busy = begin(context, vm, "start", &["Halted"])?;
    host::assert_enabled(context, host)?;
    let (config, _held) = config(&context.app, vm)?;
    let uuid = uuid(&context.app, vm)?;
    end(context, context.app.domains.start(uuid, config, args.truth("start_paused")?, &control(context)))
}

fn pause(context: &Context, args: &Args) -> Result<Value> {
    let vm = args.text("vm")?;
    let _busy = begin(context, vm, "pause", &["Running"])?;
    end(context, context.app.domains.pause(uuid(&context.app, vm)?, &control(context)))
}

fn unpause(context: &Context, args: &Args) -> Result<Value> {
    let vm = args.text("vm")?;
    let _busy = begin(context, vm, "unpause", &["Paused"])?;
    end(context, context.app.domains.unpause(uuid(&context.app, vm)?, &control(context)))
}

fn clean_shutdown(context: &Context, args: &Args) -> Result<Value> {
    let vm = args.text("vm")?;
    let _busy = begin(context, vm, "clean_shutdown", &["Running"])?;
    end(context, context.app.domains.shutdown(uuid(&context.app, vm)?, LIMIT, &control(context)))
}

fn shutdown(context: &Context, args: &Args) -> Result<Value> {
    let vm = args.text("vm")?;
    let _busy = begin(context, vm, "shutdown", &["Running", "Paused"])?;
    let (uuid, control) = (uuid(&context.app, vm)?, control(context));
    let running = context.app.database.state().text("VM", vm, "power_state")? == "Running";
    let asked =
        if running { context.app.domains.shutdown(uuid, SHORT_LIMIT, &control).is_ok() } else { false };
    end(context, if asked { Ok(()) } else { context.app.domains.destroy(uuid, &control) })
}

fn suspend(context: &Context, args: &Args) -> Result<Value> {
    let vm = args.text("vm")?;
    let _busy = begin(context, vm, "suspend", &["Running"])?;
    end(context, context.app.domains.suspend(uuid(&context.app, vm)?, LIMIT, &control(context)))
}

fn resume(context: &Context, args: &Args) -> Result<Value> {
    let vm = args.text("vm")?;
    let host = args.text("host").unwrap_or(&context.app.host);
    let _busy = begin(context, vm, "resume", &["Suspended"])?;
    host::assert_enabled(context, host)?;
    let paused = args.truth("start_paused")?;
    end(context, context.app.domains.resume(uuid(&context.app, vm)?, paused, &control(context)))
}

fn hard_shutdown(context: &Context, args: &Args) -> Result<Value> {
    let vm = args.text("vm")?;
    let _busy = begin(context, vm, "hard_shutdown", &["Running", "Paused", "Suspended"])?;
    end(context, context.app.domains.destroy(uuid(&context.app, vm)?, &control(context)))
}

fn clean_reboot(context: &Context, args: &Args) -> Result<Value> {
    let vm = args.text("vm")?;
    let _busy = begin(context, vm, "clean_reboot", &["Running"])?;
    end(context, context.app.domains.reboot(uuid(&context.app, vm)?, LIMIT, &control(context)))
}

fn hard_reboot(context: &Context, args: &Args) -> Result<Value> {
    let vm = args.text("vm")?;
    let _busy = begin(context, vm, "hard_reboot", &["Running", "Paused"])?;
    let (uuid, control) = (uuid(&context.app, vm)?, control(context));
    let domains = &context.app.domains;
    let ended = domains.destroy(uuid, &control);
    vm_sync::sync(&context.app);
    ended.map_err(|e| refused(context, e))?;
    // Built anew from what the VM is now, as a start does.
    let (config, _held) = config(&context.app, vm)?;
    end(context, domains.start(uuid, config, false, &control))
}

fn reset(context: &Context, args: &Args) -> Result<Value> {
    let vm = args.text("vm")?;
    let _busy = begin(context, vm, "power_state_reset", &["Running", "Paused", "Suspended", "Halted"])?;
    if context.app.database.state().text("VM", vm, "power_state")? == "Halted" {
        return done();
    }
    end(context, context.app.domains.destroy(uuid(&context.app, vm)?, &control(context)))
}

fn dynamic(context: &Context, vm: &str, least: i64, most: i64) -> Result<Value> {
    let _busy = begin(context, vm, "changing_dynamic_range", &["Halted", "Running"])?;
    let running = context.app.database.change(|c| {
        vm::set_dynamic(c, vm, least, most)?;
        Ok(c.text("VM", vm, "power_state")? == "Running")
    })?;
    if !running {
        return done();
    }
    let memory = kib(&context.app.database.state().object("VM", vm)?.row.clone(), "memory_dynamic_max")?;
    end(context, context.app.domains.set_memory(uuid(&context.app, vm)?, memory, &control(context)))
}

fn set_dynamic_range(context: &Context, args: &Args) -> Result<Value> {
    dynamic(context, args.text("self")?, args.int("min")?, args.int("max")?)
}

fn set_memory(context: &Context, args: &Args) -> Result<Value> {
    let (vm, value) = (args.text("self")?, args.int("value")?);
    let halted = context.app.database.state().text("VM", vm, "power_state")? == "Halted";
    if halted {
        context.app.database.change(|c| {
            assert_possible(c, vm, "changing_memory_limits", &["Halted"])?;
            c.set("VM", vm, "memory_static_max", value)?;
            vm::set_dynamic(c, vm, value, value)
        })?;
        return done();
    }
    dynamic(context, vm, value, value)
}

fn set_vcpus(context: &Context, args: &Args) -> Result<Value> {
    let (vm, count) = (args.text("self")?, args.int("nvcpu")?);
    let _busy = begin(context, vm, "changing_VCPUs_live", &["Running"])?;
    let most = int(&context.app.database.state().object("VM", vm)?.row, "VCPUs_max");
    let wanted = u32::try_from(count).ok().filter(|_| (1..=most).contains(&count));
    let wanted = wanted.ok_or_else(|| ApiError::invalid_value("nvcpu", count))?;
    let set = context.app.domains.set_vcpus(uuid(&context.app, vm)?, wanted, &control(context));
    if set.is_ok() {
        context.app.database.change(|c| c.set("VM", vm, "VCPUs_at_startup", count))?;
    }
    end(context, set)
}

/// The interface at a place.
pub(super) fn nic_id(device: &str) -> Result<NicId> {
    device.parse().map(NicId).map_err(|_| ApiError::invalid_device(device))
}
