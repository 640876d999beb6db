//! Failures as values: answers that the host turns into an HTTP status and a body for the client. A panic is not one of
//! them; it is a fault of the plugin.

use std::fmt;
use std::time::Duration;

pub use crate::bindings::adapter::easel::plugin::types::ErrorKind;
use crate::bindings::adapter::easel::plugin::types::PluginError;
use crate::output::Money;
use crate::request::millis;

/// The result of everything in a plugin that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure. The message is for the client: lower case, no full stop, what was wrong and what would be right, and no
/// secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What kind of failure it is; the HTTP status follows from it.
    pub kind: ErrorKind,
    /// What was wrong.
    pub message: String,
    /// The parameter at fault: `prompt`, `negative-prompt`, `count`, `size`, …, or `option.NAME`.
    pub param: Option<String>,
    /// When trying again is worth it.
    pub retry_after: Option<Duration>,
    /// The HTTP status of the provider's answer.
    pub provider_status: Option<u16>,
    /// The provider's own error code.
    pub provider_code: Option<String>,
    /// What the failed attempt cost, where the provider charges for it. `None` means not knowing, which is not zero.
    pub billed: Option<Box<Money>>,
}

impl Error {
    /// Makes an error.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { kind, message, param: None, retry_after: None, provider_status: None, provider_code: None, billed: None }
    }

    /// The request cannot be done as it was asked, because of this parameter.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidRequest, message).with_param(param)
    }

    /// The request asks for something this plugin does not do.
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message).with_param(param)
    }

    /// The provider does not know the model, or no longer has it.
    pub fn model_not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::ModelNotFound, message).with_param("model")
    }

    /// The other side failed or answered nonsense.
    pub fn upstream(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Upstream, message)
    }

    /// The plugin's configuration makes no sense; the message is for the operator.
    pub fn config(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Internal, format!("config: {message}"))
    }

    /// The plugin cannot go on.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The client has gone or the deadline has passed.
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "the client has gone or the deadline has passed")
    }

    /// Names the parameter at fault.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Says when trying again is worth it.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Says what the failed attempt cost.
    #[must_use]
    pub fn with_billed(mut self, cost: Money) -> Self {
        self.billed = Some(Box::new(cost));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<PluginError> for Error {
    fn from(error: PluginError) -> Self {
        Self {
            kind: error.kind,
            message: error.message,
            param: error.param,
            retry_after: error.retry_after.map(|after| Duration::from_millis(after.into())),
            provider_status: error.provider_status,
            provider_code: error.provider_code,
            billed: error.billed.map(|cost| Box::new(cost.into())),
        }
    }
}

impl From<Error> for PluginError {
    fn from(error: Error) -> Self {
        Self {
            kind: error.kind,
            message: error.message,
            param: error.param,
            retry_after: error.retry_after.map(millis),
            provider_status: error.provider_status,
            provider_code: error.provider_code,
            billed: error.billed.map(|cost| (*cost).into()),
        }
    }
}
