//! Headers that are not the plugin's.

use http::HeaderName;

/// Headers that describe the connection or frame the message: the client's business.
pub(crate) fn is_connection_header(name: &HeaderName) -> bool {
    const NAMES: [&str; 13] = [
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    NAMES.contains(&name.as_str())
}

/// Headers that carry secrets, whoever sends them.
pub(super) fn is_secret_header(name: &HeaderName) -> bool {
    const NAMES: [&str; 7] =
        ["api-key", "authorization", "cookie", "set-cookie", "x-api-key", "x-goog-api-key", "x-key"];
    NAMES.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_frame_or_carry_secrets_are_known() {
        // RFC 9110 section 7.6.1 and RFC 9113 section 8.2.2, what frames a message, and what speaks to proxies.
        let connection = "connection content-length expect host http2-settings keep-alive proxy-authenticate \
                          proxy-authorization proxy-connection te trailer transfer-encoding upgrade";
        let secret = "api-key authorization cookie set-cookie x-api-key x-goog-api-key x-key";
        let is = |kind: fn(&HeaderName) -> bool, name: &str| kind(&HeaderName::from_bytes(name.as_bytes()).unwrap());
        for name in connection.split(' ') {
            assert!(is(is_connection_header, name) && is(is_connection_header, &name.to_uppercase()), "{name}");
            assert!(!is(is_secret_header, name), "{name}");
        }
        for name in secret.split(' ') {
            assert!(is(is_secret_header, name) && !is(is_connection_header, name), "{name}");
        }
        for name in ["accept", "content-type", "traceparent", "x-secret", "user-agent"] {
            assert!(!is(is_secret_header, name) && !is(is_connection_header, name), "{name}");
        }
    }
}
