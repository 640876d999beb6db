//! The caller's place in a distributed trace, as W3C Trace Context writes it. It is carried from the request to the
//! upstreams that are asked for it, so that one trace shows both; nothing here records or samples.

use std::fmt;
use std::sync::Arc;

/// A checked `traceparent`: version, trace, parent and flags.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TraceParent(Arc<str>);

impl TraceParent {
    /// Takes the value of a `traceparent` header; `None` where the standard calls it invalid.
    pub fn new(text: &str) -> Option<Self> {
        // `00-` 32 digits `-` 16 digits `-` 2 digits. A later version may go on after that, behind one more hyphen.
        const FIELDS: [usize; 4] = [2, 32, 16, 2];
        const LONGEST: usize = 256;
        if text.len() > LONGEST || !text.is_ascii() {
            return None;
        }
        let mut rest = text;
        let mut fields = [""; 4];
        for (number, (field, length)) in fields.iter_mut().zip(FIELDS).enumerate() {
            if number > 0 {
                rest = rest.strip_prefix('-')?;
            }
            let (taken, left) = rest.split_at_checked(length)?;
            let is_hexadecimal = taken.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            if !is_hexadecimal {
                return None;
            }
            (*field, rest) = (taken, left);
        }
        let [version, trace, parent, _flags] = fields;
        let is_empty = |field: &str| field.bytes().all(|byte| byte == b'0');
        let is_whole = match version {
            "ff" => false,
            "00" => rest.is_empty(),
            _ => rest.is_empty() || (rest.starts_with('-') && rest.bytes().all(|byte| byte.is_ascii_graphic())),
        };
        (is_whole && !is_empty(trace) && !is_empty(parent)).then(|| Self(text.into()))
    }

    /// The value as text, for the header of the next request.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
