//! The door: the one place through which a plugin's outbound request leaves, whether it came by `fetch` or `wasi:http`.
//!
//! Grant → literal address → resolved address → that very address → limits → send. Redirects are hops of their own,
//! each authorised again. Credentials are added here, after the plugin has let go of the request, and the headers that
//! carry them are hidden from it; what comes back is decoded within its limit and scrubbed of them (`answer.rs`). The
//! door does not know the contract: `host/fetch.rs` and `wasi.rs` translate.

mod address;
mod answer;
mod body;
mod client;
mod connections;
mod credential;
mod error;
mod grant;
mod gunzip;
mod headers;
mod json_insert;
mod origin;
mod path;
mod redirect;
mod resolver;
mod scrub;
mod service_account;
mod trace;
pub(crate) mod upstream;
mod vault;
mod visits;
mod wasi;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use reqwest::Request;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use url::{Host, Url};

pub(crate) use answer::Incoming;
pub(crate) use body::Pieces;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use body::wire;
pub(crate) use client::Network;
pub(crate) use credential::{Accounts, Credentials, Missing};
pub(crate) use error::DoorError;
pub(crate) use grant::{Denial, Grant, Reach, is_met};
pub(crate) use headers::is_connection_header;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use json_insert::insert_credential;
pub(crate) use origin::{Origin, OriginPattern};
pub(crate) use path::{Ambiguous, PathPattern, Paths};
pub(crate) use vault::{Vault, Vaults};
pub(crate) use visits::Visits;
pub(crate) use wasi::{Hooks, hidden_headers};

use crate::HostLimits;
use crate::clock::Clock;
use crate::refusal::Refusal;
use crate::workbench::Stage;
use answer::Reading;
use connections::Connections;
use credential::Placed;
use redirect::MAX_REDIRECTS;

/// One plugin's way out.
#[derive(Debug)]
pub(crate) struct Door {
    grant: Grant,
    credentials: Credentials,
    clients: client::Clients,
    connections: Connections,
    limits: HostLimits,
    /// Connections live on this runtime, not on the guests', where a spinning guest would stall them.
    io: Handle,
    /// What plays the upstreams on an author's workbench.
    stage: Option<Arc<Stage>>,
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

/// How long an exchange may take.
#[derive(Clone, Copy)]
struct Times {
    /// Until the head of the answer.
    first_byte: Duration,
    /// Until its end.
    until: Instant,
}

impl Door {
    pub(crate) fn new(
        (grant, credentials): (Grant, Credentials),
        limits: HostLimits,
        network: &Network,
        io: Handle,
    ) -> Result<Self, Refusal> {
        let needs_tls = grant.needs_tls() || credentials.needs_tls();
        let clients = client::Clients::new(network, needs_tls, &limits)?;
        let connections = Connections::new(limits.connections);
        Ok(Self { grant, credentials, clients, connections, limits, io, stage: None })
    }

    /// The same with upstreams that may be played.
    pub(crate) fn staged(self, stage: Option<Arc<Stage>>) -> Self {
        Self { stage, ..self }
    }

    /// The time of the exchanges that are made now.
    fn clock(&self) -> Clock {
        self.stage.as_ref().map(|stage| stage.clock()).unwrap_or_default()
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn send(
        self: &Arc<Self>,
        visits: &Arc<Visits>,
        outgoing: Outgoing,
    ) -> Result<Incoming, DoorError> {
        let _waiting = visits.wait();
        self.exchange(visits, outgoing).await.inspect_err(|error| visits.note(error))
    }

    async fn exchange(self: &Arc<Self>, visits: &Arc<Visits>, outgoing: Outgoing) -> Result<Incoming, DoorError> {
        let Outgoing { mut method, mut url, mut headers, body, credential, first_byte, total } = outgoing;
        let times = Times {
            first_byte: first_byte.unwrap_or(self.limits.first_byte).min(self.limits.first_byte),
            until: self.clock().now() + total.unwrap_or(self.limits.exchange).min(self.limits.exchange),
        };
        self.check_headers(&headers)?;
        // Answers come as they are; what is compressed all the same is unpacked within the limit.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let (mut pieces, mut stream) = match body {
            Body::Pieces(pieces) if pieces.wire_bytes() > self.limits.request_bytes => {
                return Err(DoorError::Length { what: "body of the request", most: self.limits.request_bytes });
            }
            Body::Pieces(pieces) => (Some(pieces), None),
            Body::Stream(stream, length) => (None, Some((stream, length))),
        };
        let follows = pieces.is_some();
        let first = Origin::of(&url);
        let mut placed = None;
        for hop in 0..=MAX_REDIRECTS {
            let reach = self.authorise(visits, &method, &url)?;
            let may_carry = |name: &&str| self.grant.may_carry(name, &method, &url);
            if let Some(name) = credential.as_deref().filter(|_| hop == 0) {
                self.credentials.lend(name)?;
                if !may_carry(&name) {
                    return Err(visits.denied(self.grant.credential_denial(name, &url)));
                }
                placed = Some(self.place(name, times).await?);
            }
            // On another origin the credential stays behind, and where the grant does not let it go along.
            let is_carried = Origin::of(&url) == first && credential.as_deref().is_some_and(|name| may_carry(&name));
            let placed = placed.as_ref().filter(|_| is_carried);
            let mut request = Request::new(method.clone(), url.clone());
            *request.headers_mut() = headers.clone();
            request.headers_mut().insert(trace::HEADER, visits.trace.parent());
            let insert = placed.and_then(Placed::insert);
            if let Some(pieces) = &pieces {
                // A redirect that goes on as a GET has no body to put it into.
                let insert = insert.filter(|_| hop == 0 || !pieces.is_empty());
                let pieces = match insert {
                    Some(insert) => pieces.with_insert(insert)?,
                    None => pieces.clone(),
                };
                *request.body_mut() = Some(pieces.into_body());
            } else if let Some((stream, length)) = stream.take() {
                let (stream, length) = match insert {
                    Some(insert) => (body::stream_with_insert(stream, insert), None),
                    None => (stream, length),
                };
                *request.body_mut() = Some(stream);
                request.headers_mut().extend(length.map(|length| (header::CONTENT_LENGTH, length.into())));
            }
            if let Some(placed) = placed {
                placed.put(&mut request);
            }
            let incoming = self.hop(visits, request, reach, times).await?;
            let next = redirect::of(&incoming, &url).filter(|_| follows);
            let Some(next) = next.filter(|next| self.grant.follows(&method, &url, next)) else { return Ok(incoming) };
            if Origin::of(&next) != first && incoming.is_secret(next.as_str()) {
                return Err(DoorError::Leak { host: host_of(&url) });
            }
            if redirect::drops_body(incoming.status(), &method) {
                (method, pieces) = (Method::GET, Some(Pieces::default()));
                headers.remove(header::CONTENT_TYPE);
            }
            url = next;
        }
        Err(DoorError::Redirects { host: host_of(&url) })
    }

    async fn hop(
        self: &Arc<Self>,
        visits: &Arc<Visits>,
        request: Request,
        reach: Reach,
        times: Times,
    ) -> Result<Incoming, DoorError> {
        if visits.leave() >= self.limits.requests {
            return Err(DoorError::Requests(self.limits.requests));
        }
        let host = host_of(request.url());
        let connection = self.connections.take()?;
        let client = match self.connections.keeps(&host) {
            true => self.clients.reaching(reach).clone(),
            false => self.clients.fleeting(reach).clone(),
        };
        let reading = Reading {
            most: self.limits.response_bytes,
            until: times.until,
            scrubber: self.credentials.vault().scrubber(),
            visits: Arc::clone(visits),
        };
        let clock = self.clock();
        let wait = times.first_byte.min(times.until.saturating_duration_since(clock.now()));
        let late = |_| DoorError::Timeout { host: host.clone(), what: "answer", limit: wait };
        if let Some(upstream) = self.stage.as_ref().and_then(|stage| stage.upstream()) {
            let wire = upstream::Wire::new(client, self.limits.response_bytes, clock.clone());
            let asked = upstream::exchange(upstream.as_ref(), wire, request);
            let answered = clock.timeout_at(clock.now() + wait, asked).await.map_err(late)?;
            let response = answered.map_err(|unanswered| unanswered.explain(&host))?;
            return Ok(Incoming::new(response, host, reading)?.on(connection));
        }
        let sent = AbortOnDropHandle::new(self.io.spawn(async move { client.execute(request).await }));
        let response = clock
            .timeout_at(clock.now() + wait, sent)
            .await
            .map_err(late)?
            .map_err(|error| DoorError::Broken { host: host.clone(), cause: error.to_string() })?
            .map_err(|error| self.explain(&host, error))?;
        Ok(Incoming::new(response, host, reading)?.on(connection))
    }

    /// Scheme, host, port and method by the grant; then the address, if the host is one. Names are resolved and checked
    /// when the connection is made.
    fn authorise(&self, visits: &Visits, method: &Method, url: &Url) -> Result<Reach, DoorError> {
        let reach = self.grant.check(method, url).map_err(|denial| visits.denied(denial))?;
        check_literal(url, reach)?;
        Ok(reach)
    }

    /// Makes a credential ready for its first hop.
    async fn place(&self, name: &str, times: Times) -> Result<Placed, DoorError> {
        let (injection, value) = self.credentials.lend(name)?;
        match injection {
            crate::manifest::Injection::ServiceAccount { scope } if self.credentials.has_key_files() => {
                let token = self.token(name, &value, scope, times).await?;
                credential::place(name, injection, &token)
            }
            injection => credential::place(name, injection, &value),
        }
    }

    fn check_headers(&self, headers: &HeaderMap) -> Result<(), DoorError> {
        match headers.keys().find(|name| is_connection_header(name) || self.is_hidden(name)) {
            Some(name) => Err(DoorError::Header(name.to_string())),
            None => Ok(()),
        }
    }

    /// Whether a header is kept from the plugin, in both directions.
    pub(crate) fn is_hidden(&self, name: &HeaderName) -> bool {
        headers::is_secret_header(name) || self.credentials.has_header(name)
    }

    /// What went wrong, without the secrets that may be in it.
    fn explain(&self, host: &str, error: reqwest::Error) -> DoorError {
        let scrubbed = |text: &str| self.credentials.vault().scrubbed(text);
        error::explain(host, error, &self.limits).map_cause(scrubbed)
    }
}

/// The address that stands in the place of a name. The resolver never sees it.
fn check_literal(url: &Url, reach: Reach) -> Result<(), DoorError> {
    let literal = match url.host() {
        Some(Host::Ipv4(address)) => Some(address.into()),
        Some(Host::Ipv6(address)) => Some(address.into()),
        Some(Host::Domain(_)) | None => None,
    };
    match literal {
        Some(address) => address::check(&host_of(url), address, reach).map_err(DoorError::Address),
        None => Ok(()),
    }
}

fn host_of(url: &Url) -> String {
    Origin::of(url).map_or_else(|| url.scheme().to_owned(), |origin| origin.to_string())
}
