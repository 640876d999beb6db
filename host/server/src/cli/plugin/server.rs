//! The running server, asked by a command. One request on one connection, with TLS (`tls.rs`) where the address says so;
//! the operator's key comes from the environment and stands in no argument, where other users of the machine could read it.

use std::path::Path;
use std::time::Duration;

use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{Method, Request, Response, StatusCode};
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::cli::tls::secured;
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
    /// Where the server is, http or https; its operator's key is taken from EASEL_ADMIN_KEY, where it needs one
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
    let Address { scheme, host, port } = address(base)?;
    let unreachable = |error: &dyn std::fmt::Display| Failure {
        message: format!("no server answers at {base}: {error}"),
        hint: Some("start one with easel serve, or say where it is with --url".to_owned()),
    };
    let mut request = Request::builder().method(method).uri(path).header(HOST, format!("{host}:{port}"));
    if let Some(key) = key {
        request = request.header(AUTHORIZATION, format!("Bearer {key}"));
    }
    let request = request.body(Empty::<Bytes>::new());
    let request = request.map_err(|_| Failure::new(format!("{KEY} holds what cannot be sent in a header")))?;
    let bare = host.trim_matches(['[', ']']);
    let stream = TcpStream::connect((bare, port)).await.map_err(|error| unreachable(&error))?;
    let sent = match scheme {
        Scheme::Http => send(stream, request).await,
        Scheme::Https => send(secured(stream, bare).await.map_err(|error| distrusted(base, &error))?, request).await,
    };
    let (response, connection) = sent.map_err(|error| unreachable(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    drop(connection);
    Ok((status, body.map_err(|error| unreachable(&error))?.to_bytes().to_vec()))
}

/// Sends a request; the answer's body comes for as long as the connection is held.
async fn send(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Empty<Bytes>>,
) -> hyper::Result<(Response<Incoming>, AbortOnDropHandle<hyper::Result<()>>)> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = AbortOnDropHandle::new(tokio::spawn(connection));
    Ok((sender.send_request(request).await?, connection))
}

fn distrusted(base: &str, error: &std::io::Error) -> Failure {
    Failure {
        message: format!("{base} does not prove that it is that server: {error}"),
        hint: Some(
            "name the certificates that you trust in SSL_CERT_FILE, or ask by the name in its certificate".to_owned(),
        ),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

/// Where a server is.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    scheme: Scheme,
    host: String,
    port: u16,
}

fn address(base: &str) -> Result<Address, Failure> {
    let wrong = |what: &str| Failure {
        message: format!("--url {base:?} {what}"),
        hint: Some("write it as in http://127.0.0.1:7860 or https://easel.example.org".to_owned()),
    };
    let url = Url::parse(base).map_err(|_| wrong("is not an address"))?;
    let scheme = match url.scheme() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return Err(wrong("is neither http nor https")),
    };
    let host = url.host_str().ok_or_else(|| wrong("names no host"))?;
    let port = url.port_or_known_default().ok_or_else(|| wrong("names no port"))?;
    Ok(Address { scheme, host: host.to_owned(), port })
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
        let read = |url: &str| {
            let told = |Address { scheme, host, port }| format!("{scheme:?} {host} {port}");
            address(url).map(told).map_err(|failure| failure.message)
        };
        let rows = [
            ("http://127.0.0.1:7860", "Http 127.0.0.1 7860"),
            ("http://[::1]:80/x", "Http [::1] 80"),
            ("http://box", "Http box 80"),
            ("https://box", "Https box 443"),
            ("https://box:8800", "Https box 8800"),
        ];
        for (url, expected) in rows {
            assert_eq!(read(url).as_deref(), Ok(expected));
        }
        assert!(read("ftp://box").unwrap_err().contains("neither http nor https"));
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
