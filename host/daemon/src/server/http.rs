//! Requests by path and method.

use super::{console, transfer, usage};
use crate::app::App;
use crate::dispatch;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use radon_api::{ApiError, Call, Result as ApiResult, Value, jsonrpc, xmlrpc};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The largest request, in bytes: records are a few KiB. Whoever sends it need not have logged in.
const MOST: usize = 1 << 20;
/// How long a request's body may take; of a volume's content, how long the next piece may.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A response's body.
pub(super) type Body = BoxBody<Bytes, io::Error>;

/// All of a body at once.
pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed()
}

pub(super) fn plain(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(full(format!("{}\n", text.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn wrong_method(allowed: &'static str) -> Response<Body> {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, format!("use {allowed}"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// The answer to a request.
pub(super) async fn answer(app: Arc<App>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let response = match (path.as_str(), request.method()) {
        ("/" | "/RPC2", &Method::POST) => rpc(app, request, by_xml).await,
        ("/jsonrpc", &Method::POST) => rpc(app, request, by_json).await,
        ("/" | "/RPC2" | "/jsonrpc", _) => wrong_method("POST"),
        ("/import_raw_vdi", &Method::PUT) => transfer::import(app, request).await,
        ("/import_raw_vdi", _) => wrong_method("PUT"),
        ("/export_raw_vdi", &Method::GET) => transfer::export(app, request).await,
        ("/usage", &Method::GET) => usage::answer(app, request).await,
        ("/usage", _) => wrong_method("GET"),
        ("/console", _) => console::answer(app, request).await,
        ("/export_raw_vdi", _) => wrong_method("GET"),
        _ => plain(StatusCode::NOT_FOUND, "XenAPI is at /RPC2 and /jsonrpc"),
    };
    Ok(response)
}

/// From a request's bytes to the content type and bytes of its answer; an error if it is no request at all.
type Format = fn(&Arc<App>, &[u8]) -> Result<(&'static str, Vec<u8>), String>;

/// Reads a request's body, carries the call out in a thread of its own, and answers.
async fn rpc(app: Arc<App>, request: Request<Incoming>, by: Format) -> Response<Body> {
    let body = Limited::new(request.into_body(), MOST).collect();
    let bytes = match tokio::time::timeout(PATIENCE, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) => {
            return plain(StatusCode::PAYLOAD_TOO_LARGE, format!("the request cannot be read: {error}"));
        }
        Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "the rest of the request did not come"),
    };
    match tokio::task::spawn_blocking(move || by(&app, &bytes)).await {
        Ok(Ok((kind, bytes))) => {
            let mut response = Response::new(full(bytes));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store"));
            response
        }
        // XenAPI's answer to what is no request at all.
        Ok(Err(why)) => plain(StatusCode::INTERNAL_SERVER_ERROR, why),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the call ended in a panic; radond's log has it"),
    }
}

fn carry_out(app: &Arc<App>, call: Call) -> ApiResult<Value> {
    // What a handler must never do; other clients are not to suffer for it.
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| dispatch::call(app, call)));
    caught.unwrap_or_else(|_| Err(ApiError::internal("the call ended in a panic; radond's log has it")))
}

fn by_xml(app: &Arc<App>, bytes: &[u8]) -> Result<(&'static str, Vec<u8>), String> {
    let call = xmlrpc::read(bytes)?;
    Ok(("text/xml", xmlrpc::response(&carry_out(app, call))))
}

fn by_json(app: &Arc<App>, bytes: &[u8]) -> Result<(&'static str, Vec<u8>), String> {
    let request = jsonrpc::read(bytes)?;
    let result = carry_out(app, request.call);
    Ok(("application/json", jsonrpc::response(request.version, &request.id, &result)))
}
