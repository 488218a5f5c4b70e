//! XenAPI over JSON-RPC.

use crate::Failed;
use crate::http::Server;
use serde_json::{Value, json};
use std::io::Read;

/// A session with a host.
pub struct Client {
    server: Server,
    session: String,
    /// It was made for this command, and ends with it.
    own: bool,
}

/// The largest answer, in bytes.
const MOST: u64 = 256 << 20;

impl Client {
    /// A new session.
    pub fn login(server: Server, user: &str, password: &str) -> Result<Self, Failed> {
        let session = raw(
            &server,
            "session.login_with_password",
            &[json!(user), json!(password), json!("2.21"), json!("radon")],
        )?;
        let session = session.as_str().ok_or("the host gives no session")?.to_owned();
        Ok(Self { server, session, own: true })
    }

    /// A session that was made before.
    pub fn resume(server: Server, session: String) -> Self {
        Self { server, session, own: false }
    }

    /// Its secret reference; the session stays when the client goes.
    pub fn session(mut self) -> String {
        self.own = false;
        std::mem::take(&mut self.session)
    }

    /// The reference, for a request that is no message.
    pub fn reference(&self) -> &str {
        &self.session
    }

    /// The host.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Calls a message.
    pub fn call(&self, message: &str, arguments: &[Value]) -> Result<Value, Failed> {
        let mut params = vec![json!(self.session)];
        params.extend_from_slice(arguments);
        raw(&self.server, message, &params)
    }

    /// Calls a message that answers text: a reference, most often.
    pub fn text(&self, message: &str, arguments: &[Value]) -> Result<String, Failed> {
        let answer = self.call(message, arguments)?;
        answer.as_str().map(str::to_owned).ok_or_else(|| format!("{message} answers {answer}").into())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if self.own {
            // It would end by itself after a day.
            let _ = raw(&self.server, "session.logout", &[json!(self.session)]);
        }
    }
}

fn raw(server: &Server, message: &str, params: &[Value]) -> Result<Value, Failed> {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": message, "params": params}).to_string();
    let answer = server.request("POST", "/jsonrpc", body.len() as u64, &mut body.as_bytes())?;
    let mut bytes = Vec::new();
    answer.take(MOST).read_to_end(&mut bytes)?;
    let mut answer: Value =
        serde_json::from_slice(&bytes).map_err(|e| format!("the host's answer is no JSON: {e}"))?;
    match answer.get("error") {
        None => Ok(answer.get_mut("result").map(Value::take).unwrap_or_default()),
        Some(error) => Err(failure(error).into()),
    }
}

/// An error for people: the code, what it means, and its parameters.
fn failure(error: &Value) -> String {
    let code = error["message"].as_str().unwrap_or("no code");
    let known = radon_api::error::CODES.iter().find(|c| c.0 == code);
    let params: Vec<&str> =
        error["data"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let params: Vec<&str> = params.into_iter().filter(|p| !p.is_empty()).collect();
    let meaning = known.map_or("", |c| c.2);
    let cure = if code == "SESSION_INVALID" { " (radon login)" } else { "" };
    format!("{meaning}{cure} [{code} {}]", params.join(", "))
}
