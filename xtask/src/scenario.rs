//! One boot of the whole system: hypervisor, Debian's dom0, its tools; and what the serial line says about it.

use crate::packages::{Kernel, Packages};
use crate::qemu::{Boot, Hypervisor, Machine};
use crate::store::{self, Store};
use crate::{guest, image, initramfs, packages, program, qemu, setup};
use anyhow::{Result, bail};
use std::path::PathBuf;

/// Options that every command which boots a machine has.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Physical CPUs of the emulated server (dom0 gets as many vCPUs)
    #[arg(long, default_value_t = 2)]
    pub cpus: u32,
    /// Memory of the emulated server in MiB
    #[arg(long, default_value_t = 3072)]
    pub memory: u32,
    /// Memory of dom0 in MiB
    #[arg(long, default_value_t = 1024)]
    pub dom0_memory: u32,
    /// vCPUs of dom0 (as many as there are CPUs when not given)
    #[arg(long)]
    pub dom0_cpus: Option<u32>,
    /// vCPUs of the guest
    #[arg(long, default_value_t = 1)]
    pub guest_cpus: u32,
    /// Memory of the guest in MiB
    #[arg(long, default_value_t = 256)]
    pub guest_memory: u32,
    /// Version of Linux in dom0 and guests
    #[arg(long, value_enum, default_value = "6.1")]
    pub kernel: Kernel,
    /// Emulator to use
    #[arg(long, default_value = "qemu-system-x86_64", value_name = "PATH")]
    pub qemu: PathBuf,
    /// Stop before the first instruction and wait for gdb on port 1234
    #[arg(long)]
    pub debug: bool,
    /// `radon`, or `xen`: the same scenario on stock Xen, the control
    #[arg(long, value_enum, default_value_t = Hypervisor::Radon)]
    pub hypervisor: Hypervisor,
    /// `xenstored` (Debian's), or `radon`: our own store in dom0
    #[arg(long, value_enum, default_value_t = Store::Xenstored)]
    pub store: Store,
    /// Boot this hypervisor image instead of building one
    #[arg(long, value_name = "PATH")]
    pub image: Option<PathBuf>,
    /// Further hypervisor arguments, in Xen's syntax
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub xen_args: String,
    /// Further arguments for dom0's kernel
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub dom0_args: String,
    /// A further argument for QEMU (may be repeated)
    #[arg(long = "qemu-arg", value_name = "ARG", allow_hyphen_values = true)]
    pub qemu_args: Vec<String>,
    /// How many times longer than on a quiet machine each step inside dom0 may take
    #[arg(long, default_value_t = 2)]
    pub patience: u32,
    /// Longest time for the machine, in seconds (no limit once a person is at its console)
    #[arg(long, default_value_t = 600)]
    pub limit: u64,
}

impl Options {
    /// What no command line has set: a machine of this hypervisor, dom0 of this many MiB.
    pub fn plain(hypervisor: Hypervisor, dom0_memory: u32) -> Self {
        #[derive(clap::Parser)]
        struct Defaults {
            #[command(flatten)]
            options: Options,
        }
        let defaults = <Defaults as clap::Parser>::parse_from(["image"]).options;
        Self { hypervisor, dom0_memory, ..defaults }
    }

    /// Arguments of the hypervisor.
    pub fn hypervisor_args(&self) -> String {
        let mut args = format!(
            "console=com1 com1=115200,8n1 dom0_mem={}M dom0_max_vcpus={} loglvl=all guest_loglvl=all noreboot",
            self.dom0_memory,
            self.dom0_cpus.unwrap_or(self.cpus)
        );
        if self.hypervisor == Hypervisor::Xen {
            args.push_str(" dom0=pvh cpuidle=0");
        }
        format!("{args} {}", self.xen_args).trim_end().to_owned()
    }

    /// Arguments of dom0's kernel. `scenario` empty: an interactive session.
    pub fn dom0_kernel_args(&self, scenario: &str) -> String {
        format!(
            "console=hvc0 earlyprintk=xen rdinit=/init panic=1 radon.scenario={scenario} radon.hypervisor={} \
             radon.store={} radon.guest_cpus={} radon.guest_memory={} radon.patience={} {}",
            self.hypervisor.name(),
            self.store.name(),
            self.guest_cpus,
            self.guest_memory,
            self.patience,
            self.dom0_args
        )
        .trim_end()
        .to_owned()
    }

    /// Installs, builds and fetches what is needed, and describes the machine.
    pub fn prepare(&self, scenario: &str, extra: &[(String, Vec<u8>)]) -> Result<Machine> {
        setup::run()?;
        self.check_control()?;
        let packages = Packages::with_kernel(self.kernel)?;
        let kernel = self.image(&packages)?;
        let mut extra = self.extra(extra)?;
        if scenario.split(',').any(|s| s == "i386") {
            extra.extend(guest::i386()?);
        }
        let networks = scenario.split(',').any(|s| s == "networks");
        if networks || scenario.split(',').any(|s| s.starts_with("domains") || s == "consoles") {
            let program = program::build("radon-domain", "radon-domain")?;
            extra.push(("usr/local/sbin/radon-domain".to_owned(), std::fs::read(program)?));
        }
        // The host layer's machines have our console daemon; those of xl keep Debian's.
        let layer = ["domains", "networks", "xenapi", "consoles"];
        if scenario.split(',').any(|s| layer.iter().any(|name| s.starts_with(name))) {
            let program = program::build("radon-console", "radon-consoled")?;
            extra.push(("usr/local/sbin/radon-consoled".to_owned(), std::fs::read(program)?));
        }
        if scenario.split(',').any(|s| s.starts_with("own-block") && s != "own-block-after") {
            for name in ["radon-domain", "radon-block", "radon-volume"] {
                extra.push((format!("usr/local/sbin/{name}"), std::fs::read(program::build(name, name)?)?));
            }
        }
        if scenario.split(',').any(|s| s == "consoles") {
            let program = program::build("radon-framebuffer", "radon-vnc")?;
            extra.push(("usr/local/sbin/radon-vnc".to_owned(), std::fs::read(program)?));
            extra.extend(packages::viewer()?);
            extra.extend(guest::whole(&packages)?);
        }
        if networks {
            let program = program::build("radon-network", "radon-network")?;
            extra.push(("usr/local/sbin/radon-network".to_owned(), std::fs::read(program)?));
            extra.extend(packages::networks()?);
        }
        let initrd = initramfs::dom0(&packages, &extra)?;
        let boot = Boot::Multiboot {
            kernel,
            args: self.hypervisor_args(),
            modules: vec![
                (packages.kernel(false)?, self.dom0_kernel_args(scenario)),
                (initrd, String::new()),
            ],
        };
        Ok(self.machine(boot))
    }

    /// An error with its cause if the control is asked for and this emulator cannot run it.
    pub fn check_control(&self) -> Result<()> {
        match qemu::no_stock_xen(&self.qemu).filter(|_| self.hypervisor == Hypervisor::Xen) {
            Some(why) => bail!("{why}"),
            None => Ok(()),
        }
    }

    /// Files for dom0 besides the usual ones: `extra`, and what these options ask for.
    pub fn extra(&self, extra: &[(String, Vec<u8>)]) -> Result<Vec<(String, Vec<u8>)>> {
        let mut all = extra.to_vec();
        if self.store == Store::Radon {
            all.push((store::PATH.into(), std::fs::read(store::build()?)?));
        }
        Ok(all)
    }

    /// The hypervisor to boot.
    pub fn image(&self, packages: &Packages) -> Result<PathBuf> {
        match &self.image {
            Some(path) => Ok(std::path::absolute(path)?),
            None => image::hypervisor(self.hypervisor, packages),
        }
    }

    /// The machine that these options describe, booting `boot`.
    pub fn machine(&self, boot: Boot) -> Machine {
        Machine {
            qemu: self.qemu.clone(),
            hypervisor: self.hypervisor,
            cpus: self.cpus,
            memory: self.memory,
            debug: self.debug,
            icount: false,
            one_host_cpu: true,
            boot,
            extra: self.qemu_args.clone(),
        }
    }
}

/// What one serial line means to us.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// A stage was reached.
    Milestone(String),
    /// The system says that it cannot go on.
    Failed(String),
    /// One test's result: name and, unless it passed, the outcome and its reason.
    Verdict { name: String, outcome: Outcome },
    /// A measurement: name, value, unit.
    Figure { name: String, value: f64, unit: String },
}

/// Result of one test inside the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The promise holds.
    Pass,
    /// It does not, for this reason.
    Fail(String),
    /// It does not apply here, for this reason.
    Skip(String),
}

/// Finds the meaning of a serial line, wherever in the line the key word stands (a hypervisor prefixes its guests' lines).
pub fn parse(line: &str) -> Option<Event> {
    let after = |key: &str| line.find(key).map(|at| line[at + key.len()..].trim());
    if let Some(name) = after("RADON-MILESTONE ") {
        return Some(Event::Milestone(name.to_owned()));
    }
    if let Some(cause) = after("RADON-FAILED ") {
        return Some(Event::Failed(cause.to_owned()));
    }
    if let Some(rest) = after("VERDICT ") {
        let mut words = rest.splitn(3, ' ');
        let (word, name) = (words.next()?, words.next()?);
        let mut reason = || words.next().unwrap_or("no reason given").to_owned();
        let outcome = match word {
            "pass" => Outcome::Pass,
            "fail" => Outcome::Fail(reason()),
            "skip" => Outcome::Skip(reason()),
            _ => return None,
        };
        return Some(Event::Verdict { name: name.to_owned(), outcome });
    }
    if let Some(rest) = after("FIGURE ") {
        let mut words = rest.split_whitespace();
        let (name, value) = (words.next()?, words.next()?);
        let unit = words.next().unwrap_or_default();
        return Some(Event::Figure {
            name: name.to_owned(),
            value: value.parse().ok()?,
            unit: unit.to_owned(),
        });
    }
    // Signs of life that the hypervisors and the kernel print by themselves.
    let fatal = [
        "Panic on CPU",
        "Kernel panic - not syncing",
        "Hardware Dom0 crashed",
        "Hardware domain shut down",
        "RADON PANIC",
        "Hardware Dom0 shutdown: rebooting",
    ];
    if fatal.iter().any(|f| line.contains(f)) {
        return Some(Event::Failed(line.trim().to_owned()));
    }
    if line.contains("(XEN) Xen version 4.")
        || line.contains("Radon version")
        || line.starts_with("(XEN) Radon ")
    {
        return Some(Event::Milestone("hypervisor".to_owned()));
    }
    (line.contains("Linux version ") && !line.contains("GUEST"))
        .then(|| Event::Milestone("dom0-kernel".to_owned()))
}

/// What a scenario says when the machine is to be gone at once.
const PULL_THE_PLUG: &str = "pull-the-plug";

/// Boots until power-off, calling `see` with each event; an error names the cause.
pub fn watch(
    machine: &Machine,
    log: &str,
    limit: std::time::Duration,
    mut see: impl FnMut(Event, f64),
) -> Result<()> {
    let mut run = machine.start(log, limit)?;
    let mut ended = false;
    // The kernel prints its first lines again when a second console takes over.
    let mut reached = std::collections::BTreeSet::new();
    while let Some(line) = run.line()? {
        let Some(event) = parse(&line) else { continue };
        if let Event::Milestone(name) = &event
            && !reached.insert(name.clone())
        {
            continue;
        }
        ended |= event == Event::Milestone("poweroff".to_owned());
        if event == Event::Milestone(PULL_THE_PLUG.to_owned()) {
            // The machine is gone with `run`.
            return Ok(());
        }
        if let Event::Failed(cause) = &event {
            let cause = cause.clone();
            // The lines after a crash (registers, backtrace) belong in the log too.
            let until = run.elapsed() + std::time::Duration::from_secs(3);
            run.shorten(until);
            while let Ok(Some(_)) = run.line() {}
            bail!("{cause}; {}", run.last_words());
        }
        see(event, run.elapsed().as_secs_f64());
        if ended {
            // Power-off itself is part of the promise, but may not hold everything up.
            let until = run.elapsed() + std::time::Duration::from_secs(20);
            run.shorten(until);
        }
    }
    if !ended {
        bail!("the machine stopped before dom0 powered it off; {}", run.last_words());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood_behind_prefixes() {
        let milestone = |s: &str| Some(Event::Milestone(s.to_owned()));
        assert_eq!(parse("(XEN) d0v0: RADON-MILESTONE dom0-userspace\r"), milestone("dom0-userspace"));
        assert_eq!(parse("[    0.000000] Linux version 6.1.0-56-amd64"), milestone("dom0-kernel"));
        assert_eq!(
            parse("VERDICT pass list"),
            Some(Event::Verdict { name: "list".into(), outcome: Outcome::Pass })
        );
        let failed = Outcome::Fail("no such domain".into());
        assert_eq!(
            parse("VERDICT fail list no such domain"),
            Some(Event::Verdict { name: "list".into(), outcome: failed })
        );
        assert_eq!(parse("VERDICT maybe list"), None);
        assert_eq!(
            parse("FIGURE boot 12.5 s"),
            Some(Event::Figure { name: "boot".into(), value: 12.5, unit: "s".into() })
        );
        assert_eq!(parse("anything else"), None);
    }
}
