//! Long work: called as a task, followed to its end.

use crate::Failed;
use crate::client::Client;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

/// Calls a message as a task and follows it; what it answers, if that is text.
pub fn run(client: &Client, message: &str, arguments: &[Value]) -> Result<String, Failed> {
    let task = client.text(&format!("Async.{message}"), arguments)?;
    let result = follow(client, &task);
    if result.is_ok() {
        client.call("task.destroy", &[json!(task)])?;
    }
    result
}

/// A bar of one unit; seen only on a terminal.
pub fn bar() -> ProgressBar {
    let bar = ProgressBar::new(1000);
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {percent} % {elapsed}") {
        bar.set_style(style);
    }
    bar
}

/// Follows a task to its end.
pub fn follow(client: &Client, task: &str) -> Result<String, Failed> {
    let bar = bar();
    let mut token = String::new();
    loop {
        let record = client.call("task.get_record", &[json!(task)])?;
        bar.set_message(record["name_label"].as_str().unwrap_or_default().to_owned());
        bar.set_position((record["progress"].as_f64().unwrap_or_default() * 1000.0) as u64);
        match record["status"].as_str() {
            Some("pending" | "cancelling") => {}
            Some("success") => {
                bar.finish_and_clear();
                return Ok(plain(record["result"].as_str().unwrap_or_default()));
            }
            _ => {
                bar.finish_and_clear();
                let words: Vec<&str> =
                    record["error_info"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                return Err(words.join(" ").into());
            }
        }
        let answer =
            client.call("event.from", &[json!([format!("task/{task}")]), json!(token), json!(30.0)])?;
        token = answer["token"].as_str().unwrap_or_default().to_owned();
    }
}

/// A task's result is a value of XML-RPC.
fn plain(result: &str) -> String {
    let value = radon_api::xmlrpc::read_value(result.as_bytes());
    value.ok().and_then(|v| v.text().map(str::to_owned)).unwrap_or_default()
}
