//! Where a redirect leads, and what goes on.

use http::{Method, StatusCode};
use url::Url;

use super::Incoming;

/// The most redirects that are followed.
pub(super) const MAX_REDIRECTS: usize = 5;

/// The next address, if the answer to this one is a redirect. The credential that may have been in the address that was
/// asked is not in the one that it is joined with.
pub(super) fn of(incoming: &Incoming, asked: &Url) -> Option<Url> {
    if !matches!(incoming.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = incoming.location()?.to_str().ok()?;
    let mut url = asked.join(location).ok()?;
    url.set_fragment(None);
    Some(url)
}

/// 303 always, and 301 and 302 of a POST as every client does it, go on as a GET.
pub(super) fn drops_body(status: StatusCode, method: &Method) -> bool {
    match status {
        StatusCode::SEE_OTHER => method != Method::HEAD,
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => method == Method::POST,
        _ => false,
    }
}
