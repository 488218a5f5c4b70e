//! XML-RPC, as XenAPI uses it: whole numbers are strings, results are structures with a `Status`.

use crate::error::Result;
use crate::value::Value;
use crate::{Call, MOST_DEPTH, Time};
use quick_xml::Reader;
use quick_xml::events::{BytesRef, Event};
use std::collections::BTreeMap;
use std::fmt::Write;

type Parsed<T> = std::result::Result<T, String>;

/// Reads a request; an error says what is wrong with it.
pub fn read(bytes: &[u8]) -> Parsed<Call> {
    let mut document = Document::new(bytes)?;
    document.open("methodCall")?;
    document.open("methodName")?;
    let method = document.text()?.trim().to_owned();
    document.close("methodName")?;
    let mut params = Vec::new();
    if document.opens("params")? {
        while document.opens("param")? {
            params.push(document.value(MOST_DEPTH)?);
            document.close("param")?;
        }
        document.close("params")?;
    }
    document.close("methodCall")?;
    document.end()?;
    Ok(Call { method, params })
}

/// Reads a lone value, such as a task's result.
pub fn read_value(bytes: &[u8]) -> Parsed<Value> {
    let mut document = Document::new(bytes)?;
    let value = document.value(MOST_DEPTH)?;
    document.end()?;
    Ok(value)
}

/// What comes next in a document, comments and the like left out.
#[derive(Clone, Debug, PartialEq)]
enum Part {
    Open(String),
    Close(String),
    Text(String),
    End,
}

/// A document, read from its beginning to its end, one part ahead.
struct Document<'a> {
    reader: Reader<&'a [u8]>,
    ahead: Option<Part>,
}

impl<'a> Document<'a> {
    fn new(bytes: &'a [u8]) -> Parsed<Self> {
        let text = std::str::from_utf8(bytes).map_err(|e| format!("no UTF-8: {e}"))?;
        let mut reader = Reader::from_str(text);
        reader.config_mut().expand_empty_elements = true;
        Ok(Self { reader, ahead: None })
    }

    /// The next part; pieces of text (around character references, CDATA) are one.
    fn next(&mut self) -> Parsed<Part> {
        if let Some(part) = self.ahead.take() {
            return Ok(part);
        }
        let mut text: Option<String> = None;
        loop {
            let event = self.reader.read_event().map_err(|e| format!("no XML: {e}"))?;
            let part = match event {
                Event::Text(piece) => {
                    text.get_or_insert_default().push_str(&piece.xml10_content());
                    continue;
                }
                Event::CData(piece) => {
                    text.get_or_insert_default().push_str(&piece.xml10_content());
                    continue;
                }
                Event::GeneralRef(reference) => {
                    text.get_or_insert_default().push(character(&reference)?);
                    continue;
                }
                Event::Start(tag) => Part::Open(tag.name().as_ref().to_owned()),
                Event::End(tag) => Part::Close(tag.name().as_ref().to_owned()),
                Event::Eof => Part::End,
                Event::DocType(_) => return Err("document types are not read".into()),
                Event::Empty(_) | Event::Decl(_) | Event::PI(_) | Event::Comment(_) => continue,
            };
            return Ok(match text {
                Some(text) => {
                    self.ahead = Some(part);
                    Part::Text(text)
                }
                None => part,
            });
        }
    }

    /// The next part that is no white space.
    fn tag(&mut self) -> Parsed<Part> {
        match self.next()? {
            Part::Text(text) if text.trim().is_empty() => self.next(),
            part => Ok(part),
        }
    }

    fn open(&mut self, name: &str) -> Parsed<()> {
        match self.tag()? {
            Part::Open(found) if found == name => Ok(()),
            other => Err(format!("<{name}> should stand where {other:?} is")),
        }
    }

    /// Whether an element opens here; else an element must close.
    fn opens(&mut self, name: &str) -> Parsed<bool> {
        match self.tag()? {
            Part::Open(found) if found == name => Ok(true),
            part @ Part::Close(_) => {
                self.ahead = Some(part);
                Ok(false)
            }
            other => Err(format!("<{name}> should stand where {other:?} is")),
        }
    }

    fn close(&mut self, name: &str) -> Parsed<()> {
        match self.tag()? {
            Part::Close(found) if found == name => Ok(()),
            other => Err(format!("</{name}> should stand where {other:?} is")),
        }
    }

    fn end(&mut self) -> Parsed<()> {
        match self.tag()? {
            Part::End => Ok(()),
            other => Err(format!("the document goes on with {other:?}")),
        }
    }

    /// Text up to the next tag.
    fn text(&mut self) -> Parsed<String> {
        match self.next()? {
            Part::Text(text) => Ok(text),
            part => {
                self.ahead = Some(part);
                Ok(String::new())
            }
        }
    }

    /// A `<value>`.
    fn value(&mut self, depth: usize) -> Parsed<Value> {
        let depth = depth.checked_sub(1).ok_or("values nest too deep")?;
        self.open("value")?;
        let text = self.text()?;
        let kind = match self.next()? {
            // Text without a type is a string, white space included.
            Part::Close(name) if name == "value" => return Ok(Value::String(text)),
            Part::Open(kind) if text.trim().is_empty() => kind,
            other => return Err(format!("a value holds {other:?}")),
        };
        let value = match kind.as_str() {
            "array" => self.array(depth)?,
            "struct" => self.structure(depth)?,
            _ => scalar(&kind, self.text()?)?,
        };
        self.close(&kind)?;
        self.close("value")?;
        Ok(value)
    }

    fn array(&mut self, depth: usize) -> Parsed<Value> {
        let mut items = Vec::new();
        if self.opens("data")? {
            loop {
                match self.tag()? {
                    Part::Close(name) if name == "data" => break,
                    part => {
                        self.ahead = Some(part);
                        items.push(self.value(depth)?);
                    }
                }
            }
        }
        Ok(Value::Set(items))
    }

    fn structure(&mut self, depth: usize) -> Parsed<Value> {
        let mut items = BTreeMap::new();
        while self.opens("member")? {
            self.open("name")?;
            let key = self.text()?;
            self.close("name")?;
            items.insert(key, self.value(depth)?);
            self.close("member")?;
        }
        Ok(Value::Map(items))
    }
}

/// The character of a reference: by number, or one of XML's five names.
fn character(reference: &BytesRef<'_>) -> Parsed<char> {
    if let Some(c) = reference.resolve_char_ref().map_err(|e| format!("no character: {e}"))? {
        return Ok(c);
    }
    match reference.as_ref() {
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "amp" => Ok('&'),
        "apos" => Ok('\''),
        "quot" => Ok('"'),
        _ => Err("entities are not read".into()),
    }
}

fn scalar(kind: &str, text: String) -> Parsed<Value> {
    let wrong = || format!("{text:?} is no {kind}");
    match kind {
        "string" => Ok(Value::String(text)),
        "int" | "i4" | "i8" => text.trim().parse().map(Value::Int).map_err(|_| wrong()),
        "double" => {
            let number = text.trim().parse::<f64>().ok().filter(|n| n.is_finite());
            number.map(Value::Float).ok_or_else(wrong)
        }
        "boolean" => match text.trim() {
            "1" => Ok(Value::Bool(true)),
            "0" => Ok(Value::Bool(false)),
            _ => Err(wrong()),
        },
        "dateTime.iso8601" => text.trim().parse::<Time>().map(Value::Time).map_err(|()| wrong()),
        "nil" | "ex:nil" => Ok(Value::void()),
        _ => Err(format!("values of type {kind} are not read")),
    }
}

/// A value as XML.
pub fn write(out: &mut String, value: &Value) {
    out.push_str("<value>");
    match value {
        // As text, so that no client cuts it to 32 bits.
        Value::Int(number) => drop(write!(out, "<string>{number}</string>")),
        Value::Short(number) => drop(write!(out, "<i4>{number}</i4>")),
        Value::String(text) => {
            out.push_str("<string>");
            escape(out, text);
            out.push_str("</string>");
        }
        Value::Float(number) => drop(write!(out, "<double>{number}</double>")),
        Value::Bool(truth) => drop(write!(out, "<boolean>{}</boolean>", u8::from(*truth))),
        Value::Time(time) => drop(write!(out, "<dateTime.iso8601>{time}</dateTime.iso8601>")),
        Value::Set(items) => {
            out.push_str("<array><data>");
            items.iter().for_each(|item| write_value(out, item));
            out.push_str("</data></array>");
        }
        Value::Map(items) => {
            out.push_str("<struct>");
            for (key, item) in items {
                member(out, key, |out| write_value(out, item));
            }
            out.push_str("</struct>");
        }
    }
    out.push_str("</value>");
}

use write as write_value;

fn member(out: &mut String, key: &str, value: impl FnOnce(&mut String)) {
    out.push_str("<member><name>");
    escape(out, key);
    out.push_str("</name>");
    value(out);
    out.push_str("</member>");
}

/// Text as XML: what XML cannot hold at all becomes U+FFFD.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\r' => out.push_str("&#13;"),
            '\t' | '\n' => out.push(c),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(c),
        }
    }
}

/// The response.
pub fn response(result: &Result<Value>) -> Vec<u8> {
    let mut out = String::from("<?xml version=\"1.0\"?><methodResponse><params><param><value><struct>");
    let status = |out: &mut String, word: &str| member(out, "Status", |out| write(out, &Value::from(word)));
    match result {
        Ok(value) => {
            status(&mut out, "Success");
            member(&mut out, "Value", |out| write(out, value));
        }
        Err(error) => {
            status(&mut out, "Failure");
            let words = std::iter::once(error.code.to_owned()).chain(error.params.iter().cloned());
            member(&mut out, "ErrorDescription", |out| write(out, &Value::strings(words)));
        }
    }
    out.push_str("</struct></value></param></params></methodResponse>");
    out.into_bytes()
}

/// A request as bytes.
pub fn request(call: &Call) -> Vec<u8> {
    let mut out = String::from("<?xml version=\"1.0\"?><methodCall><methodName>");
    escape(&mut out, &call.method);
    out.push_str("</methodName><params>");
    for param in &call.params {
        out.push_str("<param>");
        write(&mut out, param);
        out.push_str("</param>");
    }
    out.push_str("</params></methodCall>");
    out.into_bytes()
}
