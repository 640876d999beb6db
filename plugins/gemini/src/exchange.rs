//! One question to the server: where it goes, what goes along, how long it may take, and what a refusal becomes.

use std::time::{Duration, Instant};

use easel_sdk::http::{Document, Request as HttpRequest, Response};
use easel_sdk::{Blob, Context, Error, ErrorKind, Result};
use serde_json::Value;

use crate::config::Config;
use crate::known::Known;
use crate::refusal;

/// The longest error body that is read.
const MAX_REFUSAL: u32 = 64 * 1024;

/// The server, for the requests of one call.
pub struct Exchange<'a> {
    pub config: &'a Config,
    pub known: &'a Known,
    begun: Instant,
    limit: Duration,
}

impl<'a> Exchange<'a> {
    /// Begins a call; its time is counted from here.
    pub fn new(context: &Context, config: &'a Config, known: &'a Known) -> Self {
        let limit = context.deadline.min(Duration::from_secs(config.timeout_s.into()));
        Self { config, known, begun: Instant::now(), limit }
    }

    /// Asks for pictures.
    ///
    /// # Errors
    /// What the server said instead, or `Timeout` when the call's time is over.
    pub fn ask(&self, method: &str, body: &Value, blobs: Vec<Blob>) -> Result<Document> {
        let url = format!("{}:{method}", self.config.address(&self.known.wire_id));
        let request = HttpRequest::post_json_with_blobs(url, body, blobs)?;
        self.send(request)?.into_document()
    }

    /// Looks whether the model is there, which costs nothing.
    ///
    /// # Errors
    /// What a request would meet.
    pub fn look(&self) -> Result<()> {
        self.send(HttpRequest::get(self.config.address(&self.known.wire_id))).map(drop)
    }

    fn send(&self, request: HttpRequest) -> Result<Response> {
        let left = self.limit.saturating_sub(self.begun.elapsed());
        if left.is_zero() {
            return Err(Error::new(
                ErrorKind::Timeout,
                format!("there was no answer within {} s", self.limit.as_secs()),
            ));
        }
        let request = request.total_timeout(left);
        let request = match self.config.credential() {
            Some(name) => request.credential(name),
            None => request,
        };
        let response = request.send()?;
        let status = response.status();
        if status < 300 {
            return Ok(response);
        }
        let after = response.header("retry-after");
        // A body that cannot be read takes nothing from what the status says.
        let body = response.bytes(MAX_REFUSAL).unwrap_or_default();
        let mut error = refusal::error(status, after.as_deref(), &body);
        if let (404, Some(successor)) = (status, self.known.successor_words()) {
            error.message = format!("{}; {successor}", error.message.trim_end_matches('.'));
        }
        Err(error)
    }
}
