//! Origins: scheme, host and port in one spelling, so that two of them are compared and never interpreted; and patterns
//! of origins.
//!
//! `url` gives every host one form: lower case, names of other scripts in ASCII, addresses in one spelling. A name that
//! ends in a dot, and an origin with a user in it, are no origins here, so they match nothing.

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
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        // A user name or a password would have an @ behind it.
        let is_plain = !text.contains(['*', '@', '%', '\\']);
        let origin = Self::of(&url).filter(|_| is_bare && is_plain && text.trim() == text).ok_or_else(wrong)?;
        if matches!(&origin.host, Host::Domain(name) if name.ends_with('.')) { Err(wrong()) } else { Ok(origin) }
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

    /// Whether the other one's name ends in this one's, after at least one more label.
    fn is_above(&self, other: &Self) -> bool {
        let (Host::Domain(above), Host::Domain(name)) = (&self.host, &other.host) else { return false };
        let is_below = name.strip_suffix(above.as_str()).and_then(|rest| rest.strip_suffix('.'));
        (self.is_secure, self.port) == (other.is_secure, other.port) && is_below.is_some_and(|rest| !rest.is_empty())
    }

    /// Whether its host is an address and no name.
    pub(crate) fn is_address(&self) -> bool {
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

/// Second labels under which registries of countries give names to anybody, as in `co.uk`.
const REGISTRY_LABELS: [&str; 16] =
    ["ac", "co", "com", "edu", "gen", "go", "gob", "gov", "gv", "mil", "ne", "net", "nom", "or", "org", "sch"];

/// An origin, or all origins below a name.
///
/// `https://*.example.com` stands for every name with one or more labels before `.example.com`, and not for
/// `example.com` itself; scheme and port are exact. What follows `*.` must have two labels or more and be no registry's
/// suffix such as `com` or `co.uk`. Below which names anybody can have one is not known to the host otherwise: the operator
/// grants a pattern or does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OriginPattern {
    Exact(Origin),
    /// Everything below this origin's host.
    Below(Origin),
}

impl OriginPattern {
    /// Reads `https://host[:port]` or `https://*.name[:port]`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://*.") else { return Origin::parse(text).map(Self::Exact) };
        let wrong = |why: &str| format!("{text:?} {why}; write it as in \"https://*.example.com\"");
        let below = Origin::parse(&format!("{scheme}://{rest}"))
            .map_err(|_| wrong("must be an origin with *. before its name"))?;
        let Host::Domain(name) = &below.host else { return Err(wrong("has *. before an address")) };
        let labels: Vec<_> = name.split('.').collect();
        if labels.contains(&"") {
            return Err(wrong("has an empty label"));
        }
        let is_registry = match labels.as_slice() {
            [second, first] => first.len() == 2 && REGISTRY_LABELS.contains(second),
            labels => labels.len() < 2,
        };
        if is_registry { Err(wrong("stands for names of anybody")) } else { Ok(Self::Below(below)) }
    }

    /// Whether an origin is one of these.
    pub(crate) fn matches(&self, origin: &Origin) -> bool {
        match self {
            Self::Exact(exact) => exact == origin,
            Self::Below(below) => below.is_above(origin),
        }
    }

    /// Whether every origin of the other one is one of these.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (pattern, Self::Exact(origin)) => pattern.matches(origin),
            (Self::Exact(_), Self::Below(_)) => false,
            (Self::Below(one), Self::Below(other)) => one == other || one.is_above(other),
        }
    }

    /// The origin, if this stands for a single one.
    pub(crate) fn exact(&self) -> Option<&Origin> {
        match self {
            Self::Exact(origin) => Some(origin),
            Self::Below(_) => None,
        }
    }

    /// Whether what it stands for is reached by TLS.
    pub(crate) fn is_secure(&self) -> bool {
        match self {
            Self::Exact(origin) | Self::Below(origin) => origin.is_secure,
        }
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(origin) => origin.fmt(f),
            Self::Below(origin) => f.write_str(&origin.to_string().replacen("://", "://*.", 1)),
        }
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
            "https://a.com?",
            "https://a.com#x",
            "https://a.com#",
            "https://u@a.com",
            "https://u:p@a.com",
            "ws://a.com",
            "file:///etc",
            "https://a.com:99999",
            " https://a.com",
            "https://a.com\\x",
            "https://a%2ecom",
            "https://a.com.",
            "",
        ];
        for text in wrong {
            assert!(Origin::parse(text).is_err(), "{text}");
        }
        assert_eq!(Origin::parse("HTTPS://API.Example.com:443").unwrap().to_string(), "https://api.example.com");
        assert_eq!(Origin::parse("http://0x7f.1:80/").unwrap().to_string(), "http://127.0.0.1");
    }

    #[test]
    fn pattern_stands_for_whole_labels_below_a_name() {
        let pattern = OriginPattern::parse("https://*.Example.com").unwrap();
        assert_eq!(pattern.to_string(), "https://*.example.com");
        let matches = |url: &str| pattern.matches(&Origin::of(&Url::parse(url).unwrap()).unwrap());
        for url in ["https://a.example.com/x", "https://a.b.EXAMPLE.com:443", "https://ａ.example.com"] {
            assert!(matches(url), "{url}");
        }
        let others = [
            "https://example.com",
            "https://badexample.com",
            "https://a.example.com.",
            "https://a.example.com:8443",
            "http://a.example.com",
            "http://a.example.com:443",
            "https://.example.com",
            "https://a.example.com.evil.org",
            "https://1.2.3.4",
        ];
        for url in others {
            assert!(!matches(url), "{url}");
        }
    }

    #[test]
    fn pattern_for_names_of_anybody_is_refused() {
        let wrong = [
            "https://*",
            "https://*.com",
            "https://*.com:8443",
            "https://*.co.uk",
            "https://*.com.au",
            "https://*.localhost",
            "https://*.*.example.com",
            "https://*.10.0.0.1",
            "https://*.[::1]",
            "https://a.*.example.com",
            "https://a*.example.com",
            "https://*example.com",
            "https://*.example.com/v1",
            "https://*.example.com.",
            "https://*..example.com",
            "https://u@*.example.com",
            "ftp://*.example.com",
            "https://x?://*.example.com",
        ];
        for text in wrong {
            assert!(OriginPattern::parse(text).is_err(), "{text}");
        }
        for text in
            ["https://*.example.com", "https://*.bücher.example", "http://*.x.co.uk:8080", "https://*.example.run"]
        {
            OriginPattern::parse(text).unwrap();
        }
    }

    #[test]
    fn pattern_covers_what_it_is_no_narrower_than() {
        let covers =
            |one: &str, other: &str| OriginPattern::parse(one).unwrap().covers(&OriginPattern::parse(other).unwrap());
        assert!(covers("https://*.example.com", "https://*.example.com"));
        assert!(covers("https://*.example.com", "https://*.eu.example.com"));
        assert!(covers("https://*.example.com", "https://a.example.com"));
        assert!(covers("https://a.example.com", "https://a.example.com:443"));
        assert!(!covers("https://*.eu.example.com", "https://*.example.com"));
        assert!(!covers("https://a.example.com", "https://*.example.com"));
        assert!(!covers("https://*.example.com", "https://example.com"));
        assert!(!covers("https://*.example.com", "http://a.example.com"));
    }
}
