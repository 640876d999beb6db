//! The other side of the door where it is played: on an author's workbench (`workbench/`), and nowhere else. What is asked
//! was authorised before, and its credential is in it; what is answered goes the way of every answer.

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use reqwest::{Client, Request, Response, ResponseBuilderExt as _};

/// A request as it would leave, its credential added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The method.
    pub method: String,
    /// The address.
    pub url: String,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// An answer, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// The other side of an adapter.
#[async_trait]
pub trait Upstream: Send + Sync {
    /// Answers a request that the grant lets through, by itself or with what [`Wire::send`] brings.
    ///
    /// # Errors
    /// Why there is no answer; the plugin gets an `upstream` error.
    async fn exchange(&self, sent: Sent, wire: Wire) -> Result<Answer, String>;
}

/// The real connection, for an upstream that listens in.
pub struct Wire {
    client: Client,
    request: Request,
    most_bytes: usize,
}

impl Wire {
    /// Sends the request as it is and reads the whole answer.
    ///
    /// # Errors
    /// What went wrong on the way.
    pub async fn send(self) -> Result<Answer, String> {
        let response = self.client.execute(self.request).await.map_err(|error| error.without_url().to_string())?;
        let status = response.status().as_u16();
        let texts = response.headers().iter().filter_map(|(name, value)| Some((name, value.to_str().ok()?)));
        let headers = texts.map(|(name, value)| (name.to_string(), value.to_owned())).collect();
        let body = http_body_util::Limited::new(reqwest::Body::from(response), self.most_bytes);
        let body = body.collect().await.map_err(|error| format!("the answer broke off: {error}"))?.to_bytes();
        Ok(Answer { status, headers, body })
    }
}

/// Has a request answered by an upstream that is played.
pub(crate) async fn exchange(
    upstream: &dyn Upstream,
    client: Client,
    mut request: Request,
    most_bytes: u64,
) -> Result<Response, String> {
    let body = match request.body_mut().take() {
        Some(body) => body.collect().await.map_err(|error| format!("the body broke off: {error}"))?.to_bytes(),
        None => Bytes::new(),
    };
    *request.body_mut() = Some(body.clone().into());
    let texts = request.headers().iter().filter_map(|(name, value)| Some((name, value.to_str().ok()?)));
    let headers = texts.map(|(name, value)| (name.to_string(), value.to_owned())).collect();
    let url = request.url().clone();
    let most_bytes = usize::try_from(most_bytes).unwrap_or(usize::MAX);
    let sent = Sent { method: request.method().to_string(), url: url.to_string(), headers, body };
    let answer = upstream.exchange(sent, Wire { client, request, most_bytes }).await?;
    let mut response = http::Response::builder().status(answer.status).url(url);
    for (name, value) in answer.headers {
        // The body is whole and decoded here, whatever it was on its way.
        if !["content-length", "transfer-encoding", "connection"].contains(&name.to_ascii_lowercase().as_str()) {
            response = response.header(name, value);
        }
    }
    let response = response.body(reqwest::Body::from(answer.body)).map_err(|error| error.to_string())?;
    Ok(response.into())
}
