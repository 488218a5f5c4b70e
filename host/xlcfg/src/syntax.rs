//! Settings of a file, as `libxlu_cfg_y.y` of Xen 4.17 has them.

use crate::lexer::{Word, words};
use crate::{Result, wrong};
use std::collections::BTreeMap;

/// How deep lists may lie in lists.
const DEEPEST: usize = 16;

/// A setting's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text or a number: the same to xl.
    Text(String),
    /// Values in brackets.
    List(Vec<Value>),
}

/// A setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Where it was set last.
    pub line: usize,
    /// To what.
    pub value: Value,
}

/// Settings by name. Of several for one name the last counts; `+=` adds to those before it.
pub fn parse(text: &str) -> Result<BTreeMap<String, Setting>> {
    let words = words(text)?;
    let mut parser = Parser { words: words.into_iter().peekable(), line: 1 };
    let mut all: BTreeMap<String, Setting> = BTreeMap::new();
    while let Some(word) = parser.next() {
        let line = parser.line;
        let name = match word {
            Word::Newline | Word::Semicolon => continue,
            Word::Name(name) => name,
            other => return wrong(line, format!("a setting's name is to stand here, not {}", shown(&other))),
        };
        let adds = match parser.next() {
            Some(Word::Assign) => false,
            Some(Word::Add) => true,
            _ => return wrong(line, format!("after {name} comes = or +=")),
        };
        let mut value = parser.value(DEEPEST)?;
        match parser.next() {
            None | Some(Word::Newline | Word::Semicolon) => {}
            Some(other) => {
                return wrong(
                    parser.line,
                    format!("{} is too much behind the value of {name}", shown(&other)),
                );
            }
        }
        if let Some(before) = all.remove(&name).filter(|_| adds) {
            value = match (before.value, value) {
                (Value::Text(a), Value::Text(b)) => Value::Text(a + &b),
                (Value::List(a), Value::List(b)) => Value::List([a, b].concat()),
                _ => {
                    return wrong(
                        line,
                        format!("{name}: a list cannot be added to a text, nor a text to a list"),
                    );
                }
            };
        }
        all.insert(name, Setting { line, value });
    }
    Ok(all)
}

fn shown(word: &Word) -> String {
    match word {
        Word::Name(text) | Word::Number(text) => text.clone(),
        Word::Text(text) => format!("{text:?}"),
        Word::Assign => "=".into(),
        Word::Add => "+=".into(),
        Word::Comma => "a comma".into(),
        Word::Open => "[".into(),
        Word::Close => "]".into(),
        Word::Semicolon => ";".into(),
        Word::Newline => "the end of the line".into(),
    }
}

struct Parser<I: Iterator<Item = (usize, Word)>> {
    words: std::iter::Peekable<I>,
    line: usize,
}

impl<I: Iterator<Item = (usize, Word)>> Parser<I> {
    fn next(&mut self) -> Option<Word> {
        let (line, word) = self.words.next()?;
        self.line = line;
        Some(word)
    }

    fn newlines(&mut self) {
        while let Some((line, _)) = self.words.next_if(|(_, word)| *word == Word::Newline) {
            self.line = line;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value> {
        match self.next() {
            Some(Word::Text(text) | Word::Number(text)) => Ok(Value::Text(text)),
            Some(Word::Open) if depth == 0 => wrong(self.line, "lists in lists in lists: too many"),
            Some(Word::Open) => self.list(depth - 1).map(Value::List),
            Some(Word::Name(name)) => {
                wrong(self.line, format!("a text stands in quotation marks: \"{name}\""))
            }
            Some(other) => wrong(self.line, format!("a value is to stand here, not {}", shown(&other))),
            None => wrong(self.line, "a value is missing at the end of the file"),
        }
    }

    /// Values up to the closing bracket; lines may end between them.
    fn list(&mut self, depth: usize) -> Result<Vec<Value>> {
        let begun = self.line;
        let mut all = Vec::new();
        loop {
            self.newlines();
            if self.words.next_if(|(_, word)| *word == Word::Close).is_some() {
                return Ok(all);
            }
            if self.words.peek().is_none() {
                return wrong(begun, "a list has no closing bracket");
            }
            all.push(self.value(depth)?);
            self.newlines();
            match self.next() {
                Some(Word::Comma) => {}
                Some(Word::Close) => return Ok(all),
                Some(other) => {
                    return wrong(self.line, format!("a comma or ] is to stand here, not {}", shown(&other)));
                }
                None => return wrong(begun, "a list has no closing bracket"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn get(text: &str, name: &str) -> Value {
        parse(text).unwrap_or_else(|e| panic!("{text}: {e}")).remove(name).unwrap().value
    }

    fn text(value: &str) -> Value {
        Value::Text(value.into())
    }

    #[test]
    fn what_libxlu_takes() {
        assert_eq!(get("a=1", "a"), text("1"));
        assert_eq!(get("a = 0x1f ; b='x'", "b"), text("x"));
        assert_eq!(get("# only a comment\n\na = \"it's\" # here\n", "a"), text("it's"));
        assert_eq!(get(r#"a = 'it\'s "\\" \n'"#, "a"), text("it's \"\\\" \n"));
        assert_eq!(get("a = []", "a"), Value::List(vec![]));
        assert_eq!(get("a = [\n 'x', # one\n 'y',\n]\n", "a"), Value::List(vec![text("x"), text("y")]));
        assert_eq!(
            get("a = [['x', 'y'], 'z']", "a"),
            Value::List(vec![Value::List(vec![text("x"), text("y")]), text("z")])
        );
        assert_eq!(get("a = 'x'\na = 'y'", "a"), text("y"));
        assert_eq!(get("a = 'x'\na += 'y'", "a"), text("xy"));
        assert_eq!(get("a += ['x']\na += ['y']", "a"), Value::List(vec![text("x"), text("y")]));
        assert_eq!(get("vnc.a_9 = 'b'", "vnc.a_9"), text("b"));
    }

    #[test]
    fn what_it_refuses_and_on_which_line() {
        for (file, line, why) in [
            ("a", 1, "after a comes"),
            ("a = b", 1, "quotation marks: \"b\""),
            ("\n\na = 'x' 'y'", 3, "too much"),
            ("a = 'x", 1, "closing quotation mark"),
            ("a = 'x\n'", 1, "closing quotation mark"),
            ("\na = [ 'x'\n\n", 2, "closing bracket"),
            ("a = [ 'x' 'y' ]", 1, "a comma or ]"),
            ("a = [,]", 1, "not a comma"),
            ("a = 'x'\na += ['y']", 2, "cannot be added"),
            ("A = 1", 1, "'A'"),
            ("a = 1\r\nb = 2", 1, "carriage return"),
            ("import os\n(x)", 2, "Python"),
            (r"a = '\q'", 1, "after a backslash"),
            ("= 1", 1, "a setting's name"),
            (&format!("a = {}{}", "[".repeat(20), "]".repeat(20)), 1, "too many"),
        ] {
            let error = parse(file).expect_err(file);
            assert!(error.line == line && error.why.contains(why), "{file}: {error}");
        }
    }

    /// As xl's own files write it.
    fn write(value: &Value, out: &mut String) {
        match value {
            Value::Text(text) => {
                out.push('"');
                for c in text.chars() {
                    match c {
                        '\n' => out.push_str("\\n"),
                        '"' | '\\' => out.extend(['\\', c]),
                        c => out.push(c),
                    }
                }
                out.push('"');
            }
            Value::List(all) => {
                out.push('[');
                for one in all {
                    write(one, out);
                    out.push_str(",\n ");
                }
                out.push(']');
            }
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = any::<String>().prop_map(Value::Text);
        leaf.prop_recursive(3, 20, 5, |inner| prop::collection::vec(inner, 0..5).prop_map(Value::List))
    }

    proptest! {
        #[test]
        fn there_and_back(all in prop::collection::btree_map("[a-z][._0-9a-z]{0,8}", value(), 0..6)) {
            let mut file = String::new();
            for (name, value) in &all {
                file.push_str(&format!("{name} = "));
                write(value, &mut file);
                file.push('\n');
            }
            let read: BTreeMap<String, Value> = parse(&file).unwrap().into_iter().map(|(n, s)| (n, s.value)).collect();
            prop_assert_eq!(read, all);
        }

        #[test]
        fn any_text(file in "[a-c0-9=+,;\\[\\]'\"\\\\# \n\t.-]{0,80}|\\PC{0,40}") {
            if let Err(error) = parse(&file) {
                prop_assert!((1..=file.lines().count().max(1) + 1).contains(&error.line));
            }
        }
    }
}
