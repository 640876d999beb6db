//! What a plugin writes: log lines, standard output and standard error. Lines are cut and counted; what is over is
//! dropped and said so once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::HostLimits;
use crate::bindings::easel::plugin::host::Level;
use crate::door::Vault;

/// How many bytes of its last output are kept for the report of a trap.
const TAIL: usize = 1024;

/// Where one call writes.
pub(crate) struct CallLog {
    plugin: Arc<str>,
    request_id: String,
    lines_left: AtomicU32,
    most_bytes: usize,
    tail: Mutex<VecDeque<u8>>,
    vault: Arc<Vault>,
}

impl CallLog {
    pub(crate) fn new(plugin: Arc<str>, request_id: String, limits: &HostLimits, vault: Arc<Vault>) -> Arc<Self> {
        Arc::new(Self {
            plugin,
            request_id,
            // One more, with which the end is told.
            lines_left: AtomicU32::new(limits.log_lines.saturating_add(1)),
            most_bytes: limits.log_line_bytes,
            tail: Mutex::default(),
            vault,
        })
    }

    /// Writes one line in the plugin's name.
    pub(crate) fn line(&self, level: Level, message: &str) {
        let (plugin, request_id) = (self.plugin.as_ref(), self.request_id.as_str());
        match self.take_line() {
            None => return,
            Some(0) => {
                tracing::warn!(plugin, request_id, "the plugin writes too much, the rest of this call is dropped");
                return;
            }
            Some(_) => {}
        }
        let message = self.written(message);
        match level {
            Level::Trace => tracing::trace!(plugin, request_id, "{message}"),
            Level::Debug => tracing::debug!(plugin, request_id, "{message}"),
            Level::Info => tracing::info!(plugin, request_id, "{message}"),
            Level::Warn => tracing::warn!(plugin, request_id, "{message}"),
            Level::Error => tracing::error!(plugin, request_id, "{message}"),
        }
    }

    /// What is written of a message. One line stays one line: nobody writes log entries in another's name.
    fn written(&self, message: &str) -> String {
        let message = self.scrubbed(message);
        cut(&message, self.most_bytes).trim_end().replace(char::is_control, " ")
    }

    /// What the plugin says, without its secrets.
    pub(crate) fn scrubbed(&self, text: &str) -> String {
        self.vault.scrubbed(text)
    }

    /// Its last output.
    pub(crate) fn tail(&self) -> String {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = tail.iter().copied().collect();
        self.scrubbed(String::from_utf8_lossy(&bytes).trim())
    }

    /// The lines left after this one.
    fn take_line(&self) -> Option<u32> {
        let take = |left: u32| left.checked_sub(1);
        self.lines_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok().map(|left| left - 1)
    }

    fn remember(&self, bytes: &[u8]) {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = bytes.get(bytes.len().saturating_sub(TAIL)..).unwrap_or_default();
        let over = (tail.len() + bytes.len()).saturating_sub(TAIL);
        tail.drain(..over);
        tail.extend(bytes);
    }
}

fn cut(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Standard output or standard error of one call. Writing never waits and never fails: a plugin should not end because
/// nobody reads what it prints.
#[derive(Clone)]
pub(crate) struct Output(pub(crate) Arc<CallLog>);

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // Only WASI 0.3 asks for this one, and it is not linked.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        self.0.remember(&bytes);
        for line in String::from_utf8_lossy(&bytes).lines().filter(|line| !line.trim().is_empty()) {
            self.0.line(Level::Debug, line);
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(8192)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_counted() {
        let limits = HostLimits { log_lines: 3, ..HostLimits::default() };
        let log = CallLog::new("p".into(), "r".into(), &limits, Arc::default());
        let left: Vec<_> = (0..6).map(|_| log.take_line()).collect();
        assert_eq!(left, [Some(3), Some(2), Some(1), Some(0), None, None]);
        assert_eq!(cut("äöü", 3), "ä");
    }

    #[test]
    fn message_is_one_short_line_without_secrets() {
        let limits = HostLimits { log_line_bytes: 30, ..HostLimits::default() };
        let vault = Arc::new(Vault::default());
        vault.set(&[("key".to_owned(), crate::Secret::new("sesame-open"))].into());
        let log = CallLog::new("p".into(), "r".into(), &limits, vault);
        assert_eq!(
            log.written("it is sesame-open\r\nERROR all is lost, or is it not"),
            "it is ***********  ERROR all i"
        );
        log.remember(b"it is sesame-open");
        assert_eq!(log.tail(), "it is ***********");
    }

    #[test]
    fn only_the_end_of_the_output_is_kept() {
        let log = CallLog::new("p".into(), "r".into(), &HostLimits::default(), Arc::default());
        for number in 0..1000 {
            log.remember(format!("line {number}\n").as_bytes());
        }
        log.remember(&[b'x'; 3]);
        let tail = log.tail();
        assert!(tail.len() <= TAIL && tail.ends_with("line 999\nxxx"), "{tail}");
    }
}
