//! Values of fields, parameters and results.

use crate::Time;
use std::collections::BTreeMap;

/// A value. References and words of enumerations are text; records are maps.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text.
    String(String),
    /// A whole number.
    Int(i64),
    /// A whole number of 32 bits, which XML-RPC sends as one: counts of `event.from`, and nothing else.
    Short(i32),
    /// A number.
    Float(f64),
    /// Yes or no.
    Bool(bool),
    /// A point in time.
    Time(Time),
    /// Several values.
    Set(Vec<Value>),
    /// Values by key.
    Map(BTreeMap<String, Value>),
}

impl Value {
    /// No value: `void` on the wire.
    pub fn void() -> Self {
        Self::String(String::new())
    }

    /// Several strings.
    pub fn strings<T: Into<String>>(items: impl IntoIterator<Item = T>) -> Self {
        Self::Set(items.into_iter().map(|i| Self::String(i.into())).collect())
    }

    /// Strings by key.
    pub fn pairs<K: Into<String>, V: Into<String>>(items: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::Map(items.into_iter().map(|(k, v)| (k.into(), Self::String(v.into()))).collect())
    }

    /// Its text, if it is text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// Its number, if it is a whole one.
    pub fn int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// Whether it is `true`.
    pub fn truth(&self) -> bool {
        *self == Self::Bool(true)
    }

    /// Its items, if it is a set.
    pub fn items(&self) -> &[Value] {
        match self {
            Self::Set(items) => items,
            _ => &[],
        }
    }

    /// An item of a map.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Self::Map(items) => items.get(key),
            _ => None,
        }
    }

    /// As filters compare it: the text that XML-RPC would send.
    pub fn plain(&self) -> String {
        match self {
            Self::String(text) => text.clone(),
            Self::Int(number) => number.to_string(),
            Self::Short(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Bool(truth) => truth.to_string(),
            Self::Time(time) => time.to_string(),
            Self::Set(items) => format!("({})", items.iter().map(Self::plain).collect::<Vec<_>>().join(" ")),
            Self::Map(items) => {
                let items: Vec<_> = items.iter().map(|(k, v)| format!("({k} {})", v.plain())).collect();
                format!("({})", items.join(" "))
            }
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl From<Time> for Value {
    fn from(time: Time) -> Self {
        Self::Time(time)
    }
}
