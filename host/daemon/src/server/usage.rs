//! `GET /usage?session_id=...`: what the host and its running VMs have used, as counters, for who may look. Rates are made of two answers:
//! `time_ns` is the clock that the counters are to be divided by.

use super::http::{Body, full, plain};
use super::transfer::{failure, query};
use crate::app::App;
use crate::domains::Usage;
use crate::messages::text;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use radon_api::{ApiError, Result};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// The answer.
pub(super) async fn answer(app: Arc<App>, request: Request<Incoming>) -> Response<Body> {
    let query = query(&request);
    match tokio::task::spawn_blocking(move || collect(&app, &query)).await {
        Ok(Ok(usage)) => {
            let mut response = Response::new(full(usage.to_string()));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store"));
            response
        }
        Ok(Err(error)) => failure(&error),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the call ended in a panic; radond's log has it"),
    }
}

fn collect(app: &App, query: &HashMap<String, String>) -> Result<Value> {
    // Every role may look.
    app.sessions.find(query.get("session_id").map(String::as_str).unwrap_or_default())?;
    let usage = app.domains.usage().map_err(ApiError::internal)?;
    let time_ns = u64::try_from(app.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    Ok(shown(app, &usage, time_ns))
}

fn shown(app: &App, usage: &Usage, time_ns: u64) -> Value {
    let state = app.database.state();
    let name = |domid: u16, uuid: &str| match state.by_uuid("VM", uuid).map(|vm| state.object("VM", vm)) {
        Some(Ok(vm)) => text(&vm.row, "name_label").to_owned(),
        // dom0, or a domain that another toolstack made.
        _ => format!("Domain-{domid}"),
    };
    let mut vms: Vec<Value> = Vec::new();
    for domain in &usage.domains {
        let uuid = domain.vm.to_string();
        vms.push(json!({
            "domid": domain.domid, "name": name(domain.domid, &uuid), "uuid": uuid, "vcpus": domain.vcpus,
            "cpu_ns": domain.cpu_ns, "memory": domain.memory, "read": domain.io.read, "written": domain.io.written,
            "sent": domain.io.sent, "received": domain.io.received,
        }));
    }
    let host = json!({
        "cpus": state.count("host_cpu"), "memory": usage.memory_total, "memory_free": usage.memory_free,
        "name": state.text("host", &app.host, "name_label").unwrap_or_default(),
    });
    json!({"time_ns": time_ns, "host": host, "vms": vms})
}
