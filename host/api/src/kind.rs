//! Types of fields and parameters, written as the published class reference writes them: `(string -> VM ref) map`.

use crate::Time;
use crate::error::{ApiError, Result};
use crate::model::Model;
use crate::value::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing: an empty string on the wire.
    Void,
    /// Text.
    String,
    /// 64 bits, signed.
    Int,
    /// A double.
    Float,
    /// Yes or no.
    Bool,
    /// A point in time.
    Time,
    /// One of a list of words.
    Enum(String),
    /// A reference to an object of a class.
    Ref(String),
    /// Several values.
    Set(Box<Kind>),
    /// Values by key.
    Map(Box<Kind>, Box<Kind>),
    /// All fields of an object of a class.
    Record(String),
    /// What `event.from` answers.
    Batch,
}

impl Kind {
    /// What a field has that was never set.
    pub fn empty(&self) -> Value {
        match self {
            Self::Void | Self::String | Self::Enum(_) => Value::String(String::new()),
            Self::Int => Value::Int(0),
            Self::Float => Value::Float(0.0),
            Self::Bool => Value::Bool(false),
            Self::Time => Value::Time(Time(0)),
            Self::Ref(_) => Value::String(crate::NULL.to_owned()),
            Self::Set(_) => Value::Set(Vec::new()),
            Self::Map(..) | Self::Record(_) | Self::Batch => Value::Map(BTreeMap::new()),
        }
    }

    /// The value as one of this type; `field` is named if it is none. Takes what the wire formats do not tell apart: numbers and
    /// times as text, whole numbers as floats.
    pub fn accept(&self, model: &Model, field: &str, value: Value) -> Result<Value> {
        let wrong = || ApiError::field_type(field);
        match (self, value) {
            (Self::Void, Value::String(text)) if text.is_empty() => Ok(Value::String(text)),
            (Self::String | Self::Ref(_), Value::String(text)) => Ok(Value::String(text)),
            (Self::Enum(name), Value::String(word)) => {
                let words = model.enums.get(name).ok_or_else(wrong)?;
                match words.iter().find(|w| w.eq_ignore_ascii_case(&word)) {
                    Some(found) => Ok(Value::String(found.clone())),
                    None => Err(ApiError::invalid_value(field, word)),
                }
            }
            (Self::Int, Value::Int(number)) => Ok(Value::Int(number)),
            (Self::Int, Value::String(text)) => text.trim().parse().map(Value::Int).map_err(|_| wrong()),
            (Self::Int, Value::Float(number)) if number.fract() == 0.0 && number.abs() < 9e15 => {
                Ok(Value::Int(number as i64))
            }
            (Self::Float, Value::Float(number)) => Ok(Value::Float(number)),
            (Self::Float, Value::Int(number)) => Ok(Value::Float(number as f64)),
            (Self::Float, Value::String(text)) => {
                let number = text.trim().parse::<f64>().ok().filter(|n| n.is_finite());
                number.map(Value::Float).ok_or_else(wrong)
            }
            (Self::Bool, Value::Bool(truth)) => Ok(Value::Bool(truth)),
            (Self::Time, Value::Time(time)) => Ok(Value::Time(time)),
            (Self::Time, Value::String(text)) => text.parse().map(Value::Time).map_err(|()| wrong()),
            (Self::Set(item), Value::Set(values)) => {
                let values = values.into_iter().map(|v| item.accept(model, field, v));
                values.collect::<Result<_>>().map(Value::Set)
            }
            (Self::Map(key, item), Value::Map(values)) => {
                let mut accepted = BTreeMap::new();
                for (name, value) in values {
                    let name = match key.accept(model, field, Value::String(name))? {
                        Value::Int(number) => number.to_string(),
                        Value::String(text) => text,
                        _ => return Err(wrong()),
                    };
                    accepted.insert(name, item.accept(model, field, value)?);
                }
                Ok(Value::Map(accepted))
            }
            (Self::Record(_) | Self::Batch, Value::Map(values)) => Ok(Value::Map(values)),
            _ => Err(wrong()),
        }
    }

    /// A default as the model writes it.
    pub(crate) fn literal(&self, text: &str) -> Option<Value> {
        let inner = || text.strip_prefix('{').and_then(|t| t.strip_suffix('}'));
        match self {
            Self::String | Self::Enum(_) | Self::Ref(_) => {
                Some(Value::String(text.trim_matches('"').to_owned()))
            }
            Self::Int => text.parse().ok().map(Value::Int),
            Self::Float => text.parse().ok().map(Value::Float),
            Self::Bool => text.parse().ok().map(Value::Bool),
            Self::Time => text.parse().ok().map(Value::Time),
            Self::Set(item) => {
                let words = inner()?.split(',').map(str::trim).filter(|w| !w.is_empty());
                words.map(|w| item.literal(w)).collect::<Option<_>>().map(Value::Set)
            }
            Self::Map(..) => inner().filter(|t| t.is_empty()).map(|_| Value::Map(BTreeMap::new())),
            Self::Void | Self::Record(_) | Self::Batch => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Void => f.write_str("void"),
            Self::String => f.write_str("string"),
            Self::Int => f.write_str("int"),
            Self::Float => f.write_str("float"),
            Self::Bool => f.write_str("bool"),
            Self::Time => f.write_str("datetime"),
            Self::Enum(name) => write!(f, "enum {name}"),
            Self::Ref(class) => write!(f, "{class} ref"),
            Self::Set(item) => write!(f, "{item} set"),
            Self::Map(key, item) => write!(f, "({key} -> {item}) map"),
            Self::Record(class) => write!(f, "{class} record"),
            Self::Batch => f.write_str("event batch"),
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let spaced = text.replace('(', "( ").replace(')', " ) ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let mut rest = words.as_slice();
        let kind = parse(&mut rest).ok_or_else(|| format!("{text} is no type"))?;
        if rest.is_empty() {
            Ok(kind)
        } else {
            Err(format!("{text} is no type: what is {}?", rest.join(" ")))
        }
    }
}

fn next<'a>(rest: &mut &[&'a str]) -> Option<&'a str> {
    let (first, others) = rest.split_first()?;
    *rest = others;
    Some(first)
}

fn parse(rest: &mut &[&str]) -> Option<Kind> {
    let mut kind = match next(rest)? {
        "(" => {
            let key = parse(rest)?;
            (next(rest)? == "->").then_some(())?;
            let item = parse(rest)?;
            (next(rest)? == ")" && next(rest)? == "map").then_some(())?;
            Kind::Map(Box::new(key), Box::new(item))
        }
        "void" => Kind::Void,
        "string" => Kind::String,
        "int" => Kind::Int,
        "float" => Kind::Float,
        "bool" => Kind::Bool,
        "datetime" => Kind::Time,
        "enum" => Kind::Enum(next(rest)?.to_owned()),
        class => match next(rest)? {
            "ref" => Kind::Ref(class.to_owned()),
            "record" => Kind::Record(class.to_owned()),
            "batch" if class == "event" => Kind::Batch,
            _ => return None,
        },
    };
    while rest.first() == Some(&"set") {
        next(rest);
        kind = Kind::Set(Box::new(kind));
    }
    Some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_as_they_are_written() {
        for text in [
            "string",
            "VM ref set",
            "(string -> enum vm_operations) map",
            "(VM ref -> VM record) map",
            "(int -> string set) map",
            "event batch",
            "event record set",
        ] {
            assert_eq!(text.parse::<Kind>().unwrap().to_string(), text);
        }
        for bad in ["", "VM", "set", "(string -> int)", "string map", "string ref set x"] {
            assert!(bad.parse::<Kind>().is_err(), "{bad}");
        }
    }

    #[test]
    fn values_are_taken_or_refused_by_type() {
        let model = crate::model();
        let take = |kind: &str, value| kind.parse::<Kind>().unwrap().accept(model, "f", value);
        assert_eq!(take("int", Value::from("5")), Ok(Value::Int(5)));
        assert_eq!(take("int", Value::Float(5.0)), Ok(Value::Int(5)));
        assert_eq!(take("float", Value::Int(5)), Ok(Value::Float(5.0)));
        assert_eq!(take("enum vbd_mode", Value::from("rw")), Ok(Value::from("RW")));
        assert_eq!(take("datetime", Value::from("19700101T00:00:01Z")), Ok(Value::Time(Time(1))));
        for (kind, value) in [
            ("int", Value::from("5x")),
            ("int", Value::Float(5.5)),
            ("int", Value::Float(1e300)),
            ("float", Value::from("nan")),
            ("bool", Value::from("true")),
            ("string", Value::Int(1)),
            ("string set", Value::from("a")),
            ("(int -> string) map", Value::Map(BTreeMap::from([("x".into(), Value::from("y"))]))),
        ] {
            assert_eq!(take(kind, value).unwrap_err().code, "FIELD_TYPE_ERROR", "{kind}");
        }
        assert_eq!(take("enum vbd_mode", Value::from("XX")).unwrap_err().code, "INVALID_VALUE");
    }
}
