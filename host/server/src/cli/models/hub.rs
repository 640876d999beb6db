//! A hub of models, asked over HTTP: which files a repository has, and their bytes from any place on.
//!
//! The paths are those of the Hugging Face hub. Written on the client that the other commands use: the hub's own crate would
//! bring a second HTTP stack and a second TLS. The token goes to the hub alone, never to where it sends us for the bytes.

use std::time::Duration;

use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HOST, LOCATION, RANGE, USER_AGENT};
use axum::http::{HeaderMap, HeaderName, Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::cli::Failure;
use crate::cli::tls::secured;

/// Where models are pulled from, if nothing else is said.
pub(super) const ENDPOINT: &str = "https://huggingface.co";
/// How often an answer may send us elsewhere.
const MAX_REDIRECTS: usize = 8;
/// The longest list of files.
const MAX_LIST: usize = 16 << 20;
/// The most files of a repository.
const MAX_FILES: usize = 10_000;
/// The longest wait for anything to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A hub.
#[derive(Debug)]
pub(super) struct Hub {
    endpoint: Url,
    token: Option<String>,
}

/// What a repository holds at one commit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Repository {
    pub(super) commit: String,
    pub(super) files: Vec<String>,
}

/// Why a file does not come.
#[derive(Debug)]
pub(super) enum Missed {
    /// The hub was not reached or broke off: it may come another time.
    Way(Failure),
    /// The hub answered that it will not give it.
    Answer(Failure),
}

/// The bytes of a file as they come.
pub(super) struct Download {
    body: Incoming,
    /// The first byte that comes; less than was asked for when the hub begins anew.
    pub(super) from: u64,
    /// The length of the whole file, if the hub tells.
    pub(super) length: Option<u64>,
    /// The SHA-256 of the whole file, if the hub tells.
    pub(super) sha256: Option<String>,
    _connection: AbortOnDropHandle<hyper::Result<()>>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    /// What the hub itself said before it sent us elsewhere.
    linked: HeaderMap,
    body: Incoming,
    connection: AbortOnDropHandle<hyper::Result<()>>,
}

impl Hub {
    pub(super) fn new(endpoint: &str, token: Option<&str>) -> Result<Self, Failure> {
        let endpoint =
            Url::parse(endpoint).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let endpoint = endpoint.ok_or_else(|| Failure::new("the hub's endpoint must be an http or https address"))?;
        Ok(Self { endpoint, token: token.map(str::to_owned) })
    }

    /// What a repository `owner/name` holds at a branch, tag or commit.
    pub(super) async fn repository(&self, name: &str, revision: &str) -> Result<Repository, Failure> {
        #[derive(Deserialize)]
        struct Raw {
            sha: String,
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        let url = self.url(&format!("api/models/{name}/revision/{revision}"))?;
        let answer = self.get(url, 0).await?;
        let what = format!("{name} at {revision}");
        if !answer.status.is_success() {
            return Err(refused(&what, answer.status));
        }
        let body = tokio::time::timeout(PATIENCE, Limited::new(answer.body, MAX_LIST).collect()).await;
        drop(answer.connection);
        let body = body
            .map_err(|_| late())?
            .map_err(|error| Failure::new(format!("the list of {what} broke off: {error}")))?;
        let raw: Raw = serde_json::from_slice(&body.to_bytes())
            .map_err(|error| Failure::new(format!("the hub's list of {what} is not what it should be: {error}")))?;
        let is_commit = !raw.sha.is_empty() && raw.sha.chars().all(|c| c.is_ascii_hexdigit());
        if !is_commit || raw.siblings.len() > MAX_FILES {
            return Err(Failure::new(format!(
                "the hub's list of {what} names no commit, or more than {MAX_FILES} files"
            )));
        }
        let files: Vec<_> = raw.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
        if let Some(bad) = files.iter().find(|file| !is_plain(file)) {
            return Err(Failure::new(format!("the hub's list of {what} has the file {bad:?}, which leads elsewhere")));
        }
        Ok(Repository { commit: raw.sha, files })
    }

    /// Begins to fetch a file from a byte on.
    pub(super) async fn download(&self, name: &str, commit: &str, file: &str, from: u64) -> Result<Download, Missed> {
        let url = self.url(&format!("{name}/resolve/{commit}/{file}")).map_err(Missed::Answer)?;
        let mut answer = self.get(url.clone(), from).await.map_err(Missed::Way)?;
        if answer.status == StatusCode::RANGE_NOT_SATISFIABLE && from > 0 {
            // More is kept than the file has: it is fetched anew.
            answer = self.get(url, 0).await.map_err(Missed::Way)?;
        }
        let header = |headers: &HeaderMap, name: &str| {
            let value = headers.get(HeaderName::from_bytes(name.as_bytes()).ok()?)?;
            Some(value.to_str().ok()?.trim_start_matches("W/").trim_matches('"').to_owned())
        };
        let own = |name: &str| header(&answer.linked, name).or_else(|| header(&answer.headers, name));
        let number = |text: Option<String>| text.and_then(|text| text.parse::<u64>().ok());
        let rest = number(header(&answer.headers, CONTENT_LENGTH.as_str()));
        let (from, whole) = match answer.status {
            StatusCode::PARTIAL_CONTENT => {
                let range = header(&answer.headers, CONTENT_RANGE.as_str()).unwrap_or_default();
                let range = range.strip_prefix("bytes ").and_then(|range| range.split_once('/'));
                let begin =
                    range.and_then(|(range, _)| range.split_once('-')).and_then(|(begin, _)| begin.parse().ok());
                if begin != Some(from) {
                    let message = format!("the hub answered with another part of {file} than was asked for");
                    return Err(Missed::Answer(Failure::new(message)));
                }
                (from, range.and_then(|(_, whole)| whole.parse().ok()))
            }
            StatusCode::OK => (0, rest),
            status if status.is_server_error() => return Err(Missed::Way(refused(file, status))),
            status => return Err(Missed::Answer(refused(file, status))),
        };
        let is_sha256 = |etag: &String| etag.len() == 64 && etag.chars().all(|c| c.is_ascii_hexdigit());
        let sha256 = own("x-linked-etag").or_else(|| own(ETAG.as_str())).filter(is_sha256);
        let length = number(own("x-linked-size")).or(whole);
        Ok(Download { body: answer.body, from, length, sha256, _connection: answer.connection })
    }

    fn url(&self, path: &str) -> Result<Url, Failure> {
        let mut url = self.endpoint.clone();
        let wrong = || Failure::new("the hub's endpoint cannot be a base of addresses");
        url.path_segments_mut().map_err(|()| wrong())?.pop_if_empty().extend(path.split('/'));
        Ok(url)
    }

    /// Asks, and goes where the answers send us.
    async fn get(&self, mut url: Url, from: u64) -> Result<Answer, Failure> {
        let mut linked = HeaderMap::new();
        for _ in 0..=MAX_REDIRECTS {
            let (status, headers, body, connection) =
                tokio::time::timeout(PATIENCE, self.ask(&url, from)).await.map_err(|_| late())??;
            let to = headers.get(LOCATION).filter(|_| status.is_redirection()).and_then(|to| to.to_str().ok());
            let Some(to) = to else { return Ok(Answer { status, headers, linked, body, connection }) };
            let next = url.join(to).map_err(|_| Failure::new("the hub sent us to what is no address"))?;
            if next.scheme() != "https" && (url.scheme() == "https" || next.scheme() != "http") {
                return Err(Failure::new(format!("the hub sent us from https to {}", next.scheme())));
            }
            if linked.is_empty() && url.origin() == self.endpoint.origin() {
                linked = headers;
            }
            url = next;
        }
        Err(Failure::new(format!("the hub sent us elsewhere more than {MAX_REDIRECTS} times")))
    }

    async fn ask(
        &self,
        url: &Url,
        from: u64,
    ) -> Result<(StatusCode, HeaderMap, Incoming, AbortOnDropHandle<hyper::Result<()>>), Failure> {
        let unreachable = |error: &dyn std::fmt::Display| Failure {
            message: format!("{} cannot be reached: {error}", url.origin().ascii_serialization()),
            hint: Some("what came so far is kept; the same command goes on from there".to_owned()),
        };
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or(443);
        let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let mut request = Request::builder()
            .uri(path)
            .header(HOST, authority)
            .header(USER_AGENT, concat!("easel/", env!("CARGO_PKG_VERSION")));
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        if let Some(token) = self.token.as_ref().filter(|_| url.origin() == self.endpoint.origin()) {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Empty::<Bytes>::new());
        let request = request.map_err(|_| Failure::new("the token or an address holds what cannot be sent"))?;
        let bare = host.trim_matches(['[', ']']);
        let stream = TcpStream::connect((bare, port)).await.map_err(|error| unreachable(&error))?;
        let sent = match url.scheme() {
            "https" => send(secured(stream, bare).await.map_err(|error| unreachable(&error))?, request).await,
            _ => send(stream, request).await,
        };
        sent.map_err(|error| unreachable(&error))
    }
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Empty<Bytes>>,
) -> hyper::Result<(StatusCode, HeaderMap, Incoming, AbortOnDropHandle<hyper::Result<()>>)> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let (parts, body) = sender.send_request(request).await?.into_parts();
    Ok((parts.status, parts.headers, body, connection))
}

impl Download {
    /// The next bytes; nothing at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.map_err(|_| late())?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(Failure::new(format!("the hub broke off: {error}"))),
                // Trailers are no bytes of the file.
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }
}

/// Whether a file's name stays within the repository's folder.
fn is_plain(file: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part != "." && part != "..";
    !file.contains(['\\', ':', '\0']) && file.split('/').all(is_part) && file.len() <= 500
}

fn late() -> Failure {
    Failure::new(format!("the hub did not answer within {PATIENCE:?}"))
        .with_hint("what came so far is kept; the same command goes on from there")
}

fn refused(what: &str, status: StatusCode) -> Failure {
    let failure = Failure::new(format!("the hub answered {status} for {what}"));
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => failure
            .with_hint("set HF_TOKEN to a token that may read it; some models ask you to accept their terms first"),
        StatusCode::NOT_FOUND => failure.with_hint("write it as OWNER/NAME, or OWNER/NAME@REVISION"),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn names_of_files_stay_within_the_folder() {
        assert!(is_plain("unet/config.json") && is_plain("a b.safetensors"));
        for bad in ["", "/etc/x", "../x", "a/../x", "a//b", "a\\b", "c:x", "./x"] {
            assert!(!is_plain(bad), "{bad}");
        }
    }
}
