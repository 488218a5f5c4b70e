//! What each command does.

mod console;
mod network;
mod other;
mod template;
mod top;
mod vm;
mod vnc;
mod volume;
mod xl;

use crate::arguments::{Arguments, Command};
use crate::client::Client;
use crate::{Done, Failed, known, show};
use serde_json::{Value, json};

/// Carries one out.
pub fn run(arguments: &Arguments, command: &Command) -> Done {
    let json = arguments.json;
    if let Command::Template(command) = command {
        return template::run(&|| known::session(&arguments.reach), json, command);
    }
    let client = known::session(&arguments.reach)?;
    match command {
        Command::Host(command) => other::host(&client, json, command),
        Command::Vm(command) => vm::run(&client, json, command),
        Command::Volume(command) => volume::run(&client, json, command),
        Command::Snapshot(command) => vm::snapshot(&client, json, command),
        Command::Network(command) => network::run(&client, json, command),
        Command::Sr(command) => other::sr(&client, json, command),
        Command::Task(command) => other::task(&client, json, command),
        Command::Console { vm, vnc: true, listen, .. } => vnc::run(&client, vm, *listen),
        Command::Console { vm, history, .. } => console::run(&client, vm, *history),
        Command::Top { interval, once } => top::run(&client, json, *interval, *once),
        Command::Call { message, arguments } => call(&client, message, arguments),
        Command::Template(_) | Command::Login | Command::Completions { .. } | Command::Man { .. } => {
            Err("no command of a session".into())
        }
    }
}

/// Any message: what is text by the model's types is not taken for JSON.
fn call(client: &Client, message: &str, arguments: &[String]) -> Done {
    let plain = message.strip_prefix("Async.").unwrap_or(message);
    let model = radon_api::model();
    let known = model.message(plain).ok_or_else(|| format!("there is no message {plain}"))?;
    let mut values = Vec::new();
    for (n, text) in arguments.iter().enumerate() {
        use radon_api::Kind::{Enum, Ref, String, Time};
        let is_text = known.params.get(n).is_some_and(|p| matches!(p.kind, String | Ref(_) | Enum(_) | Time));
        let parsed = if is_text { None } else { serde_json::from_str(text).ok() };
        values.push(parsed.unwrap_or_else(|| json!(text)));
    }
    println!("{}", serde_json::to_string_pretty(&client.call(message, &values)?)?);
    Ok(())
}

/// Tells the number of an object that was made.
fn made(client: &Client, json: bool, class: &str, reference: &str) -> Done {
    show::made(json, &client.text(&format!("{class}.get_uuid"), &[Value::from(reference)])?)
}

/// Records of a class, each with its reference.
fn list(client: &Client, class: &str) -> Result<Vec<Value>, Failed> {
    Ok(crate::names::records(client, class)?.into_iter().map(|(_, record)| record).collect())
}
