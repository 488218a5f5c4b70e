//! VMs that start with the host: those whose `other_config:auto_poweron` is `true`, as XenServer has it.
//!
//! Once in each life of the machine: `booted` in the daemon's folder is the life (Linux's `boot_id`) for which it was done. It is
//! written when all have been tried, so a daemon that is killed meanwhile goes on with those that are still halted; one that is
//! started again later leaves VMs alone that somebody has stopped.

use crate::app::App;
use crate::database::{Row, State};
use crate::dispatch;
use crate::messages::{message, truth};
use radon_api::{ApiError, Result, Value};
use std::path::Path;
use std::sync::Arc;

/// The key in a VM's `other_config`; in the pool's, `false` there is nobody's.
pub const KEY: &str = "auto_poweron";

/// The file's name.
const NOTE: &str = "booted";

/// Starts them in a thread, one by one, if that has not been done since the machine was started.
pub fn begin(app: &Arc<App>) -> Result<()> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(ApiError::internal)?;
    if done(&app.places.state, &boot) {
        return Ok(());
    }
    let app = app.clone();
    let body = move || run(&app, &boot);
    std::thread::Builder::new().name("autostart".into()).spawn(body).map_err(ApiError::internal)?;
    Ok(())
}

/// Was everything tried in this life of the machine?
pub fn done(folder: &Path, boot: &str) -> bool {
    std::fs::read_to_string(folder.join(NOTE)).is_ok_and(|done| done == boot)
}

/// Starts all that are to start, and notes that.
pub fn run(app: &Arc<App>, boot: &str) {
    let wanted = wanted(&app.database.state());
    for (vm, name) in wanted {
        let params = vec![Value::from(vm.as_str()), Value::from(false), Value::from(false)];
        match dispatch::own(app, "VM.start", params) {
            Ok(_) => println!("{name} started with the host"),
            Err(error) => {
                eprintln!("radond: {name} does not start with the host: {error}");
                let body = format!("{name} does not start with the host: {error}");
                if let Err(error) = message::tell(app, "VM_AUTO_START_FAILED", &vm, &body) {
                    eprintln!("radond: {error}");
                }
            }
        }
    }
    let path = app.places.state.join(NOTE);
    // Not synced: what a power cut takes is of a life that is over.
    if let Err(error) = std::fs::write(&path, boot) {
        eprintln!("radond: {}: {error}", path.display());
    }
}

/// References and names of the VMs that are to start, by name.
pub fn wanted(state: &State) -> Vec<(String, String)> {
    let says = |row: &Row, word: &str| {
        row.get("other_config").and_then(|c| c.get(KEY)).and_then(Value::text) == Some(word)
    };
    if state.objects("pool").any(|(_, pool)| says(&pool.row, "false")) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (reference, vm) in state.objects("VM") {
        let special = ["is_a_template", "is_a_snapshot", "is_control_domain"];
        let halted = vm.row.get("power_state").and_then(Value::text) == Some("Halted");
        if halted && says(&vm.row, "true") && !special.iter().any(|field| truth(&vm.row, field)) {
            let name = vm.row.get("name_label").and_then(Value::text).unwrap_or_default();
            found.push((reference.clone(), name.to_owned()));
        }
    }
    found.sort_by(|a, b| a.1.cmp(&b.1));
    found
}
