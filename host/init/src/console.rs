//! What is typed at the machine's console: whoever stands there has the host in his hands anyhow.

use crate::supervisor::Event;
use std::io::{BufRead, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::Sender;
use std::thread;

const HELP: &str = "status, log NAME, console VM, shell, poweroff, reboot";
const LINES: usize = 20;

/// Listens for as long as the machine runs.
pub fn listen(events: Sender<Event>) {
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let mut words = line.split_whitespace();
            let event = match (words.next(), words.next()) {
                (Some("poweroff"), None) => Some(Event::PowerOff),
                (Some("reboot"), None) => Some(Event::Reboot),
                (Some("status"), None) => Some(Event::Status),
                (Some("shell"), None) => {
                    shell();
                    None
                }
                (Some("log"), Some(name)) => {
                    show(name);
                    None
                }
                (Some("console"), Some(vm)) => {
                    history(vm);
                    None
                }
                (None, _) => None,
                _ => {
                    println!("radon: {HELP}");
                    None
                }
            };
            if event.is_some_and(|event| events.send(event).is_err()) {
                break;
            }
        }
    });
}

/// For the day when something is broken; ends with `exit`.
fn shell() {
    println!("`exit` ends the shell");
    let mut shell = Command::new("/usr/bin/busybox");
    shell.args(["sh", "-i"]).current_dir("/").env("PATH", crate::boot::PATH);
    match shell.spawn() {
        // The supervisor may collect its end first: that is one, too.
        Ok(mut child) => drop(child.wait()),
        Err(error) => println!("no shell: {error}"),
    }
}

/// The end of what a VM's console has shown.
fn history(vm: &str) {
    let mut command = Command::new("/usr/sbin/radon-consoled");
    let child = command.args(["history", vm]).stdout(Stdio::piped()).spawn();
    let mut said = Vec::new();
    match child.map(|mut child| (child.stdout.take().map(|mut out| out.read_to_end(&mut said)), child)) {
        Ok((_, mut child)) => {
            print_end(&String::from_utf8_lossy(&said));
            // The supervisor may have collected its end.
            let _ = child.wait();
        }
        Err(error) => println!("{error}"),
    }
}

/// The last lines of a text.
fn print_end(text: &str) {
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(LINES)).for_each(|line| println!("{line}"));
}

fn show(name: &str) {
    if name.contains('/') {
        return;
    }
    let path = format!("{}/log/{name}.log", crate::data::PLACE);
    match std::fs::read_to_string(&path) {
        Ok(text) => print_end(&text),
        Err(error) => println!("{path}: {error}"),
    }
}
