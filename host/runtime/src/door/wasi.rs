//! `wasi:http` at the door, so that ordinary client code works in a plugin. A request of this kind names its credential
//! in the header `x-easel-credential`, which is taken off here. Redirects are answers to the plugin, which asks again.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use http::header::HOST;
use http::uri::Scheme;
use http::{HeaderName, HeaderValue};
use http_body_util::{BodyDataStream, BodyExt, StreamBody};
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, Result, WasiBody, WasiHttpHooks,
};

use super::error::TooLong;
use super::{Body, Door, DoorError, Incoming, Outgoing, Visits, is_connection_header};

/// Names the credential of a `wasi:http` request.
const CREDENTIAL: HeaderName = HeaderName::from_static("x-easel-credential");

/// What `wasi:http` does for one call.
pub(crate) struct Hooks {
    /// The way out; none while a plugin is asked for its models.
    pub(crate) door: Option<Arc<Door>>,
    pub(crate) visits: Arc<Visits>,
    pub(crate) hidden: ForbiddenHeaderFilter,
}

/// The headers that a plugin may neither set nor see.
pub(crate) fn hidden_headers(door: Arc<Door>) -> ForbiddenHeaderFilter {
    Arc::new(move |name| DEFAULT_FORBIDDEN_HEADERS.contains(name) || door.is_hidden(name))
}

type Sent = Result<(http::Response<WasiBody>, Box<dyn Future<Output = Result<()>> + Send>)>;

impl WasiHttpHooks for Hooks {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::clone(&self.hidden)
    }

    fn default_scheme(&mut self) -> Option<Scheme> {
        None
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<()>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let (door, visits) = (self.door.clone(), Arc::clone(&self.visits));
        Box::new(async move {
            let door = door.ok_or(Error::HttpRequestDenied)?;
            let outgoing = outgoing(&door, &visits, request, options.unwrap_or_default())?;
            let incoming = door.send(&visits, outgoing).await.map_err(|error| explain(&error))?;
            let done = Box::new(async { Ok(()) }) as Box<dyn Future<Output = Result<()>> + Send>;
            Ok((answer(door, incoming), done))
        })
    }
}

fn outgoing(
    door: &Door,
    visits: &Visits,
    request: http::Request<WasiBody>,
    options: RequestOptions,
) -> Result<Outgoing> {
    let refused = |error: DoorError| {
        visits.note(&error);
        explain(&error)
    };
    let (mut parts, body) = request.into_parts();
    let url = parts.uri.to_string().parse().map_err(|_| Error::HttpRequestUriInvalid)?;
    let credential = match parts.headers.remove(CREDENTIAL) {
        Some(name) => Some(name.to_str().map(str::to_owned).map_err(|_| Error::HttpRequestDenied)?),
        None => None,
    };
    // A declared length was checked against the body when the plugin finished it.
    let length: Option<HeaderValue> = parts.headers.remove(http::header::CONTENT_LENGTH);
    parts.headers.remove(HOST);
    if let Some(name) = parts.headers.keys().find(|name| is_connection_header(name)) {
        return Err(refused(DoorError::Header(name.to_string())));
    }
    let most = door.limits.request_bytes;
    let is_empty = http_body::Body::is_end_stream(&body);
    let sized = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if sized.is_some_and(|length| length > most) {
        refused(DoorError::Length { what: "body of the request", most });
        return Err(Error::HttpRequestBodySize(sized));
    }
    let body =
        if is_empty { Body::Stream(Bytes::new().into(), None) } else { Body::Stream(streamed(body, most), sized) };
    Ok(Outgoing {
        method: parts.method,
        url,
        headers: parts.headers,
        body,
        credential,
        first_byte: options.first_byte_timeout,
        total: None,
    })
}

/// The body, its length counted. Empty parts are left out: over HTTP/2 each would be kept (GHSA-f8mm-ggr3-89wh).
fn streamed(body: WasiBody, most: u64) -> reqwest::Body {
    let mut left = most;
    let parts = BodyDataStream::new(body)
        .map_err(|error| Box::new(error) as Box<dyn std::error::Error + Send + Sync>)
        .try_filter(|part| std::future::ready(!part.is_empty()))
        .map(move |part| {
            let part = part?;
            left = left.checked_sub(part.len() as u64).ok_or(TooLong)?;
            Ok::<Bytes, Box<dyn std::error::Error + Send + Sync>>(part)
        });
    reqwest::Body::wrap_stream(parts)
}

fn answer(door: Arc<Door>, incoming: Incoming) -> http::Response<WasiBody> {
    let mut response = http::Response::new(());
    *response.status_mut() = incoming.status();
    *response.headers_mut() = incoming.headers().clone();
    let parts = futures_util::stream::try_unfold((incoming, door), async |(mut incoming, door)| {
        let part = incoming.chunk(&door).await.map_err(|error| explain(&error))?;
        Ok(part.map(|part| (http_body::Frame::data(part), (incoming, door))))
    });
    response.map(|()| StreamBody::new(parts).boxed_unsync())
}

fn explain(error: &DoorError) -> Error {
    match error {
        DoorError::Denied(_) => Error::HttpRequestDenied,
        DoorError::Address(_) => Error::DestinationIpProhibited,
        DoorError::Length { what: "body of the request", .. } => Error::HttpRequestBodySize(None),
        DoorError::Length { most, .. } => Error::HttpResponseBodySize(Some(*most)),
        DoorError::Timeout { .. } => Error::HttpResponseTimeout,
        DoorError::Requests(_) | DoorError::Connections(_) => Error::ConnectionLimitReached,
        DoorError::Redirects { .. } => Error::LoopDetected,
        DoorError::Connect { .. } => Error::ConnectionRefused,
        DoorError::Broken { .. } | DoorError::Leak { .. } => Error::HttpProtocolError,
        DoorError::Encoding { encoding, .. } => Error::HttpResponseContentCoding(Some(encoding.clone())),
        DoorError::Header(_)
        | DoorError::Credential(_)
        | DoorError::Unfit(_)
        | DoorError::NoPlace(_)
        | DoorError::Token { .. } => Error::InternalError(Some(error.to_string())),
    }
}
