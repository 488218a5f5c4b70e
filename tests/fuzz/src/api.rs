//! XenAPI's wire formats and filters: any bytes from a client.

use radon_api::filter::Filter;
use radon_api::{jsonrpc, xmlrpc};
use std::collections::BTreeMap;

/// What is read is written so that it is read the same.
pub fn xmlrpc(data: &[u8]) {
    let _ = xmlrpc::read_value(data);
    if let Ok(call) = xmlrpc::read(data) {
        let again = xmlrpc::read(&xmlrpc::request(&call)).expect("what was written can be read");
        assert_eq!(again.params.len(), call.params.len());
    }
}

/// The same.
pub fn jsonrpc(data: &[u8]) {
    if let Ok(request) = jsonrpc::read(data) {
        let again = jsonrpc::read(&jsonrpc::request(&request.call, 1)).expect("what was written can be read");
        assert_eq!(again.call, request.call);
    }
}

/// Expressions of `get_all_records_where`.
pub fn filter(data: &[u8]) {
    if let Some(filter) = std::str::from_utf8(data).ok().and_then(|t| Filter::parse(t).ok()) {
        filter.fits(&BTreeMap::new());
    }
}
