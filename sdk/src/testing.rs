//! Plays the host for a plugin's own tests: scripted upstreams, a config, credentials, blobs in memory.
//!
//! Outside a component there is no host, so `cargo test` runs a plugin against this stand-in. It keeps the contract's
//! rules as far as a plugin can notice them; it grants every address and has no limits, so it does not replace a run
//! in the real host (`easel plugin test`).
//!
//! ```
//! use easel_sdk::http::Request;
//! use easel_sdk::testing::{Reply, Upstream};
//!
//! let upstream = Upstream::script([Reply::json(200, r#"{"ok": true}"#)]);
//! let answer = Request::get("http://upstream.test/").send().unwrap().into_document().unwrap();
//! assert_eq!(answer.get::<bool>("/ok").unwrap(), Some(true));
//! assert_eq!(upstream.seen()[0].url, "http://upstream.test/");
//! ```

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::marker::PhantomData;
use std::rc::Rc;

#[path = "testing/events.rs"]
mod events;
#[path = "testing/pixels.rs"]
pub(crate) mod pixels;
#[path = "testing/stand_in.rs"]
pub(crate) mod stand_in;
#[path = "testing/store.rs"]
pub(crate) mod store;

thread_local! {
    static SCRIPT: RefCell<Script> = RefCell::default();
}

#[derive(Default)]
struct Script {
    replies: VecDeque<Reply>,
    seen: Vec<Seen>,
    credentials: BTreeSet<String>,
    config: String,
    is_watched: bool,
    partials: Vec<(u32, Vec<u8>)>,
    /// What the plugin keeps.
    values: BTreeMap<String, Vec<u8>>,
}

/// The other side of an adapter, with its answers in order. It serves the thread that made it until it is dropped; a
/// request beyond its last answer fails as if nobody listened.
pub struct Upstream(PhantomData<Rc<()>>);

impl Upstream {
    /// Starts one, in place of an earlier one.
    pub fn script(replies: impl IntoIterator<Item = Reply>) -> Self {
        let replies = replies.into_iter().collect();
        SCRIPT.set(Script { replies, ..Script::default() });
        Self(PhantomData)
    }

    /// Supplies a credential.
    #[must_use]
    pub fn with_credential(self, name: &str) -> Self {
        SCRIPT.with_borrow_mut(|script| script.credentials.insert(name.to_owned()));
        self
    }

    /// Sets what [`host::config`](crate::host::config) reads, as JSON.
    #[must_use]
    pub fn with_config(self, json: &str) -> Self {
        SCRIPT.with_borrow_mut(|script| json.clone_into(&mut script.config));
        self
    }

    /// Has somebody watch the intermediate states of pictures.
    #[must_use]
    pub fn with_watcher(self) -> Self {
        SCRIPT.with_borrow_mut(|script| script.is_watched = true);
        self
    }

    /// The intermediate states so far: which picture, and the bytes. None are kept when nobody watches.
    pub fn partial_images(&self) -> Vec<(u32, Vec<u8>)> {
        SCRIPT.with_borrow(|script| script.partials.clone())
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        SCRIPT.with_borrow(|script| script.seen.clone())
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        SCRIPT.take();
    }
}

/// A request as the upstream saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// The URL.
    pub url: String,
    /// The headers that the plugin set.
    pub headers: Vec<(String, String)>,
    /// The body as text; blobs in it are written as `<N bytes>`.
    pub body: String,
    /// The name of the credential.
    pub credential: Option<String>,
    /// The limit of the whole exchange, in milliseconds.
    pub total_timeout: Option<u32>,
}

/// A scripted answer.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    /// An answer with a body.
    pub fn new(status: u16, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("content-type".to_owned(), media_type.to_owned())], body: body.into() }
    }

    /// An answer of JSON.
    pub fn json(status: u16, body: &str) -> Self {
        Self::new(status, "application/json", body)
    }

    /// A stream of server-sent events, written as it goes over the wire.
    pub fn events(stream: impl Into<Vec<u8>>) -> Self {
        Self::new(200, "text/event-stream", stream)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}
