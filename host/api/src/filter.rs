//! Expressions of `get_all_records_where`: `field "name" = "value"`, `true`, `false`, `not`, `and`, `or`, parentheses.

use crate::MOST_DEPTH;
use crate::value::Value;
use std::collections::BTreeMap;

/// An expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Fits always, or never.
    Constant(bool),
    /// Both sides are the same text.
    Equal(Term, Term),
    /// The inner one does not fit.
    Not(Box<Filter>),
    /// All fit.
    And(Vec<Filter>),
    /// One fits.
    Or(Vec<Filter>),
}

/// A side of an equation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// A field's text.
    Field(String),
    /// This text.
    Text(String),
}

impl Filter {
    /// Whether a record fits. Who asks for a field that is not there gets no fit.
    pub fn fits(&self, record: &BTreeMap<String, Value>) -> bool {
        let text = |term: &Term| match term {
            Term::Field(name) => record.get(name).map(Value::plain),
            Term::Text(text) => Some(text.clone()),
        };
        match self {
            Self::Constant(truth) => *truth,
            Self::Equal(a, b) => text(a).is_some_and(|a| Some(a) == text(b)),
            Self::Not(inner) => !inner.fits(record),
            Self::And(parts) => parts.iter().all(|p| p.fits(record)),
            Self::Or(parts) => parts.iter().any(|p| p.fits(record)),
        }
    }

    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let tokens = tokens(text)?;
        let mut rest = tokens.as_slice();
        let filter = or(&mut rest, MOST_DEPTH)?;
        if rest.is_empty() { Ok(filter) } else { Err(format!("{text}: what follows {filter:?}?")) }
    }
}

#[derive(Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Mark(char),
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut found = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '(' | ')' | '=' => found.push(Token::Mark(c)),
            '"' | '\'' => {
                let mut word = String::new();
                loop {
                    match rest.next() {
                        Some('\\') => word.extend(rest.next()),
                        Some(end) if end == c => break,
                        Some(other) => word.push(other),
                        None => return Err("a text does not end".into()),
                    }
                }
                found.push(Token::Text(word));
            }
            c if c.is_whitespace() => {}
            c if c.is_ascii_alphabetic() => {
                let mut word = c.to_string();
                while let Some(next) = rest.next_if(|n| n.is_ascii_alphanumeric() || *n == '_') {
                    word.push(next);
                }
                found.push(Token::Word(word));
            }
            other => return Err(format!("what is {other:?}?")),
        }
    }
    Ok(found)
}

fn take(rest: &mut &[Token], wanted: &Token) -> bool {
    match rest.split_first() {
        Some((first, others)) if first == wanted => {
            *rest = others;
            true
        }
        _ => false,
    }
}

fn word(text: &str) -> Token {
    Token::Word(text.to_owned())
}

fn or(rest: &mut &[Token], depth: usize) -> Result<Filter, String> {
    let mut parts = vec![and(rest, depth)?];
    while take(rest, &word("or")) {
        parts.push(and(rest, depth)?);
    }
    Ok(if parts.len() == 1 { parts.remove(0) } else { Filter::Or(parts) })
}

fn and(rest: &mut &[Token], depth: usize) -> Result<Filter, String> {
    let mut parts = vec![single(rest, depth)?];
    while take(rest, &word("and")) {
        parts.push(single(rest, depth)?);
    }
    Ok(if parts.len() == 1 { parts.remove(0) } else { Filter::And(parts) })
}

fn single(rest: &mut &[Token], depth: usize) -> Result<Filter, String> {
    let deeper = depth.checked_sub(1).ok_or("expressions nest too deep")?;
    if take(rest, &word("not")) {
        return Ok(Filter::Not(Box::new(single(rest, deeper)?)));
    }
    if take(rest, &Token::Mark('(')) {
        let inner = or(rest, deeper)?;
        return if take(rest, &Token::Mark(')')) { Ok(inner) } else { Err("a parenthesis is open".into()) };
    }
    if take(rest, &word("true")) {
        return Ok(Filter::Constant(true));
    }
    if take(rest, &word("false")) {
        return Ok(Filter::Constant(false));
    }
    let left = term(rest)?;
    if !take(rest, &Token::Mark('=')) {
        return Err("= is missing".into());
    }
    Ok(Filter::Equal(left, term(rest)?))
}

fn term(rest: &mut &[Token]) -> Result<Term, String> {
    let field = take(rest, &word("field"));
    match rest.split_first() {
        Some((Token::Text(text), others)) => {
            *rest = others;
            Ok(if field { Term::Field(text.clone()) } else { Term::Text(text.clone()) })
        }
        other => Err(format!(
            "a text in quotation marks should stand where {:?} is",
            other.map(|(first, _)| first)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn expressions_of_clients() {
        let record = BTreeMap::from([
            ("name_label".to_owned(), Value::from("a \"b\"")),
            ("is_a_template".to_owned(), Value::Bool(false)),
            ("VCPUs_max".to_owned(), Value::Int(2)),
        ]);
        for (text, fits) in [
            ("true", true),
            (r#"field "is_a_template" = "false""#, true),
            (r#"not (field "is_a_template" = "false")"#, false),
            (r#"field "VCPUs_max"="2" and field "name_label" = "a \"b\"""#, true),
            (r#"false or ("x" = 'x' and true)"#, true),
            (r#"field "no_such" = """#, false),
        ] {
            assert_eq!(Filter::parse(text).unwrap().fits(&record), fits, "{text}");
        }
        for bad in ["", "maybe", "field x = \"1\"", "\"a\" =", "(true", "true)", "true true", "\"a"] {
            assert!(Filter::parse(bad).is_err(), "{bad}");
        }
        assert!(Filter::parse(&"(".repeat(100_000)).is_err());
        assert!(Filter::parse(&"not ".repeat(100_000)).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(field|true|not|and|or|=|\"x\"|[(]|[)]| ){0,30}|\\PC{0,30}") {
            if let Ok(filter) = Filter::parse(&text) {
                filter.fits(&BTreeMap::new());
            }
        }
    }
}
