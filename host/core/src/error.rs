//! The one error that crosses crates.
//!
//! `message` and `hint` are written for the caller; `source` is for the log and never leaves the process. What HTTP
//! status a kind becomes is the server's business (`server/src/error.rs`), what body it takes is the dialect's.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::Money;

/// The result of everything that can fail on the walk.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it is; every kind has exactly one HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request itself is wrong.
    InvalidRequest,
    /// The request is well-formed, but nothing here can do it.
    Unsupported,
    /// The backend's or the operator's content policy blocked it.
    ContentPolicy,
    /// No valid credential came with the request.
    Unauthenticated,
    /// This caller may not ask this.
    Forbidden,
    /// The account or the budget behind the request is spent.
    InsufficientFunds,
    /// The model is unknown and models are strict.
    ModelNotFound,
    /// The thing named by the address does not exist.
    NotFound,
    /// The address exists, but not with this method.
    MethodNotAllowed,
    /// The body is larger than the limit.
    TooLarge,
    /// The body is of a type that this address does not take.
    UnsupportedMediaType,
    /// As many requests run as may; try again soon.
    Overloaded,
    /// A rate limit, ours or a provider's.
    RateLimited,
    /// The other side of an adapter failed or answered nonsense.
    Upstream,
    /// A plugin trapped, ran past a limit or broke its contract.
    PluginFault,
    /// The backend is not ready: loading, unreachable or without credentials.
    NotReady,
    /// The device has too little memory for this request.
    OutOfMemory,
    /// The deadline passed.
    Timeout,
    /// The caller has gone.
    Cancelled,
    /// Images cannot be kept: the folder is not writable or the disk is full.
    Storage,
    /// A fault of ours.
    Internal,
}

impl ErrorKind {
    /// The default error code of the kind, in the words that clients of image APIs know.
    pub fn code(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_value",
            Self::Unsupported => "unsupported_operation",
            Self::ContentPolicy => "content_policy_violation",
            Self::Unauthenticated => "invalid_api_key",
            Self::Forbidden => "permission_denied",
            Self::InsufficientFunds => "insufficient_credits",
            Self::ModelNotFound => "model_not_found",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::TooLarge => "request_too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::Overloaded => "backend_overloaded",
            Self::RateLimited => "rate_limit_exceeded",
            Self::Upstream => "upstream_error",
            Self::PluginFault => "plugin_error",
            Self::NotReady => "backend_not_ready",
            Self::OutOfMemory => "insufficient_vram",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Storage => "storage_unavailable",
            Self::Internal => "internal_error",
        }
    }

    /// Whether the same request may succeed when it is sent again.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Overloaded | Self::RateLimited | Self::Upstream | Self::NotReady | Self::Timeout => true,
            Self::InvalidRequest
            | Self::Unsupported
            | Self::ContentPolicy
            | Self::Unauthenticated
            | Self::Forbidden
            | Self::InsufficientFunds
            | Self::ModelNotFound
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::TooLarge
            | Self::UnsupportedMediaType
            | Self::PluginFault
            | Self::OutOfMemory
            | Self::Cancelled
            | Self::Storage
            | Self::Internal => false,
        }
    }
}

/// A failure, told to the caller.
///
/// A message says what was wrong, with which value, and what would be right; lower case, no full stop.
#[derive(Clone, Debug)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Clone, Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    code: Option<Cow<'static, str>>,
    hint: Option<String>,
    param: Option<Cow<'static, str>>,
    retry_after: Option<Duration>,
    billed: Option<Money>,
    backend: Option<String>,
    model: Option<String>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Makes an error with the kind's own code and nothing else.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                message: message.into(),
                code: None,
                hint: None,
                param: None,
                retry_after: None,
                billed: None,
                backend: None,
                model: None,
                source: None,
            }),
        }
    }

    /// Makes an error about one parameter of the request, named as the caller wrote it.
    pub fn invalid(param: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidRequest, message).with_param(param)
    }

    /// Replaces the kind's code by a more exact one.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.inner.code = Some(code.into());
        self
    }

    /// Adds what the caller or operator can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.inner.hint = Some(hint.into());
        self
    }

    /// Names the parameter that is at fault.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        self.inner.param = Some(param.into());
        self
    }

    /// Says when trying again is worth it.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.inner.retry_after = Some(after);
        self
    }

    /// Says what the failed attempt cost: some providers charge for what they refuse.
    #[must_use]
    pub fn with_billed(mut self, cost: Money) -> Self {
        self.inner.billed = Some(cost);
        self
    }

    /// Keeps the cause for the log.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.inner.source = Some(Arc::new(source));
        self
    }

    /// Says which backend and model had been chosen when it happened.
    #[must_use]
    pub fn with_route(mut self, backend: impl Into<String>, model: impl Into<String>) -> Self {
        self.inner.backend = Some(backend.into());
        self.inner.model = Some(model.into());
        self
    }

    /// The kind, from which the status follows.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// What was wrong, for the caller.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// The code: the exact one if there is one, else the kind's.
    pub fn code(&self) -> &str {
        self.inner.code.as_deref().unwrap_or_else(|| self.inner.kind.code())
    }

    /// What the caller or operator can do about it.
    pub fn hint(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }

    /// The parameter at fault, as the caller wrote it.
    pub fn param(&self) -> Option<&str> {
        self.inner.param.as_deref()
    }

    /// When trying again is worth it.
    pub fn retry_after(&self) -> Option<Duration> {
        self.inner.retry_after
    }

    /// What the failed attempt cost, where that is known. Unknown is not zero.
    pub fn billed(&self) -> Option<&Money> {
        self.inner.billed.as_ref()
    }

    /// The backend that had been chosen, if the request got so far.
    pub fn backend(&self) -> Option<&str> {
        self.inner.backend.as_deref()
    }

    /// The model that had been chosen, if the request got so far.
    pub fn model(&self) -> Option<&str> {
        self.inner.model.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
    }
}
