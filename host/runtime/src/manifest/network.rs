//! `[network]`: where a plugin wants to send requests, and which.
//!
//! The short form names origins that share their methods; `[[network]]`, as often as needed, says for each what may be
//! asked there, which credentials go along, and where redirects may lead. No other place says where a credential goes.

use std::collections::BTreeSet;
use std::fmt;

use http::Method;
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::invalid;
use crate::door::{Origin, OriginPattern, PathPattern, Paths};
use crate::refusal::{Refusal, nearest};

/// The most wants of a manifest, and the most grants of a plugin.
pub(crate) const MAX_WANTS: usize = 64;

/// The most paths of one want or grant.
const MAX_PATHS: usize = 64;

/// The word for whatever origin the operator names.
const OPERATOR: &str = "operator";

/// Requests that a plugin wants to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) origin: WantedOrigin,
    pub(crate) methods: Vec<Method>,
    pub(crate) paths: Paths,
    /// The credentials that may go along.
    pub(crate) credentials: BTreeSet<String>,
    pub(crate) redirects: Redirects,
}

/// Where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WantedOrigin {
    /// There.
    Named(OriginPattern),
    /// To whatever origin the operator names: `operator`.
    Operator,
}

impl fmt::Display for WantedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(pattern) => pattern.fmt(f),
            Self::Operator => f.write_str(OPERATOR),
        }
    }
}

/// Which redirects are followed; one that is not is the answer. Each that is followed is authorised like a first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Redirects {
    /// None.
    None,
    /// Those that stay at the origin.
    SameOrigin,
    /// Those that lead to where the plugin may go anyway.
    Wanted,
}

impl Redirects {
    /// Whether a redirect is followed.
    pub(crate) fn allow(self, from: &Origin, to: &Origin) -> bool {
        match self {
            Self::None => false,
            Self::SameOrigin => from == to,
            Self::Wanted => true,
        }
    }
}

/// `[network]` or `[[network]]`, as it is written.
pub(super) enum RawNetwork {
    Short(RawOrigins),
    Listed(Vec<RawWant>),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOrigins {
    #[serde(default)]
    origins: Vec<String>,
    methods: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWant {
    origin: String,
    methods: Option<Vec<String>>,
    paths: Option<Vec<String>>,
    #[serde(default)]
    credential: RawNames,
    redirects: Option<String>,
}

/// A name, or a list of them.
#[derive(Default)]
struct RawNames(Vec<String>);

impl Default for RawNetwork {
    fn default() -> Self {
        Self::Short(RawOrigins::default())
    }
}

/// By hand, because what serde derives for two forms loses the reason why one of them does not fit.
impl<'de> Deserialize<'de> for RawNetwork {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = RawNetwork;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[network] with origins, or [[network]] for each origin")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawNetwork, A::Error> {
                Deserialize::deserialize(MapAccessDeserializer::new(map)).map(RawNetwork::Short)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<RawNetwork, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(seq)).map(RawNetwork::Listed)
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

impl<'de> Deserialize<'de> for RawNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = RawNames;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a credential, or a list of names")
            }
            fn visit_str<E: Error>(self, name: &str) -> Result<RawNames, E> {
                Ok(RawNames(vec![name.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<RawNames, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(seq)).map(RawNames)
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

/// Checks the wants. Those of the short form may use every credential of the manifest.
pub(super) fn check(raw: RawNetwork, credentials: &[String]) -> Result<Vec<Want>, Refusal> {
    let wants = match raw {
        RawNetwork::Short(RawOrigins { origins, methods }) => {
            let methods = check_methods("network.methods", methods.as_deref())?;
            let every: BTreeSet<_> = credentials.iter().cloned().collect();
            let want = |origin: &String| {
                Ok(Want {
                    origin: check_origin("network.origins", origin)?,
                    methods: methods.clone(),
                    paths: Paths::Any,
                    credentials: every.clone(),
                    redirects: Redirects::Wanted,
                })
            };
            origins.iter().map(want).collect::<Result<Vec<_>, _>>()?
        }
        RawNetwork::Listed(wants) => {
            wants.into_iter().map(|want| check_want(want, credentials)).collect::<Result<Vec<_>, _>>()?
        }
    };
    if wants.len() > MAX_WANTS {
        return Err(Refusal::new(format!("it wants {} origins; at most {MAX_WANTS} can be wanted", wants.len())));
    }
    Ok(wants)
}

fn check_want(raw: RawWant, credentials: &[String]) -> Result<Want, Refusal> {
    let RawWant { origin, methods, paths, credential: RawNames(names), redirects } = raw;
    for name in &names {
        if !credentials.contains(name) {
            let known = nearest(name, credentials.iter().map(String::as_str));
            return Err(Refusal::new(format!("network.credential {name:?} is no [[credential]]; {known}")));
        }
    }
    Ok(Want {
        origin: check_origin("network.origin", &origin)?,
        methods: check_methods("network.methods", methods.as_deref())?,
        paths: check_paths("network.paths", paths.as_deref())?,
        credentials: names.into_iter().collect(),
        redirects: match redirects.as_deref() {
            None | Some("wanted") => Redirects::Wanted,
            Some("same-origin") => Redirects::SameOrigin,
            Some("none") => Redirects::None,
            Some(other) => {
                return Err(invalid("network.redirects", other, "\"none\", \"same-origin\" or \"wanted\""));
            }
        },
    })
}

fn check_origin(what: &str, text: &str) -> Result<WantedOrigin, Refusal> {
    if text == OPERATOR {
        return Ok(WantedOrigin::Operator);
    }
    OriginPattern::parse(text).map(WantedOrigin::Named).map_err(|error| Refusal::new(format!("{what}: {error}")))
}

/// The methods that are named; without any, GET and POST.
fn check_methods(what: &str, methods: Option<&[String]>) -> Result<Vec<Method>, Refusal> {
    methods.map_or_else(|| Ok(vec![Method::GET, Method::POST]), |names| read_methods(what, names))
}

/// Reads the names of methods.
pub(crate) fn read_methods(what: &str, names: &[String]) -> Result<Vec<Method>, Refusal> {
    const KNOWN: [Method; 6] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let known = |name: &String| {
        let known = KNOWN.iter().find(|method| method.as_str() == name).cloned();
        known.ok_or_else(|| invalid(what, name, "GET, HEAD, POST, PUT, PATCH or DELETE"))
    };
    let mut methods = names.iter().map(known).collect::<Result<Vec<_>, _>>()?;
    methods.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    methods.dedup();
    Ok(methods)
}

/// Reads patterns of paths; without any list, every path.
pub(crate) fn check_paths(what: &str, paths: Option<&[String]>) -> Result<Paths, Refusal> {
    let Some(paths) = paths else { return Ok(Paths::Any) };
    if paths.len() > MAX_PATHS {
        return Err(Refusal::new(format!("{what} has {} entries; it can have {MAX_PATHS}", paths.len())));
    }
    let read = |text: &String| PathPattern::parse(text).map_err(|error| Refusal::new(format!("{what}: {error}")));
    Ok(Paths::Listed(paths.iter().map(read).collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;
    use crate::manifest::tests::HEAD;

    const KEY: &str = "[[credential]]\nname = \"key\"\nheader = \"x-key\"\n";

    fn parse(tail: &str) -> Result<Vec<Want>, String> {
        let manifest = Manifest::parse(&format!("{HEAD}{KEY}{tail}"));
        manifest.map(|manifest| manifest.wants).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn short_form_wants_every_path_with_every_credential() {
        let wants = parse("[network]\norigins = [\"https://a.com\", \"operator\"]\nmethods = [\"GET\"]").unwrap();
        assert_eq!(wants.iter().map(|want| want.origin.to_string()).collect::<Vec<_>>(), ["https://a.com", "operator"]);
        for want in &wants {
            assert_eq!(
                (&want.methods[..], &want.paths, want.redirects),
                (&[Method::GET][..], &Paths::Any, Redirects::Wanted)
            );
            assert!(want.credentials.contains("key"));
        }
        assert_eq!(parse("[network]\norigins = [\"https://a.com\"]").unwrap()[0].methods, [Method::GET, Method::POST]);
    }

    #[test]
    fn long_form_says_for_each_origin_what_may_be_asked_there() {
        let text = "[[network]]\norigin = \"https://*.a.com:8443\"\nmethods = [\"PUT\", \"GET\"]\npaths = [\"/v1/**\"]\n\
                    credential = \"key\"\nredirects = \"same-origin\"\n[[network]]\norigin = \"https://b.com\"";
        let wants = parse(text).unwrap();
        assert_eq!(
            (wants[0].origin.to_string(), &wants[0].methods[..]),
            ("https://*.a.com:8443".to_owned(), &[Method::GET, Method::PUT][..])
        );
        assert_eq!((wants[0].redirects, wants[0].credentials.len()), (Redirects::SameOrigin, 1));
        assert!(matches!(&wants[0].paths, Paths::Listed(paths) if paths[0].to_string() == "/v1/**"));
        assert_eq!(
            (&wants[1].paths, wants[1].credentials.len()),
            (&Paths::Any, 0),
            "no credential goes where none is named"
        );
        assert!(
            parse("[[network]]\norigin = \"operator\"\ncredential = [\"key\"]").unwrap()[0].credentials.contains("key")
        );
    }

    #[test]
    fn want_is_refused_with_what_would_be_right() {
        let one = |line: &str| format!("[[network]]\norigin = \"https://a.com\"\n{line}");
        let rows = [
            ("[[network]]\nmethods = [\"GET\"]".to_owned(), "missing field `origin`"),
            (
                "[[network]]\norigin = \"https://*.com\"".to_owned(),
                "network.origin: \"https://*.com\" stands for names of anybody",
            ),
            (one("methods = [\"CONNECT\"]"), "network.methods must be GET, HEAD"),
            (one("paths = [\"v1\"]"), "network.paths: \"v1\" must begin with /"),
            (one("credential = \"kex\""), "network.credential \"kex\" is no [[credential]]; did you mean \"key\"?"),
            (one("credential = 1"), "expected the name of a credential, or a list of names"),
            (one("redirects = \"all\""), "network.redirects must be \"none\", \"same-origin\" or \"wanted\""),
            (one("path = \"/\""), "unknown field `path`"),
            ("network = 1".to_owned(), "expected [network] with origins, or [[network]] for each origin"),
        ];
        for (tail, expected) in rows {
            let error = match tail.strip_prefix("network") {
                Some(_) => Manifest::parse(&format!("{tail}\n{HEAD}")).unwrap_err().to_string(),
                None => parse(&tail).unwrap_err(),
            };
            assert!(error.contains(expected), "{error:?} should contain {expected:?}");
        }
    }

    #[test]
    fn wants_and_their_paths_are_bounded() {
        let wants = |count: usize| "[[network]]\norigin = \"https://a.com\"\n".repeat(count);
        assert_eq!(parse(&wants(MAX_WANTS)).unwrap().len(), MAX_WANTS);
        assert!(parse(&wants(MAX_WANTS + 1)).unwrap_err().contains("at most 64"));
        let paths = |count: usize| format!("{}paths = [{}]", wants(1), "\"/a\",".repeat(count));
        parse(&paths(MAX_PATHS)).unwrap();
        assert!(parse(&paths(MAX_PATHS + 1)).unwrap_err().contains("it can have 64"));
    }

    #[test]
    fn redirects_are_followed_as_far_as_is_wanted() {
        let [a, b] = ["https://a.com", "https://b.com"].map(|text| Origin::parse(text).unwrap());
        let rows =
            [(Redirects::None, false, false), (Redirects::SameOrigin, true, false), (Redirects::Wanted, true, true)];
        for (redirects, same, other) in rows {
            assert_eq!((redirects.allow(&a, &a), redirects.allow(&a, &b)), (same, other), "{redirects:?}");
        }
    }
}
