//! The running server, asked by a command. One request on one connection; the operator's key comes from the environment
//! and stands in no argument, where other users of the machine could read it.

use std::path::Path;
use std::time::Duration;

use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{Method, Request, StatusCode};
use clap::Args;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use url::Url;

use crate::cli::{Failure, runtime};
use crate::config::Environment;

/// The variable with the key.
const KEY: &str = "EASEL_ADMIN_KEY";
/// The longest wait for an answer: a plugin that is loaded again may have to be compiled.
const PATIENCE: Duration = Duration::from_secs(300);
/// The longest answer.
const MAX_ANSWER: usize = 16 << 20;

/// Which server is asked.
#[derive(Args, Clone, Debug)]
pub(super) struct ServerOptions {
    /// Where the server is; its operator's key is taken from EASEL_ADMIN_KEY, where it needs one
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7860")]
    url: String,
}

impl ServerOptions {
    /// Asks, and gives the JSON that came back.
    pub(super) fn ask(&self, method: Method, path: &str) -> Result<Value, Failure> {
        let environment = Environment::of_process(Path::new("."))?;
        let asked = exchange(&self.url, method, path, environment.get(KEY));
        let (status, body) = runtime()?.block_on(async {
            let late = |_| Failure::new(format!("{} did not answer within {PATIENCE:?}", self.url));
            tokio::time::timeout(PATIENCE, asked).await.map_err(late)?
        })?;
        let answer: Option<Value> = serde_json::from_slice(&body).ok();
        match answer {
            Some(answer) if status.is_success() => Ok(answer),
            answer => Err(refused(&self.url, status, answer.as_ref())),
        }
    }
}

async fn exchange(base: &str, method: Method, path: &str, key: Option<&str>) -> Result<(StatusCode, Vec<u8>), Failure> {
    let (host, port) = address(base)?;
    let unreachable = |error: &dyn std::fmt::Display| Failure {
        message: format!("no server answers at {base}: {error}"),
        hint: Some("start one with easel serve, or say where it is with --url".to_owned()),
    };
    let stream =
        TcpStream::connect((host.trim_matches(['[', ']']), port)).await.map_err(|error| unreachable(&error))?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(|error| unreachable(&error))?;
    let connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let mut request = Request::builder().method(method).uri(path).header(HOST, format!("{host}:{port}"));
    if let Some(key) = key {
        request = request.header(AUTHORIZATION, format!("Bearer {key}"));
    }
    let request = request.body(Empty::<bytes::Bytes>::new());
    let request = request.map_err(|_| Failure::new(format!("{KEY} holds what cannot be sent in a header")))?;
    let response = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    drop(connection);
    Ok((status, body.map_err(|error| unreachable(&error))?.to_bytes().to_vec()))
}

/// Host and port of a server.
fn address(base: &str) -> Result<(String, u16), Failure> {
    let wrong = |what: &str| Failure {
        message: format!("--url {base:?} {what}"),
        hint: Some("write it as in http://127.0.0.1:7860".to_owned()),
    };
    let url = Url::parse(base).map_err(|_| wrong("is not an address"))?;
    if url.scheme() != "http" {
        return Err(wrong("is not http: this command speaks no TLS, ask on the server's own machine"));
    }
    let host = url.host_str().ok_or_else(|| wrong("names no host"))?;
    Ok((host.to_owned(), url.port_or_known_default().unwrap_or(80)))
}

/// What the server said instead of an answer.
fn refused(base: &str, status: StatusCode, answer: Option<&Value>) -> Failure {
    let text = |key: &str| answer.and_then(|answer| answer["error"][key].as_str()).map(str::to_owned);
    let message = text("message").unwrap_or_else(|| format!("{base} answered {status}, which no easel does"));
    let hint = match status {
        StatusCode::UNAUTHORIZED => Some(format!("set {KEY} to a key that may administer the server")),
        _ => text("hint"),
    };
    Failure { message, hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_read_from_the_url() {
        let read = |url: &str| address(url).map_err(|failure| failure.message);
        assert_eq!(read("http://127.0.0.1:7860").unwrap(), ("127.0.0.1".to_owned(), 7860));
        assert_eq!(read("http://[::1]:80/x").unwrap(), ("[::1]".to_owned(), 80));
        assert_eq!(read("http://box").unwrap(), ("box".to_owned(), 80));
        assert!(read("https://box").unwrap_err().contains("speaks no TLS"));
        assert!(read("box:7860").is_err() && read("here").is_err());
    }

    #[test]
    fn refusal_of_the_server_is_told_in_its_words() {
        let answer = serde_json::json!({ "error": { "message": "no such thing", "hint": "try another" } });
        let failure = refused("http://x", StatusCode::NOT_FOUND, Some(&answer));
        assert_eq!((failure.message.as_str(), failure.hint.as_deref()), ("no such thing", Some("try another")));
        let failure = refused("http://x", StatusCode::UNAUTHORIZED, None);
        assert!(failure.hint.unwrap().contains(KEY) && failure.message.contains("401"));
    }
}
