//! Both wire formats: what is written is read again, and any bytes are read or refused.

use proptest::prelude::*;
use radon_api::{ApiError, Call, Time, Value, jsonrpc, xmlrpc};
use std::collections::BTreeMap;

/// Text that XML can hold.
fn text() -> impl Strategy<Value = String> {
    "[ \t\n\ra-z<>&\"'\u{e9}\u{1f600}\\]]{0,12}"
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        text().prop_map(Value::String),
        any::<bool>().prop_map(Value::Bool),
        (-1e9..1e9f64).prop_map(Value::Float),
        (0i64..4_000_000_000).prop_map(|s| Value::Time(Time(s))),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Set),
            prop::collection::btree_map(text(), inner, 0..5).prop_map(Value::Map),
        ]
    })
}

/// JSON has no type for times.
fn without_times(value: Value) -> Value {
    match value {
        Value::Time(time) => Value::String(time.to_string()),
        Value::Set(items) => Value::Set(items.into_iter().map(without_times).collect()),
        Value::Map(items) => Value::Map(items.into_iter().map(|(k, v)| (k, without_times(v))).collect()),
        other => other,
    }
}

proptest! {
    #[test]
    fn xml_there_and_back(method in "[A-Za-z._]{1,20}", params in prop::collection::vec(value(), 0..4)) {
        let call = Call { method, params };
        prop_assert_eq!(xmlrpc::read(&xmlrpc::request(&call)), Ok(call));
    }

    #[test]
    fn json_there_and_back(method in "\\PC{1,20}", params in prop::collection::vec(value(), 0..4), id: u64) {
        let params: Vec<Value> = params.into_iter().map(without_times).collect();
        let call = Call { method, params };
        let request = jsonrpc::read(&jsonrpc::request(&call, id)).unwrap();
        prop_assert_eq!(request.call, call);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = xmlrpc::read(&bytes);
        let _ = xmlrpc::read_value(&bytes);
        let _ = jsonrpc::read(&bytes);
    }

    #[test]
    fn a_damaged_request_is_read_or_refused(params in prop::collection::vec(value(), 0..4), at: prop::sample::Index, byte: u8) {
        let call = Call { method: "VM.start".into(), params };
        for mut bytes in [xmlrpc::request(&call), jsonrpc::request(&call, 1)] {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = xmlrpc::read(&bytes);
            let _ = jsonrpc::read(&bytes);
            let _ = xmlrpc::read(&bytes[..at]);
            let _ = jsonrpc::read(&bytes[..at]);
        }
    }
}

#[test]
fn what_pythons_xmlrpc_client_sends() {
    let bytes = b"<?xml version='1.0'?>\n<methodCall>\n<methodName>VM.create</methodName>\n<params>\n<param>\n\
        <value><string>OpaqueRef:1</string></value>\n</param>\n<param>\n<value><struct>\n<member>\n<name>name_label</name>\n\
        <value><string>a &lt; b</string></value>\n</member>\n<member>\n<name>VCPUs_max</name>\n<value><int>2</int></value>\n\
        </member>\n<member>\n<name>tags</name>\n<value><array><data>\n<value> x </value>\n</data></array></value>\n</member>\n\
        <member><name>none</name><value><nil/></value></member><member><name>e</name><value/></member>\
        </struct></value>\n</param>\n</params>\n</methodCall>\n";
    let call = xmlrpc::read(bytes).unwrap();
    assert_eq!(call.method, "VM.create");
    let record = BTreeMap::from([
        ("name_label".to_owned(), Value::from("a < b")),
        ("VCPUs_max".to_owned(), Value::Int(2)),
        ("tags".to_owned(), Value::strings([" x "])),
        ("none".to_owned(), Value::from("")),
        ("e".to_owned(), Value::from("")),
    ]);
    assert_eq!(call.params, [Value::from("OpaqueRef:1"), Value::Map(record)]);
}

#[test]
fn responses_as_the_protocol_has_them() {
    let text = |result| String::from_utf8(xmlrpc::response(&result)).unwrap();
    let success = text(Ok(Value::Int(5_000_000_000)));
    assert!(success.contains("<name>Status</name><value><string>Success</string></value>"), "{success}");
    assert!(success.contains("<name>Value</name><value><string>5000000000</string></value>"), "{success}");
    let failure = text(Err(ApiError::handle_invalid("VM", "r\u{1}")));
    assert!(
        failure.contains(
            "<name>ErrorDescription</name><value><array><data><value><string>HANDLE_INVALID</string>"
        )
    );
    assert!(failure.contains("r\u{fffd}"), "a character that XML cannot hold");
}

#[test]
fn hostile_documents_are_refused() {
    for bad in [
        "<!DOCTYPE x [<!ENTITY a 'b'>]><methodCall><methodName>&a;</methodName></methodCall>",
        "<methodCall><methodName>&a;</methodName></methodCall>",
        "<methodCall><methodName>a</methodName></methodCall><x/>",
        "<methodCall><methodName>a</methodName><params><param></param></params></methodCall>",
        "<methodCall><methodName>a</methodName><params><param><value>x<int>1</int></value></param></params></methodCall>",
        "<methodCall><methodName>a</methodName><params><param><value><int>9999999999999999999</int></value></param></params></methodCall>",
    ] {
        assert!(xmlrpc::read(bad.as_bytes()).is_err(), "{bad}");
    }
    let deep =
        format!("{}{}", "<value><array><data>".repeat(100_000), "</data></array></value>".repeat(100_000));
    assert!(xmlrpc::read_value(deep.as_bytes()).unwrap_err().contains("deep"));
}
