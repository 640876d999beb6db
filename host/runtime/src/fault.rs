//! What goes wrong in a call, and what the caller is told. A plugin's error **value** is an answer and keeps its kind; a
//! **trap** is a fault of the plugin (502), and says which limit or instruction it was.

use std::borrow::Cow;
use std::time::Duration;

use easel_core::{Error, ErrorKind, Money, ParamNames};
use wasmtime::{Trap, WasmBacktrace};

use crate::bindings::easel::plugin::types;
use crate::budget::Refused;
use crate::state::State;

/// The code of an error that is a fault of the operator's credentials: the caller's own are right.
const AUTH_CODE: &str = "upstream_unauthorized";

/// The longest text that a plugin can put into an error, in characters.
const MAX_MESSAGE: usize = 1000;

/// What a function of the host gives a plugin: an error value, or the end of the call.
pub enum Failure {
    /// A value; the plugin goes on.
    Value(types::PluginError),
    /// A trap; the call ends.
    Trap(wasmtime::Error),
}

impl Failure {
    pub(crate) fn new(kind: types::ErrorKind, message: impl Into<String>) -> Self {
        Self::Value(types::PluginError {
            kind,
            message: message.into(),
            param: None,
            retry_after: None,
            provider_status: None,
            provider_code: None,
            billed: None,
        })
    }
}

impl From<wasmtime::Error> for Failure {
    fn from(error: wasmtime::Error) -> Self {
        Self::Trap(error)
    }
}

impl From<wasmtime::component::ResourceTableError> for Failure {
    fn from(error: wasmtime::component::ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

/// A limit that the host watches itself, or a promise of the contract that was broken. Ends the call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Breach {
    #[error("ran past its CPU budget of {} ms", .0.as_millis())]
    Cpu(Duration),
    #[error("took longer than {0:?}")]
    Wall(Duration),
    #[error("{0}")]
    Contract(String),
}

/// The fault of a call that trapped. Where there was no memory left for it, that is not the plugin's fault.
pub(crate) fn of_trap(plugin: &str, error: &wasmtime::Error, state: &State) -> Error {
    if state.memory.refused() == Some(Refused::Pool) && !error.is::<Breach>() {
        let mib = state.memory.pool_bytes() >> 20;
        let message = format!("plugins hold {mib} MiB of memory, as much as they may together");
        return Error::new(ErrorKind::Overloaded, message).with_retry_after(Duration::from_secs(1));
    }
    let what = describe(error, state);
    let told = state.call.log.scrubbed(&told(&what, error, state));
    state.call.vitals.record.error("trap", &state.call.vitals.version, &told);
    let mut private = format!("{told}\n{error:?}");
    let output = state.call.log.tail();
    if !output.is_empty() {
        private = format!("{private}\nits last output: {output}");
    }
    fault(plugin, &what).with_source(Private(private))
}

/// What a trap is for the operator: where in the plugin's own source it happened, where the component says so, and what
/// the plugin asked the host for before. Holds nothing of the request.
fn told(what: &str, error: &wasmtime::Error, state: &State) -> String {
    let place = error.downcast_ref::<WasmBacktrace>().and_then(place);
    let place = place.map_or_else(String::new, |place| format!(" at {place}"));
    let trail = state.trail.told();
    let trail = if trail.is_empty() { trail } else { format!("; last host calls: {trail}") };
    format!("{what}{place}{trail}")
}

/// A fault of a plugin, with what it did.
pub(crate) fn fault(plugin: &str, what: &str) -> Error {
    Error::new(ErrorKind::PluginFault, format!("plugin {plugin} {what}"))
}

fn describe(error: &wasmtime::Error, state: &State) -> String {
    if let Some(breach) = error.downcast_ref::<Breach>() {
        return breach.to_string();
    }
    // A refused growth shows as whatever the guest does about it, so it is asked for first.
    match state.memory.refused() {
        Some(Refused::Memory) => {
            let mib = state.call.limits.memory_bytes >> 20;
            return format!("took more than {mib} MiB of memory");
        }
        Some(Refused::Table) => return format!("took more than {} table elements", state.call.limits.table_elements),
        Some(Refused::Pool) | None => {}
    }
    if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
        return format!("ended itself with exit code {}", exit.0);
    }
    let place = error.downcast_ref::<WasmBacktrace>().and_then(function);
    let place = place.map_or_else(String::new, |function| format!(" in {function}"));
    match error.downcast_ref::<Trap>() {
        // Without its own stack left, a guest runs into the beginning of its memory.
        Some(Trap::StackOverflow) => format!("trapped: call stack exhausted{place}"),
        Some(trap) => format!("trapped: {}{place}", plain(&trap.to_string())),
        None => format!("failed: {}{place}", plain(&error.root_cause().to_string())),
    }
}

/// The innermost function that belongs to the plugin, not to its language's library.
fn function(trace: &WasmBacktrace) -> Option<String> {
    let names = trace.frames().iter().filter_map(|frame| frame.func_name());
    let names: Vec<_> = names.map(|name| format!("{:#}", rustc_demangle::demangle(name))).collect();
    names.iter().find(|name| !is_library(name)).or(names.first()).map(|name| clean(name, 120))
}

/// File and line of the innermost place that belongs to the plugin; nothing in a component without debug information.
fn place(trace: &WasmBacktrace) -> Option<String> {
    let symbols = trace.frames().iter().flat_map(|frame| frame.symbols());
    let place = |symbol: &wasmtime::FrameSymbol| {
        let name = symbol.name().map(|name| format!("{:#}", rustc_demangle::demangle(name)));
        if name.is_some_and(|name| is_library(&name)) {
            return None;
        }
        let file = own_file(symbol.file()?)?;
        Some(symbol.line().map_or_else(|| file.clone(), |line| format!("{file}:{line}")))
    };
    symbols.filter_map(place).next()
}

/// A file of the plugin's, from its `src` folder on: what stands before is the machine that built it. A file of a
/// toolchain's or a registry's is none.
fn own_file(path: &str) -> Option<String> {
    let is_foreign = ["/rustc/", "/registry/src/", "/library/std/", "/library/core/", "/library/alloc/"];
    if is_foreign.iter().any(|part| path.contains(part)) {
        return None;
    }
    let path = path.replace('\\', "/");
    let from = path.rfind("/src/").map_or_else(|| path.rfind('/').map_or(0, |at| at + 1), |at| at + 1);
    Some(clean(&path[from..], 120))
}

fn is_library(function: &str) -> bool {
    const PREFIXES: [&str; 8] =
        ["std::", "core::", "alloc::", "__rust", "rust_", "abort", "dlmalloc::", "wit_bindgen::"];
    let path = function.trim_start_matches('<').trim_start_matches('&');
    PREFIXES.iter().any(|prefix| path.starts_with(prefix))
}

/// "wasm trap: wasm `unreachable` instruction executed" → "unreachable".
fn plain(text: &str) -> String {
    let text = text.strip_prefix("wasm trap: ").unwrap_or(text);
    match text {
        "wasm `unreachable` instruction executed" => "unreachable".to_owned(),
        text => clean(text, MAX_MESSAGE),
    }
}

/// What a plugin's error value becomes for the caller. `names` are the caller's words for the parameters.
pub(crate) fn of_value(error: types::PluginError, state: &State, names: &'static ParamNames) -> Error {
    use types::ErrorKind as Kind;
    let plugin = state.call.plugin.as_ref();
    let types::PluginError { kind, message, param, retry_after, provider_status, provider_code, billed } = error;
    let scrubbed = |text: &str| state.call.log.scrubbed(text);
    let message = clean(&scrubbed(&message), MAX_MESSAGE);
    state.call.account.refuse();
    let provider = provider_status.map_or_else(String::new, |status| format!(", the provider answered {status}"));
    // The plugin's own words may quote the request.
    let vitals = &state.call.vitals;
    vitals.record.error("error_value", &vitals.version, &format!("answered with the error {}{provider}", word(kind)));
    let message = if message.is_empty() { format!("plugin {plugin} gave no reason") } else { message };
    let (mut hint, said) = (None, word(kind));
    let kind = match kind {
        Kind::InvalidRequest => ErrorKind::InvalidRequest,
        Kind::Unsupported => ErrorKind::Unsupported,
        Kind::ModelNotFound => ErrorKind::ModelNotFound,
        Kind::ContentPolicy => ErrorKind::ContentPolicy,
        Kind::Auth => {
            hint = Some(format!("look at the credentials under [plugin.{plugin}] in easel.toml"));
            ErrorKind::Upstream
        }
        Kind::Quota => ErrorKind::InsufficientFunds,
        Kind::RateLimited => ErrorKind::RateLimited,
        Kind::Overloaded => ErrorKind::NotReady,
        Kind::Timeout => ErrorKind::Timeout,
        // Progress answers the same to both.
        Kind::Cancelled if state.call.clock.now() >= state.call.deadline => ErrorKind::Timeout,
        Kind::Cancelled => ErrorKind::Cancelled,
        Kind::Upstream => ErrorKind::Upstream,
        Kind::NetworkDenied => {
            hint = state.call.visits.last_denial().and_then(|denial| denial.fix);
            ErrorKind::PluginFault
        }
        Kind::LimitExceeded | Kind::Internal => ErrorKind::PluginFault,
    };
    let mut error = Error::new(kind, message);
    if said == word(Kind::Auth) {
        error = error.with_code(AUTH_CODE);
    }
    if let Some(hint) = hint {
        error = error.with_hint(hint);
    }
    if let Some(param) = param {
        error = error.with_param(callers_word(names, &param));
    }
    if let Some(after) = retry_after {
        error = error.with_retry_after(Duration::from_millis(after.into()));
    }
    match billed.map(money).transpose() {
        Ok(cost) => error = cost.into_iter().fold(error, Error::with_billed),
        // The failure is still the answer; what cannot be an amount is nobody's bill.
        Err(breach) => tracing::warn!(plugin, "an error's cost is left out: plugin {breach}"),
    }
    let provider_code = provider_code.map(|code| clean(&scrubbed(&code), 100));
    error.with_source(Answered { kind: said, provider_status, provider_code })
}

/// What a plugin's error value says besides what the caller is told: the source of its error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The contract's word for the kind.
    pub kind: &'static str,
    /// The HTTP status of the provider's answer.
    pub provider_status: Option<u16>,
    /// The provider's own error code.
    pub provider_code: Option<String>,
}

impl std::error::Error for Answered {}

impl std::fmt::Display for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the plugin answered {}", self.kind)?;
        if let Some(status) = self.provider_status {
            write!(f, ", the provider answered {status}")?;
        }
        if let Some(code) = &self.provider_code {
            write!(f, ", its code is {code}")?;
        }
        Ok(())
    }
}

/// Whether a plugin said that a credential is not there or not right.
pub(crate) fn is_auth(error: &Error) -> bool {
    let said = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Answered>());
    said.is_some_and(|said| said.kind == word(types::ErrorKind::Auth))
}

/// An amount as a plugin says it.
pub(crate) fn money(cost: types::Money) -> Result<Money, Breach> {
    let types::Money { micros, currency } = cost;
    if currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Ok(Money { micros, currency });
    }
    let currency = clean(&currency, 20);
    Err(Breach::Contract(format!("gave a cost in {currency:?}; a currency is three capitals such as USD")))
}

/// The word of the contract.
fn word(kind: types::ErrorKind) -> &'static str {
    use types::ErrorKind as Kind;
    match kind {
        Kind::InvalidRequest => "invalid-request",
        Kind::Unsupported => "unsupported",
        Kind::ModelNotFound => "model-not-found",
        Kind::ContentPolicy => "content-policy",
        Kind::Auth => "auth",
        Kind::Quota => "quota",
        Kind::RateLimited => "rate-limited",
        Kind::Overloaded => "overloaded",
        Kind::Timeout => "timeout",
        Kind::Cancelled => "cancelled",
        Kind::Upstream => "upstream",
        Kind::NetworkDenied => "network-denied",
        Kind::LimitExceeded => "limit-exceeded",
        Kind::Internal => "internal",
    }
}

/// The caller's word for a parameter that a plugin names in the words of the contract.
pub(crate) fn callers_word(names: &'static ParamNames, param: &str) -> Cow<'static, str> {
    match param {
        "prompt" => names.prompt.into(),
        "negative-prompt" => names.negative_prompt.into(),
        "model" => names.model.into(),
        "count" => names.count.into(),
        "size" => names.size.into(),
        "seed" => names.seed.into(),
        "steps" => names.steps.into(),
        "guidance" => names.guidance.into(),
        "sampler" => names.sampler.into(),
        "format" => names.format.into(),
        "compression" => names.compression.into(),
        "image" => names.image.into(),
        "mask" => names.mask.into(),
        "reference" => names.reference.into(),
        other => match other.strip_prefix("option.") {
            Some(option) => format!("{}.{}", names.options, clean(option, 64)).into(),
            None => clean(other, 64).into(),
        },
    }
}

/// Text of a plugin on its way to a caller: one line, not too long.
pub(crate) fn clean(text: &str, most: usize) -> String {
    text.trim().chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(most).collect()
}

/// What only the log is told.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Private(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn function_of_a_library_is_told_from_the_plugins_own() {
        for name in
            ["std::process::abort", "<core::option::Option<T>>::unwrap", "alloc::alloc::handle_alloc_error", "abort"]
        {
            assert!(is_library(name), "{name}");
        }
        for name in ["hostile_guest::misbehave", "<my::Thing as core::fmt::Display>::fmt", "main"] {
            assert!(!is_library(name), "{name}");
        }
    }

    #[test]
    fn place_is_told_from_the_source_folder_on_and_only_where_it_is_the_plugins_own() {
        let rows = [
            ("/build/my-adapter/src/convert.rs", Some("src/convert.rs")),
            ("C:\\work\\my-adapter\\src\\wire\\mod.rs", Some("src/wire/mod.rs")),
            ("lib.js", Some("lib.js")),
            ("/rustc/abc/library/core/src/panicking.rs", None),
            ("/build/.cargo/registry/src/index/serde-1.0/src/lib.rs", None),
        ];
        for (path, expected) in rows {
            assert_eq!(own_file(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn text_of_a_plugin_becomes_one_short_line() {
        assert_eq!(clean(" a\r\nb\u{1b}[31m ", 5), "a  b ");
    }

    #[test]
    fn parameters_are_named_in_the_callers_words() {
        let names = &ParamNames::OURS;
        assert_eq!(callers_word(names, "negative-prompt"), "negative_prompt");
        assert_eq!(callers_word(names, "option.style"), "options.style");
        assert_eq!(callers_word(names, "something"), "something");
    }
}
