//! Why there is no answer.

use std::error::Error as StdError;
use std::time::Duration;

use super::json_insert::NoPlace;
use super::redirect::MAX_REDIRECTS;
use super::{Denial, address};
use crate::HostLimits;

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
    #[error("credential {0:?} has characters that no header can hold")]
    Unfit(String),
    #[error("{0}")]
    NoPlace(#[from] NoPlace),
    #[error("there is no token for credential {name:?}: {why}")]
    Token { name: String, why: String },
    #[error("a plugin may have {0} connections at a time")]
    Connections(usize),
    #[error("a call may send at most {0} requests, redirects included")]
    Requests(u32),
    #[error("the {what} is longer than {most} bytes")]
    Length { what: &'static str, most: u64 },
    #[error("{host} did not {what} within {limit:?}")]
    Timeout { host: String, what: &'static str, limit: Duration },
    #[error("{host} redirects more than {MAX_REDIRECTS} times")]
    Redirects { host: String },
    #[error("{host} redirects to another origin with a credential in the address")]
    Leak { host: String },
    #[error("{host} answers in the encoding {encoding:?}, which nobody asked for")]
    Encoding { host: String, encoding: String },
    #[error("{host} could not be reached: {cause}")]
    Connect { host: String, cause: String },
    #[error("the exchange with {host} broke: {cause}")]
    Broken { host: String, cause: String },
}

impl DoorError {
    /// The rule by which the door stayed shut, as figures name it; none where it was open and the upstream failed.
    pub(super) fn rule(&self) -> Option<&'static str> {
        match self {
            Self::Denied(_) => Some("grant"),
            Self::Address(_) => Some("address"),
            Self::Header(_) => Some("header"),
            Self::Credential(_) | Self::Unfit(_) | Self::NoPlace(_) => Some("credential"),
            Self::Leak { .. } => Some("redirect"),
            Self::Requests(_) => Some("requests"),
            Self::Connections(_) => Some("connections"),
            Self::Length { .. } => Some("length"),
            Self::Token { .. }
            | Self::Timeout { .. }
            | Self::Redirects { .. }
            | Self::Encoding { .. }
            | Self::Connect { .. }
            | Self::Broken { .. } => None,
        }
    }

    /// The same with other words for what the connection says.
    pub(super) fn map_cause(mut self, change: impl FnOnce(&str) -> String) -> Self {
        if let Self::Connect { cause, .. } | Self::Broken { cause, .. } = &mut self {
            *cause = change(cause);
        }
        self
    }
}

/// A streamed body ran past its limit.
#[derive(Debug, thiserror::Error)]
#[error("the body of the request is too long")]
pub(super) struct TooLong;

/// What the client says, in our words.
pub(super) fn explain(host: &str, error: reqwest::Error, limits: &HostLimits) -> DoorError {
    let host = host.to_owned();
    let error = error.without_url();
    if let Some(refused) = chain(&error).find_map(|cause| cause.downcast_ref::<address::Refused>()) {
        return DoorError::Address(refused.clone());
    }
    if let Some(error) = chain(&error).find_map(|cause| cause.downcast_ref::<NoPlace>()) {
        return DoorError::NoPlace(*error);
    }
    if chain(&error).any(|cause| cause.is::<TooLong>()) {
        return DoorError::Length { what: "body of the request", most: limits.request_bytes };
    }
    let cause = chain(&error).last().map_or_else(|| error.to_string(), ToString::to_string);
    match (error.is_connect(), error.is_timeout()) {
        (true, true) => DoorError::Timeout { host, what: "accept a connection", limit: limits.connect },
        (true, false) => DoorError::Connect { host, cause },
        (false, _) => DoorError::Broken { host, cause },
    }
}

fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}
