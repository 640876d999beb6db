//! Paths of requests, and patterns of them.
//!
//! A pattern is matched with the path's decoded segments. What could be read as another path by whoever is asked (an encoded
//! slash, a segment that is decoded twice, dots behind an encoding) matches no pattern. Where a want lists no paths, nothing is
//! looked at.

use url::Url;

/// The longest path that is compared with patterns.
const MAX_PATH_BYTES: usize = 8 << 10;

/// The longest pattern.
const MAX_PATTERN_BYTES: usize = 512;

/// Which paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Paths {
    /// Every one.
    Any,
    /// Those that match one of these.
    Listed(Vec<PathPattern>),
}

impl Paths {
    /// Whether a request's path is one of these.
    pub(crate) fn matches(&self, path: &Result<Vec<String>, Ambiguous>) -> bool {
        match (self, path) {
            (Self::Any, _) => true,
            (Self::Listed(patterns), Ok(segments)) => patterns.iter().any(|pattern| pattern.matches(segments)),
            (Self::Listed(_), Err(_)) => false,
        }
    }

    /// The patterns; every path is one as well.
    pub(crate) fn patterns(&self) -> Vec<PathPattern> {
        match self {
            Self::Any => vec![PathPattern { segments: Vec::new(), has_tail: true }],
            Self::Listed(patterns) => patterns.clone(),
        }
    }

    /// Whether every path that matches a pattern is one of these.
    pub(crate) fn cover(&self, pattern: &PathPattern) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(patterns) => patterns.iter().any(|wider| wider.covers(pattern)),
        }
    }
}

/// A pattern such as `/v1/models/*` or `/v1/**`.
///
/// Segments are compared exactly, in their decoded form. `*` is one whole segment that is not empty; `**`, only at the
/// end, is any number of segments, none included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathPattern {
    segments: Vec<Segment>,
    has_tail: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Text(String),
    Any,
}

impl PathPattern {
    /// Reads a pattern.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text:?} {why}; write it as in \"/v1/**\" or \"/v1/models/*\"");
        let path = text.strip_prefix('/').ok_or_else(|| wrong("must begin with /"))?;
        if text.len() > MAX_PATTERN_BYTES {
            return Err(format!("a path has at most {MAX_PATTERN_BYTES} bytes, not {}", text.len()));
        }
        if text.contains(['%', '?', '#', '\\', ';']) || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(wrong("must be a plain path, neither encoded nor with a query"));
        }
        let (path, has_tail) = match path.strip_suffix("**") {
            Some("") => return Ok(Self { segments: Vec::new(), has_tail: true }),
            Some(rest) => (rest.strip_suffix('/').ok_or_else(|| wrong("must have ** as a whole segment"))?, true),
            None => (path, false),
        };
        let parts: Vec<_> = path.split('/').collect();
        let mut segments = Vec::with_capacity(parts.len());
        for (number, part) in parts.iter().enumerate() {
            let is_last = number + 1 == parts.len();
            segments.push(match *part {
                "*" => Segment::Any,
                "**" => return Err(wrong("must have ** at its end only")),
                "." | ".." => return Err(wrong("must have no dot segments")),
                "" if has_tail || !is_last => return Err(wrong("must have no empty segments")),
                part if part.contains('*') => return Err(wrong("must have * as a whole segment")),
                part => Segment::Text(part.to_owned()),
            });
        }
        Ok(Self { segments, has_tail })
    }

    fn matches(&self, path: &[String]) -> bool {
        let is_long_enough =
            if self.has_tail { path.len() >= self.segments.len() } else { path.len() == self.segments.len() };
        is_long_enough
            && self.segments.iter().zip(path).all(|(segment, part)| match segment {
                Segment::Text(text) => text == part,
                Segment::Any => !part.is_empty(),
            })
    }

    /// Whether every path of the other one matches this one.
    fn covers(&self, other: &Self) -> bool {
        let is_long_enough = match (self.has_tail, other.has_tail) {
            (true, _) => other.segments.len() >= self.segments.len(),
            (false, true) => false,
            (false, false) => other.segments.len() == self.segments.len(),
        };
        is_long_enough
            && self.segments.iter().zip(&other.segments).all(|pair| match pair {
                (Segment::Any, Segment::Any) => true,
                (Segment::Any, Segment::Text(text)) => !text.is_empty(),
                (Segment::Text(one), Segment::Text(other)) => one == other,
                (Segment::Text(_), Segment::Any) => false,
            })
    }
}

impl std::fmt::Display for PathPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Text(text) => write!(f, "/{text}")?,
                Segment::Any => f.write_str("/*")?,
            }
        }
        if self.has_tail { f.write_str("/**") } else { Ok(()) }
    }
}

/// What is the matter with a path that could be read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ambiguous(pub(crate) &'static str);

/// The decoded segments of an address's path.
pub(crate) fn segments(url: &Url) -> Result<Vec<String>, Ambiguous> {
    let path = url.path();
    if path.len() > MAX_PATH_BYTES {
        return Err(Ambiguous("it is too long"));
    }
    path.strip_prefix('/').unwrap_or(path).split('/').map(decoded).collect()
}

fn decoded(segment: &str) -> Result<String, Ambiguous> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match first {
            b'%' => {
                let (byte, after) = escape(after).ok_or(Ambiguous("it has a % that encodes nothing"))?;
                rest = after;
                byte
            }
            other => *other,
        });
    }
    let text = String::from_utf8(bytes).map_err(|_| Ambiguous("it is not UTF-8"))?;
    let is_twice = |(at, _)| escape(&text.as_bytes()[at + 1..]).is_some();
    if text.match_indices('%').any(is_twice) {
        return Err(Ambiguous("it is encoded twice"));
    }
    if text.contains(['/', '\\']) {
        return Err(Ambiguous("it has an encoded slash"));
    }
    if text.chars().any(char::is_control) {
        return Err(Ambiguous("it has an encoded control character"));
    }
    // Some servers take off what follows a semicolon before they look at the dots.
    if matches!(text.split(';').next(), Some("." | "..")) {
        return Err(Ambiguous("it has a dot segment"));
    }
    Ok(text)
}

/// The byte of two hexadecimal digits, and what follows them.
fn escape(text: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, rest) = text.split_at_checked(2)?;
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let value = digit(*digits.first()?)? * 16 + digit(*digits.last()?)?;
    Some((u8::try_from(value).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        let url = Url::parse(&format!("https://a.com{path}")).unwrap();
        Paths::Listed(vec![PathPattern::parse(pattern).unwrap()]).matches(&segments(&url))
    }

    #[test]
    fn pattern_matches_whole_decoded_segments() {
        let rows = [
            ("/v1/**", "/v1/images/generations?x=/../..", true),
            ("/v1/**", "/v1", true),
            ("/v1/**", "/v1/", true),
            ("/v1/**", "/v1//x", true),
            ("/v1/**", "/v10/x", false),
            ("/v1/**", "/V1/x", false),
            ("/v1/**", "//v1/x", false),
            ("/v1/**", "/", false),
            ("/v1/**", "/v1/../admin", false),
            ("/v1/**", "/v1/%2e%2e/admin", false),
            ("/v1/**", "/x/../v1/a", true),
            ("/v1/**", "/%76%31/a", true),
            ("/v1/models/*", "/v1/models/a:generate", true),
            ("/v1/models/*", "/v1/models/a%20b", true),
            ("/v1/models/*", "/v1/models/", false),
            ("/v1/models/*", "/v1/models/a/b", false),
            ("/v1/models/*", "/v1/models", false),
            ("/v1/*/x/**", "/v1/a/x/b/c", true),
            ("/**", "/anything/at/all", true),
            ("/", "/", true),
            ("/", "/x", false),
            ("/v1/", "/v1/", true),
            ("/v1/", "/v1", false),
            ("/größe", "/gr%C3%B6%C3%9Fe", true),
        ];
        for (pattern, path, expected) in rows {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn path_that_could_be_read_in_two_ways_matches_nothing() {
        let paths = [
            "/v1/a%2fb",
            "/v1/a%2Fb",
            "/v1/%2f..%2fadmin",
            "/v1/a%5cb",
            "/v1/%252e%252e/admin",
            "/v1/%252fadmin",
            "/v1/a%2500",
            "/v1/..;/admin",
            "/v1/..;x=1/admin",
            "/v1/%2e%2e;/admin",
            "/v1/a%00",
            "/v1/a%0d%0ab",
            "/v1/%ff",
            "/v1/%c0%af",
            "/v1/a%zz",
            "/v1/a%",
        ];
        for path in paths {
            assert!(!matches("/**", path), "{path}");
        }
        assert!(!matches("/**", &format!("/{}", "x".repeat(MAX_PATH_BYTES))));
        assert!(matches("/**", &format!("/{}", "x".repeat(MAX_PATH_BYTES - 1))));
        assert!(matches("/v1/*", "/v1/100%25"), "one encoded percent sign is no second encoding");
        let url = Url::parse("https://a.com/v1/a%2fb").unwrap();
        assert!(Paths::Any.matches(&segments(&url)), "where no paths are listed, none is looked at");
    }

    #[test]
    fn pattern_is_refused_with_what_would_be_right() {
        for (text, expected) in [
            ("v1/**", "must begin with /"),
            ("", "must begin with /"),
            ("/v1/a**", "** as a whole segment"),
            ("/v1/**/x", "** at its end only"),
            ("/v1/a*", "* as a whole segment"),
            ("/v1/../x", "no dot segments"),
            ("/v1//x", "no empty segments"),
            ("/v1//**", "no empty segments"),
            ("/v1/%2f", "a plain path"),
            ("/v1?x", "a plain path"),
            ("/v1 /x", "a plain path"),
            ("/v1;x", "a plain path"),
        ] {
            let error = PathPattern::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(PathPattern::parse(&format!("/{}", "x".repeat(MAX_PATTERN_BYTES))).is_err());
    }

    #[test]
    fn pattern_covers_what_it_is_no_narrower_than() {
        let covers =
            |one: &str, other: &str| PathPattern::parse(one).unwrap().covers(&PathPattern::parse(other).unwrap());
        for (one, other) in
            [("/**", "/v1/*"), ("/v1/**", "/v1"), ("/v1/*", "/v1/a"), ("/v1/**", "/v1/*/x/**"), ("/a", "/a")]
        {
            assert!(covers(one, other), "{one} {other}");
            assert!(covers("/**", other) && covers(other, other));
        }
        for (one, other) in [
            ("/v1/*", "/v1/**"),
            ("/v1/*", "/v1/a/b"),
            ("/v1/a", "/v1/*"),
            ("/v1/*", "/v1/"),
            ("/v1/**", "/**"),
            ("/a", "/b"),
        ] {
            assert!(!covers(one, other), "{one} {other}");
        }
    }
}
