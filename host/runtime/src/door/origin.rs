//! Origins: scheme, host and port in one spelling, so that two of them are compared and never interpreted.

use std::fmt;

use url::{Host, Url};

/// Scheme, host and port, compared exactly. Holding one means that the host is in the form that `url` gives it: lower
/// case, ASCII, addresses in their one spelling.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Origin {
    is_secure: bool,
    host: Host<String>,
    port: u16,
}

impl Origin {
    /// Reads `https://host[:port]`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} must be an origin such as \"https://api.example.com\" or \"http://10.0.0.5:8188\"");
        let url = Url::parse(text).map_err(|_| wrong())?;
        let is_bare =
            url.path() == "/" && url.query().is_none() && url.fragment().is_none() && !text.ends_with(['?', '#']);
        let is_plain = url.username().is_empty() && url.password().is_none() && !text.contains(['*', '@', '%', '\\']);
        Self::of(&url).filter(|_| is_bare && is_plain && text.trim() == text).ok_or_else(wrong)
    }

    /// The origin of an address; `None` for what is not HTTP.
    pub(crate) fn of(url: &Url) -> Option<Self> {
        let is_secure = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        Some(Self { is_secure, host: url.host()?.to_owned(), port: url.port_or_known_default()? })
    }

    /// Whether it is reached by TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Whether its host is an address and no name.
    pub(super) fn is_address(&self) -> bool {
        match self.host {
            Host::Domain(_) => false,
            Host::Ipv4(_) | Host::Ipv6(_) => true,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, usual) = if self.is_secure { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port == usual { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_reads_one_form_only() {
        for text in ["https://api.example.com", "https://api.example.com/", "http://127.0.0.1:8188", "http://[::1]:80"]
        {
            Origin::parse(text).unwrap();
        }
        let wrong = [
            "api.example.com",
            "https://",
            "https://*.example.com",
            "https://a.com/v1",
            "https://a.com?x",
            "https://a.com#x",
            "https://u@a.com",
            "https://u:p@a.com",
            "ws://a.com",
            "file:///etc",
            "https://a.com:99999",
            " https://a.com",
            "https://a.com\\x",
            "https://a%2ecom",
            "",
        ];
        for text in wrong {
            assert!(Origin::parse(text).is_err(), "{text}");
        }
        assert_eq!(Origin::parse("HTTPS://API.Example.com:443").unwrap().to_string(), "https://api.example.com");
        assert_eq!(Origin::parse("http://0x7f.1:80/").unwrap().to_string(), "http://127.0.0.1");
    }
}
