//! `cargo xtask run`: from nothing to a guest's console.

use crate::qemu::{Machine, Run};
use crate::scenario::{self, Event, Options, Outcome};
use crate::shell;
use anyhow::{Context, Result, bail};
use std::io::{IsTerminal, Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Arguments of `run`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    options: Options,
    /// No console: one line per milestone, and an exit code
    #[arg(long)]
    headless: bool,
    /// Scenarios of tests/system to run in a headless machine, separated by commas
    #[arg(long, default_value = "first-light")]
    scenario: String,
    /// Show the whole serial output
    #[arg(long, short)]
    verbose: bool,
}

/// Runs the machine as asked.
pub fn run(args: &Args) -> Result<()> {
    let scenario = if args.headless { args.scenario.as_str() } else { "" };
    let machine = args.options.prepare(scenario, &[])?;
    let limit = Duration::from_secs(args.options.limit);
    if args.options.debug {
        println!("waiting for gdb: `gdb -ex 'target remote :1234' <image>`, then `continue`");
    }
    if args.headless {
        headless(&machine, limit, args.verbose)
    } else {
        interactive(&machine, limit, args.verbose)
    }
}

fn headless(machine: &Machine, limit: Duration, verbose: bool) -> Result<()> {
    let log = format!("run-{}", machine.hypervisor.name());
    let mut failed = Vec::new();
    let mut verdicts = 0;
    if verbose {
        println!("{}", shell::show(&machine.command(None)));
    }
    scenario::watch(machine, &log, limit, |event, at| match event {
        Event::Milestone(name) => println!("{at:7.1} s  {name}"),
        Event::Verdict { name, outcome } => {
            verdicts += 1;
            match outcome {
                Outcome::Pass => println!("{at:7.1} s  pass {name}"),
                Outcome::Skip(why) => println!("{at:7.1} s  skip {name}: {why}"),
                Outcome::Fail(why) => {
                    println!("{at:7.1} s  FAIL {name}: {why}");
                    failed.push(name);
                }
            }
        }
        Event::Figure { name, value, unit } => println!("{at:7.1} s  {name} = {value} {unit}"),
        Event::Failed(_) => {}
    })?;
    if !failed.is_empty() {
        bail!("{} of {verdicts} checks failed: {}", failed.len(), failed.join(", "));
    }
    if verdicts == 0 {
        bail!("the machine powered off without one verdict");
    }
    Ok(())
}

fn interactive(machine: &Machine, limit: Duration, verbose: bool) -> Result<()> {
    let mut run = machine.start(&format!("run-{}", machine.hypervisor.name()), limit)?;
    println!("serial log: {}", run.log().display());
    loop {
        let Some(line) = run.line()? else { bail!("the machine stopped; {}", run.last_words()) };
        if verbose {
            println!("{line}");
        }
        match scenario::parse(&line) {
            Some(Event::Milestone(name)) if name == "interactive" => break,
            Some(Event::Milestone(name)) => println!("{:7.1} s  {name}", run.elapsed().as_secs_f64()),
            Some(Event::Failed(cause)) => bail!("{cause}; {}", run.last_words()),
            _ => {}
        }
    }
    println!(
        "{:7.1} s  the guest's console follows (Ctrl-] returns to dom0, `poweroff` there ends it all)",
        run.elapsed().as_secs_f64()
    );
    run.no_limit();
    console(&mut run)
}

/// Joins the terminal and the serial line until the machine powers off.
fn console(run: &mut Run) -> Result<()> {
    let mut keyboard = run.keyboard().context("the console was taken already")?;
    let _raw = RawTerminal::new();
    // Ends with the process: a read from a terminal cannot be called off.
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        while let Ok(n @ 1..) = std::io::stdin().read(&mut buffer) {
            if keyboard.write_all(&buffer[..n]).and_then(|()| keyboard.flush()).is_err() {
                break;
            }
        }
        // Keep the serial line open: end of input does not switch the machine off.
        std::mem::forget(keyboard);
    });
    let mut out = std::io::stdout();
    let mut bytes = run.take_partial();
    loop {
        out.write_all(&bytes)?;
        out.flush()?;
        match run.bytes()? {
            Some(more) => bytes = more,
            None => return Ok(()),
        }
    }
}

/// The terminal passes every key on; set back when dropped.
struct RawTerminal(Option<String>);

impl RawTerminal {
    fn new() -> Self {
        if !std::io::stdin().is_terminal() {
            return Self(None);
        }
        let stty = |args: &[&str]| Command::new("stty").args(args).stdin(Stdio::inherit()).output();
        let saved = stty(&["-g"]).ok().map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
        // Without a raw terminal the console works line by line: still of use.
        let _ = stty(&["raw", "-echo"]);
        Self(saved)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(saved) = &self.0 {
            let _ = Command::new("stty").arg(saved).stdin(Stdio::inherit()).status();
        }
    }
}
