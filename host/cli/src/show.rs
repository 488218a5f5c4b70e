//! Answers, for people or for programs.

use crate::Done;
use serde_json::Value;

/// A table's column: its head, and what of a record it shows.
pub type Column<'a> = (&'a str, &'a dyn Fn(&Value) -> String);

/// A field as text.
pub fn text(record: &Value, field: &str) -> String {
    match &record[field] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Bytes as people write them.
pub fn bytes(record: &Value, field: &str) -> String {
    let bytes = record[field].as_f64().unwrap_or_default();
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = bytes;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < units.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if scaled.fract() == 0.0 {
        format!("{scaled:.0} {}", units[unit])
    } else {
        format!("{scaled:.1} {}", units[unit])
    }
}

/// What others have named or said, for a terminal: lines, without other control characters.
pub fn plain(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\n', "?")
}

/// Records, ordered by name, as a table or as JSON.
pub fn table(json: bool, mut records: Vec<Value>, columns: &[Column<'_>]) -> Done {
    records.sort_by_key(|r| (text(r, "name_label"), text(r, "uuid")));
    if json {
        println!("{}", serde_json::to_string_pretty(&records)?);
        return Ok(());
    }
    let head: Vec<String> = columns.iter().map(|c| c.0.to_owned()).collect();
    let rows: Vec<Vec<String>> = records.iter().map(|r| columns.iter().map(|c| (c.1)(r)).collect()).collect();
    let width = |n: usize| {
        let cells = std::iter::once(&head).chain(&rows).filter_map(|row| row.get(n));
        cells.map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    for row in std::iter::once(&head).chain(&rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        // What a guest or another user has named goes to the terminal: without control characters.
        let line: String = cells.collect::<Vec<_>>().join("  ");
        println!("{}", line.trim_end().replace(char::is_control, "?"));
    }
    Ok(())
}

/// One record, a field a line, or as JSON.
pub fn record(json: bool, record: &Value) -> Done {
    if json {
        println!("{}", serde_json::to_string_pretty(record)?);
        return Ok(());
    }
    for (field, _) in record.as_object().into_iter().flatten() {
        println!("{field:<30} {}", text(record, field).replace(char::is_control, "?"));
    }
    Ok(())
}

/// The number of something that was made.
pub fn made(json: bool, uuid: &str) -> Done {
    if json {
        println!("{}", serde_json::json!({"uuid": uuid}))
    } else {
        println!("{}", plain(uuid))
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_others_say_does_nothing_to_a_terminal() {
        assert_eq!(super::plain("no VM \x1b]0;x\x07\u{9b}2J\r\nhere: ä"), "no VM ?]0;x??2J?\nhere: ä");
    }
}
