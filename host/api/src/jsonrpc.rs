//! JSON-RPC 1.0 and 2.0, as XenAPI uses them: an `id` always, positional parameters, no batches.

use crate::error::{ApiError, Result};
use crate::value::Value;
use crate::{Call, MOST_DEPTH};
use serde_json::{Map, Value as Json, json};

/// Which JSON-RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Errors are an array of strings.
    One,
    /// Errors are an object.
    Two,
}

/// A request, with what its response has to repeat.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Which JSON-RPC.
    pub version: Version,
    /// A string or a number.
    pub id: Json,
    /// The message.
    pub call: Call,
}

/// Reads a request; an error says what is wrong with it.
pub fn read(bytes: &[u8]) -> std::result::Result<Request, String> {
    let json: Json = serde_json::from_slice(bytes).map_err(|e| format!("no JSON: {e}"))?;
    let Json::Object(mut members) = json else { return Err("a request is a JSON object".into()) };
    let version = match members.get("jsonrpc") {
        None => Version::One,
        Some(Json::String(text)) if text == "2.0" => Version::Two,
        Some(other) => {
            return Err(format!("JSON-RPC {other}: 1.0 (without this member) and \"2.0\" are served"));
        }
    };
    let id = members.remove("id").filter(|id| id.is_string() || id.is_number());
    let id = id.ok_or("the id must be a string or a number")?;
    let Some(Json::String(method)) = members.remove("method") else {
        return Err("there is no method".into());
    };
    let params = match members.remove("params") {
        Some(Json::Array(items)) => items,
        _ => return Err("params must be an array".into()),
    };
    let params = params.into_iter().map(|p| value(p, MOST_DEPTH)).collect::<std::result::Result<_, _>>()?;
    Ok(Request { version, id, call: Call { method, params } })
}

/// A value of a request.
fn value(json: Json, depth: usize) -> std::result::Result<Value, String> {
    let deeper = depth.checked_sub(1).ok_or("values nest too deep")?;
    Ok(match json {
        Json::Null => Value::void(),
        Json::Bool(truth) => Value::Bool(truth),
        Json::String(text) => Value::String(text),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::Int(whole),
            (None, Some(float)) if float.is_finite() => Value::Float(float),
            _ => return Err(format!("the number {number} is out of range")),
        },
        Json::Array(items) => {
            let items = items.into_iter().map(|i| value(i, deeper));
            Value::Set(items.collect::<std::result::Result<_, _>>()?)
        }
        Json::Object(members) => {
            let items = members.into_iter().map(|(k, v)| Ok((k, value(v, deeper)?)));
            Value::Map(items.collect::<std::result::Result<_, String>>()?)
        }
    })
}

/// A value as JSON: whole numbers are numbers, times and references strings.
pub fn json(value: &Value) -> Json {
    match value {
        Value::String(text) => Json::String(text.clone()),
        Value::Int(number) => json!(number),
        Value::Short(number) => json!(number),
        Value::Float(number) => json!(number),
        Value::Bool(truth) => Json::Bool(*truth),
        Value::Time(time) => Json::String(time.to_string()),
        Value::Set(items) => Json::Array(items.iter().map(json).collect()),
        Value::Map(items) => Json::Object(items.iter().map(|(k, v)| (k.clone(), json(v))).collect()),
    }
}

/// JSON as a value; as of a response, or of what was kept.
pub fn from_json(json: Json) -> std::result::Result<Value, String> {
    value(json, MOST_DEPTH)
}

/// A request as bytes (JSON-RPC 2.0).
pub fn request(call: &Call, id: u64) -> Vec<u8> {
    let params: Vec<Json> = call.params.iter().map(json).collect();
    json!({"jsonrpc": "2.0", "method": call.method, "params": params, "id": id}).to_string().into_bytes()
}

/// The response.
pub fn response(version: Version, id: &Json, result: &Result<Value>) -> Vec<u8> {
    let mut members = Map::new();
    let parts = |error: &ApiError| error.params.clone();
    match version {
        Version::One => {
            let (value, error) = match result {
                Ok(value) => (json(value), Json::Null),
                Err(error) => {
                    let words = std::iter::once(error.code.to_owned()).chain(parts(error));
                    (Json::Null, words.collect())
                }
            };
            members.insert("result".into(), value);
            members.insert("error".into(), error);
        }
        Version::Two => {
            members.insert("jsonrpc".into(), json!("2.0"));
            match result {
                Ok(value) => members.insert("result".into(), json(value)),
                Err(error) => {
                    let error = json!({"code": 1, "message": error.code, "data": parts(error)});
                    members.insert("error".into(), error)
                }
            };
        }
    }
    members.insert("id".into(), id.clone());
    Json::Object(members).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_examples() {
        let bytes =
            br#"{"method": "host.get_resident_VMs", "params": ["OpaqueRef:a", "OpaqueRef:b"], "id": "xyz"}"#;
        let request = read(bytes).unwrap();
        assert_eq!((request.version, request.call.params.len()), (Version::One, 2));
        let text = |version, result| String::from_utf8(response(version, &request.id, &result)).unwrap();
        assert_eq!(
            serde_json::from_str::<Json>(&text(Version::One, Err(ApiError::session_invalid("r")))).unwrap(),
            json!({"result": null, "error": ["SESSION_INVALID", "r"], "id": "xyz"})
        );
        assert_eq!(
            serde_json::from_str::<Json>(&text(Version::Two, Err(ApiError::session_invalid("r")))).unwrap(),
            json!({"jsonrpc": "2.0", "error": {"code": 1, "message": "SESSION_INVALID", "data": ["r"]}, "id": "xyz"})
        );
        assert_eq!(
            serde_json::from_str::<Json>(&text(Version::Two, Ok(Value::strings(["a"])))).unwrap(),
            json!({"jsonrpc": "2.0", "result": ["a"], "id": "xyz"})
        );
    }

    #[test]
    fn malformed_requests_are_named() {
        for (bytes, why) in [
            ("", "no JSON"),
            ("[]", "object"),
            (r#"{"jsonrpc":"3","method":"a","params":[],"id":1}"#, "JSON-RPC"),
            (r#"{"method":"a","params":[]}"#, "id"),
            (r#"{"method":"a","params":[],"id":null}"#, "id"),
            (r#"{"params":[],"id":1}"#, "method"),
            (r#"{"method":"a","id":1}"#, "params"),
        ] {
            let error = read(bytes.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{bytes}: {error}");
        }
        let deep = format!(r#"{{"method":"a","params":[{}{}],"id":1}}"#, "[".repeat(40), "]".repeat(40));
        assert!(read(deep.as_bytes()).is_err());
    }
}
