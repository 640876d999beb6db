//! W3C trace context: what an upstream is told about the request that a call serves, so that its logs and ours can be put
//! together. It says nothing about the caller.

use std::hash::{BuildHasher, Hasher, RandomState};

use easel_core::TraceParent;
use http::{HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

/// Where it stands. Whatever the plugin wrote there is replaced.
pub(super) const HEADER: HeaderName = HeaderName::from_static("traceparent");

/// The trace that a call belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trace {
    id: String,
    flags: String,
}

impl Trace {
    /// The trace of a request: its caller's, or else one whose number is made of the request's id.
    pub(super) fn of(request_id: &str, caller: Option<&TraceParent>) -> Self {
        let caller = caller.map(TraceParent::as_str);
        match caller.and_then(|text| Some((text.get(3..35)?, text.get(53..55)?))) {
            Some((id, flags)) => Self { id: id.to_owned(), flags: flags.to_owned() },
            None => {
                let id = Sha256::digest(request_id).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
                Self { id, flags: "01".to_owned() }
            }
        }
    }

    /// The header of one hop, which is a span of its own.
    pub(super) fn parent(&self) -> HeaderValue {
        let span = RandomState::new().build_hasher().finish().max(1);
        let text = format!("00-{}-{span:016x}-{}", self.id, self.flags);
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hop_is_a_span_of_the_requests_trace() {
        let trace = Trace::of("request-1", None);
        let text = |value: HeaderValue| value.to_str().unwrap().to_owned();
        let (one, other) = (text(trace.parent()), text(trace.parent()));
        assert_ne!(one, other);
        assert!(TraceParent::new(&one).is_some(), "{one}");
        assert_eq!(one[..36], other[..36]);
        assert_ne!(Trace::of("request-2", None), trace);
    }

    #[test]
    fn callers_trace_is_gone_on_with() {
        let caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
        let trace = Trace::of("request-1", TraceParent::new(caller).as_ref());
        let text = trace.parent().to_str().unwrap().to_owned();
        assert!(text.starts_with(&caller[..36]) && text.ends_with("-00"), "{text}");
        assert_ne!(text, caller, "it is a span of its own");
    }
}
