//! What is printed.

use radon_domain::error::{Error, Result};
use radon_domain::machine::Power;
use radon_domain::manager::Manager;
use radon_domain::record::Outcome;
use serde::Serialize;

fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::Record(e.to_string()))?;
    println!("{text}");
    Ok(())
}

/// A line for each VM.
pub fn list(vms: &Manager, as_json: bool) -> Result<()> {
    let mut all = vms.record().vms()?;
    all.sort_by(|a, b| a.config.name.cmp(&b.config.name));
    if as_json {
        return json(&all);
    }
    println!("{:<24} {:<36} {:>5} {:>9} {:>5}  State", "Name", "UUID", "ID", "MiB", "vCPUs");
    for vm in all {
        let id = vm.domid.map_or_else(|| "-".to_owned(), |d| d.to_string());
        let memory = vm.config.memory.get() / 1024;
        println!(
            "{:<24} {:<36} {id:>5} {memory:>9} {:>5}  {}",
            vm.config.name, vm.uuid, vm.config.vcpus, vm.power
        );
    }
    Ok(())
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    vm: radon_domain::record::Vm,
    metrics: Option<radon_domain::guest::Metrics>,
}

/// One VM, with what it uses if it runs.
pub fn vm(vms: &Manager, name: &str) -> Result<()> {
    let vm = vms.record().find(name)?;
    let metrics = (vm.power != Power::Halted).then(|| vms.metrics(name)).transpose()?;
    json(&Shown { vm, metrics })
}

/// A line for each task.
pub fn tasks(vms: &Manager, as_json: bool) -> Result<()> {
    let all = vms.record().tasks()?;
    if as_json {
        return json(&all);
    }
    for task in all {
        let outcome = match &task.outcome {
            Outcome::Running => format!("at step {}, {}", task.steps, task.step),
            Outcome::Done => "done".to_owned(),
            Outcome::Repaired => format!("cut short, repaired; last step {}", task.step),
            Outcome::Failed(why) => format!("failed at {}: {why}", task.step),
        };
        println!("{:>5} {} {:<12} {outcome}", task.id, task.vm, task.operation);
    }
    Ok(())
}
