//! The log: lines for people, or one JSON object a line for machines. Always to standard error, so that what a command
//! answers on standard output stays clean.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};

/// Starts logging for the whole process. Where a log was started already (tests in one process), it stays.
pub(crate) fn start(log: &Log) {
    // The level was checked when the config was read.
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    let started = match log.format {
        LogFormat::Text => builder.with_ansi(stderr().is_terminal()).with_target(false).finish().try_init(),
        LogFormat::Json => {
            builder.json().flatten_event(true).with_current_span(true).with_span_list(false).finish().try_init()
        }
    };
    if started.is_err() {
        tracing::debug!("the log was started already");
    }
}
