//! The one error: what of it the caller sees, and what only the log does.

use std::error::Error as _;
use std::time::Duration;

use crate::{Error, ErrorKind, Money};

#[test]
fn error_tells_what_it_was_given() {
    let error = Error::invalid("size", "size 1x is not WIDTHxHEIGHT")
        .with_code("invalid_size")
        .with_hint("use 512x512")
        .with_retry_after(Duration::from_secs(3))
        .with_billed(Money { micros: 5, currency: "USD".to_owned() })
        .with_route("studio", "brush");

    assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidRequest, "invalid_size"));
    assert_eq!((error.param(), error.hint()), (Some("size"), Some("use 512x512")));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
    assert_eq!(error.billed().map(ToString::to_string).as_deref(), Some("0.000005 USD"));
    assert_eq!((error.backend(), error.model()), (Some("studio"), Some("brush")));
    assert_eq!(error.to_string(), error.message());
}

#[test]
fn cause_is_kept_for_the_log_and_out_of_the_message() {
    let cause = std::io::Error::other("/secret/path is not there");
    let error = Error::new(ErrorKind::Internal, "a fault of ours").with_source(cause);

    assert_eq!(error.to_string(), "a fault of ours");
    assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("/secret/path is not there"));
}

#[test]
fn code_is_the_kinds_own_until_a_more_exact_one_is_given() {
    let rows = [
        (ErrorKind::Overloaded, "backend_overloaded", true),
        (ErrorKind::NotReady, "backend_not_ready", true),
        (ErrorKind::ModelNotFound, "model_not_found", false),
        (ErrorKind::ContentPolicy, "content_policy_violation", false),
        (ErrorKind::OutOfMemory, "insufficient_vram", false),
        (ErrorKind::InsufficientFunds, "insufficient_credits", false),
        (ErrorKind::Unsupported, "unsupported_operation", false),
        (ErrorKind::Upstream, "upstream_error", true),
        (ErrorKind::Timeout, "timeout", true),
        (ErrorKind::PluginFault, "plugin_error", false),
    ];
    for (kind, code, is_retryable) in rows {
        assert_eq!((Error::new(kind, "x").code(), kind.is_retryable()), (code, is_retryable));
        assert_eq!(Error::new(kind, "x").with_code("exact").code(), "exact");
    }
}
