//! The door: the one place through which a plugin's outbound request leaves, whether it came by `fetch` or `wasi:http`.
//!
//! Grant → literal address → resolved address → that very address → limits → send. Redirects are hops of their own,
//! each authorised again. Credentials are added here, after the plugin has let go of the request, and the headers that
//! carry them are hidden from it. The door does not know the contract: `host/fetch.rs` and `wasi.rs` translate.

mod address;
mod body;
mod client;
mod credential;
mod grant;
mod origin;
mod wasi;

use std::error::Error as StdError;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use reqwest::{Request, Response};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use url::{Host, Url};

pub(crate) use body::Pieces;
#[cfg(test)]
pub(crate) use body::wire;
pub(crate) use client::Tls;
pub(crate) use grant::{Denial, Grant, Reach};
pub(crate) use origin::Origin;
pub(crate) use wasi::{Hooks, hidden_headers};

use crate::HostLimits;
use crate::refusal::Refusal;

/// The most redirects that are followed.
const MAX_REDIRECTS: usize = 5;

/// One plugin's way out.
#[derive(Debug)]
pub(crate) struct Door {
    grant: Grant,
    clients: client::Clients,
    limits: HostLimits,
    /// Connections live on this runtime, not on the guests', where a spinning guest would stall them.
    io: Handle,
}

/// A request that is to leave.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// The credential to add, by its name in the manifest.
    pub(crate) credential: Option<String>,
    /// The longest wait for the head of the answer.
    pub(crate) first_byte: Option<Duration>,
    /// The longest time to the end of the answer.
    pub(crate) total: Option<Duration>,
}

/// What is sent with it.
pub(crate) enum Body {
    /// Pieces, which can be sent again after a redirect.
    Pieces(Pieces),
    /// A stream, its length if that was declared; redirects are answers to whoever sends it.
    Stream(reqwest::Body, Option<u64>),
}

/// An answer, its body not yet read.
#[derive(Debug)]
pub(crate) struct Incoming {
    response: Response,
    until: Instant,
    /// The bytes that may still come, of this many.
    left: u64,
    most: u64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DoorError {
    #[error("{}", .0.message)]
    Denied(Denial),
    #[error("{0}")]
    Address(address::Refused),
    #[error("the header {0:?} is set by the host, not by plugins")]
    Header(String),
    #[error("the manifest has no credential {0:?}, or the operator has not supplied it")]
    Credential(String),
    #[error("a call may send at most {0} requests, redirects included")]
    Requests(u32),
    #[error("the {what} is longer than {most} bytes")]
    Length { what: &'static str, most: u64 },
    #[error("{host} did not {what} within {limit:?}")]
    Timeout { host: String, what: &'static str, limit: Duration },
    #[error("{host} redirects more than {MAX_REDIRECTS} times")]
    Redirects { host: String },
    #[error("{host} could not be reached: {cause}")]
    Connect { host: String, cause: String },
    #[error("the exchange with {host} broke: {cause}")]
    Broken { host: String, cause: String },
}

/// What one call has done at the door.
#[derive(Debug, Default)]
pub(crate) struct Visits {
    requests: AtomicU32,
    denial: Mutex<Option<Denial>>,
}

impl Visits {
    /// The last refusal, with the line that would lift it.
    pub(crate) fn last_denial(&self) -> Option<Denial> {
        self.denial.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Door {
    pub(crate) fn new(grant: Grant, limits: HostLimits, tls: &Tls, io: Handle) -> Result<Self, Refusal> {
        let clients = client::Clients::new(tls, &grant, &limits)?;
        Ok(Self { grant, clients, limits, io })
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn send(self: &Arc<Self>, visits: &Visits, outgoing: Outgoing) -> Result<Incoming, DoorError> {
        let until = Instant::now() + outgoing.total.unwrap_or(self.limits.exchange).min(self.limits.exchange);
        let wait = outgoing.first_byte.unwrap_or(self.limits.first_byte).min(self.limits.first_byte);
        let credential = match outgoing.credential.as_deref() {
            Some(name) => {
                Some(self.grant.credentials().get(name).ok_or_else(|| DoorError::Credential(name.to_owned()))?)
            }
            None => None,
        };
        self.check_headers(&outgoing.headers)?;
        let first = Origin::of(&outgoing.url);

        let Outgoing { mut method, mut url, mut headers, body, .. } = outgoing;
        let (mut pieces, mut stream) = match body {
            Body::Pieces(pieces) if pieces.wire_bytes() > self.limits.request_bytes => {
                return Err(DoorError::Length { what: "body of the request", most: self.limits.request_bytes });
            }
            Body::Pieces(pieces) => (Some(pieces), None),
            Body::Stream(stream, length) => (None, Some((stream, length))),
        };
        let follows = pieces.is_some();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = Request::new(method.clone(), url.clone());
            *request.headers_mut() = headers.clone();
            // On another origin the credential stays behind.
            if let Some(credential) = credential.filter(|_| Origin::of(&url) == first) {
                request.headers_mut().insert(credential.header.clone(), credential.value.clone());
            }
            *request.body_mut() = pieces.clone().map(Pieces::into_body);
            if let Some((stream, length)) = stream.take() {
                *request.body_mut() = Some(stream);
                request.headers_mut().extend(length.map(|length| (header::CONTENT_LENGTH, length.into())));
            }
            let incoming = self.hop(visits, request, wait, until).await?;
            let Some(next) = redirect(&incoming.response).filter(|_| follows) else { return Ok(incoming) };
            if next.drops_body(incoming.response.status(), &method) {
                (method, pieces) = (Method::GET, Some(Pieces::default()));
                headers.remove(header::CONTENT_TYPE);
            }
            url = next.0;
        }
        Err(DoorError::Redirects { host: host_of(&url) })
    }

    async fn hop(
        self: &Arc<Self>,
        visits: &Visits,
        request: Request,
        wait: Duration,
        until: Instant,
    ) -> Result<Incoming, DoorError> {
        if visits.requests.fetch_add(1, Ordering::Relaxed) >= self.limits.requests {
            return Err(DoorError::Requests(self.limits.requests));
        }
        let reach = self.authorise(request.method(), request.url()).inspect_err(|error| {
            if let DoorError::Denied(denial) = error {
                *visits.denial.lock().unwrap_or_else(PoisonError::into_inner) = Some(denial.clone());
            }
        })?;
        let host = host_of(request.url());
        let client = self.clients.reaching(reach).clone();
        let sent = AbortOnDropHandle::new(self.io.spawn(async move { client.execute(request).await }));
        let wait = wait.min(until.saturating_duration_since(Instant::now()));
        let response = timeout(wait, sent)
            .await
            .map_err(|_| DoorError::Timeout { host: host.clone(), what: "answer", limit: wait })?
            .map_err(|error| DoorError::Broken { host: host.clone(), cause: error.to_string() })?
            .map_err(|error| self.explain(&host, error))?;
        let most = self.limits.response_bytes;
        if response.content_length().is_some_and(|length| length > most) {
            return Err(DoorError::Length { what: "body of the answer", most });
        }
        Ok(Incoming { response, until, left: most, most })
    }

    /// Scheme, host, port and method by the grant; then the address, if the host is one. Names are resolved and checked
    /// when the connection is made.
    fn authorise(&self, method: &Method, url: &Url) -> Result<Reach, DoorError> {
        let reach = self.grant.check(method, url).map_err(DoorError::Denied)?;
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            Some(Host::Domain(_)) | None => None,
        };
        if let Some(address) = literal {
            address::check(&host_of(url), address, reach).map_err(DoorError::Address)?;
        }
        Ok(reach)
    }

    fn check_headers(&self, headers: &HeaderMap) -> Result<(), DoorError> {
        match headers.keys().find(|name| is_connection_header(name) || self.is_hidden(name)) {
            Some(name) => Err(DoorError::Header(name.to_string())),
            None => Ok(()),
        }
    }

    /// Whether a header is kept from the plugin, in both directions.
    pub(crate) fn is_hidden(&self, name: &HeaderName) -> bool {
        is_secret_header(name) || self.grant.credentials().has_header(name)
    }

    fn explain(&self, host: &str, error: reqwest::Error) -> DoorError {
        let host = host.to_owned();
        let error = error.without_url();
        if let Some(refused) = chain(&error).find_map(|cause| cause.downcast_ref::<address::Refused>()) {
            return DoorError::Address(refused.clone());
        }
        if chain(&error).any(|cause| cause.is::<TooLong>()) {
            return DoorError::Length { what: "body of the request", most: self.limits.request_bytes };
        }
        let cause = chain(&error).last().map_or_else(|| error.to_string(), ToString::to_string);
        match (error.is_connect(), error.is_timeout()) {
            (true, true) => DoorError::Timeout { host, what: "accept a connection", limit: self.limits.connect },
            (true, false) => DoorError::Connect { host, cause },
            (false, _) => DoorError::Broken { host, cause },
        }
    }
}

impl Incoming {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The next part of the body; nothing at its end.
    pub(crate) async fn chunk(&mut self, door: &Door) -> Result<Option<Bytes>, DoorError> {
        let host = host_of(self.response.url());
        let limit = door.limits.between_bytes;
        let soon = Instant::now() + limit;
        let part = match timeout_at(self.until.min(soon), self.response.chunk()).await {
            Err(_) if soon <= self.until => {
                return Err(DoorError::Timeout { host, what: "go on with its answer", limit });
            }
            Err(_) => return Err(DoorError::Timeout { host, what: "finish its answer", limit: door.limits.exchange }),
            Ok(Err(error)) => return Err(door.explain(&host, error)),
            Ok(Ok(part)) => part,
        };
        if let Some(part) = &part {
            let length = DoorError::Length { what: "body of the answer", most: self.most };
            self.left = self.left.checked_sub(part.len() as u64).ok_or(length)?;
        }
        Ok(part)
    }
}

/// A streamed body ran past its limit.
#[derive(Debug, thiserror::Error)]
#[error("the body of the request is too long")]
struct TooLong;

struct Redirect(Url);

impl Redirect {
    /// 303 always, and 301 and 302 of a POST as every client does it, go on as a GET.
    fn drops_body(&self, status: StatusCode, method: &Method) -> bool {
        match status {
            StatusCode::SEE_OTHER => method != Method::HEAD,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => method == Method::POST,
            _ => false,
        }
    }
}

fn redirect(response: &Response) -> Option<Redirect> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    let mut url = response.url().join(location).ok()?;
    url.set_fragment(None);
    Some(Redirect(url))
}

/// Headers that describe the connection or frame the message: the client's business.
pub(crate) fn is_connection_header(name: &HeaderName) -> bool {
    const NAMES: [&str; 13] = [
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    NAMES.contains(&name.as_str())
}

/// Headers that carry secrets, whoever sends them.
fn is_secret_header(name: &HeaderName) -> bool {
    const NAMES: [&str; 7] =
        ["api-key", "authorization", "cookie", "set-cookie", "x-api-key", "x-goog-api-key", "x-key"];
    NAMES.contains(&name.as_str())
}

fn host_of(url: &Url) -> String {
    Origin::of(url).map_or_else(|| url.scheme().to_owned(), |origin| origin.to_string())
}

fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}
