//! What a plugin may reach: its manifest's wants and the operator's grants, both together. Every request is asked of both, and
//! neither is ever turned into the other.

use http::Method;
use url::Url;

use super::Origin;
use super::path::{Ambiguous, segments};
use crate::PluginSettings;
use crate::grants::{self, Given};
use crate::manifest::{Manifest, Want, WantedOrigin};
use crate::refusal::Refusal;

/// Where the connections of an origin may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// At public addresses only.
    Public,
    /// In the operator's own network as well: the operator named a host of his own, or an address.
    Inside,
}

/// The effective grant of one plugin: what is both wanted and given. Nothing is merged, so it cannot be wider than either.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    id: String,
    wants: Vec<Want>,
    given: Vec<Given>,
    /// What the operator named, kept for the line to paste.
    named: Vec<String>,
}

/// Why the door stays shut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denial {
    /// What was refused.
    pub(crate) message: String,
    /// The line that would let it through, where there is one.
    pub(crate) fix: Option<String>,
}

/// A request as wants and grants see it.
struct Asked<'a> {
    origin: Origin,
    method: &'a Method,
    path: Result<Vec<String>, Ambiguous>,
}

impl Grant {
    /// Puts wants and grant together.
    pub(crate) fn new(manifest: &Manifest, settings: &PluginSettings) -> Result<Self, Refusal> {
        let given = grants::read(manifest, settings)?;
        for grant in &given {
            if !manifest.wants.iter().any(|want| is_met(want, grant)) {
                tracing::warn!(plugin = manifest.id, origin = %grant.origin, "granted, but the plugin does not want it");
            }
        }
        Ok(Self { id: manifest.id.clone(), wants: manifest.wants.clone(), given, named: settings.origins.clone() })
    }

    /// Tells whether a request may be sent, and where its connection may end.
    pub(crate) fn check(&self, method: &Method, url: &Url) -> Result<Reach, Denial> {
        let asked = self.ask(method, url)?;
        let Asked { origin, path, .. } = &asked;
        if !self.wants.iter().any(|want| self.is_origin_wanted(want, origin)) {
            let is_open = self.wants.iter().any(|want| want.origin == WantedOrigin::Operator);
            let fix = is_open.then(|| self.line_for(origin));
            return Err(Denial { message: format!("plugin {} may not reach {origin}", self.id), fix });
        }
        if !self.given.iter().any(|grant| grant.origin.matches(origin)) {
            let fix = Some(self.line_for(origin));
            return Err(Denial { message: format!("plugin {} may not reach {origin}", self.id), fix });
        }
        let why = path.as_ref().err().map(|why| format!(": {}", why.0)).unwrap_or_default();
        if self.wanting(&asked).next().is_none() {
            let message = format!("plugin {} does not want {method} at this path of {origin}{why}", self.id);
            return Err(Denial { message, fix: None });
        }
        if self.giving(&asked).next().is_none() {
            let message = format!("plugin {} may not send {method} to this path of {origin}{why}", self.id);
            return Err(Denial { message, fix: Some(format!("to allow it: easel plugin grant {} --all", self.id)) });
        }
        Ok(self.reach_of(origin))
    }

    /// Tells whether a credential may go along with a request. It may where one want and one grant for the request name it.
    /// What is wanted for whatever the operator names is not for an origin that the manifest names itself: a key for somebody
    /// else's server does not go to the provider because the operator wrote the provider's name, too.
    pub(crate) fn may_carry(&self, credential: &str, method: &Method, url: &Url) -> bool {
        let Ok(asked) = self.ask(method, url) else { return false };
        let is_wanted = self.wanting(&asked).any(|want| self.is_lent(want, credential, &asked.origin));
        is_wanted && self.giving(&asked).any(|grant| grant.gives_credential(credential))
    }

    fn is_lent(&self, want: &Want, credential: &str, origin: &Origin) -> bool {
        want.credentials.contains(credential) && (want.origin != WantedOrigin::Operator || !self.is_named(origin))
    }

    /// Why a credential does not go along with a request that may be sent without it.
    pub(crate) fn credential_denial(&self, name: &str, url: &Url) -> Denial {
        let origin = Origin::of(url).map(|origin| origin.to_string()).unwrap_or_default();
        let is_wanted = Origin::of(url).is_some_and(|origin| {
            self.wants.iter().any(|want| self.is_lent(want, name, &origin) && self.is_origin_wanted(want, &origin))
        });
        let message = format!("plugin {} may not send its credential {name:?} there: {origin}", self.id);
        let fix = format!("to allow it: easel plugin grant {} --all", self.id);
        Denial { message, fix: is_wanted.then_some(fix) }
    }

    /// Tells whether a redirect of a request's answer is followed.
    pub(crate) fn follows(&self, method: &Method, url: &Url, next: &Url) -> bool {
        let (Ok(asked), Some(to)) = (self.ask(method, url), Origin::of(next)) else { return false };
        let widest = self.wanting(&asked).map(|want| want.redirects).max();
        widest.is_some_and(|redirects| redirects.allow(&asked.origin, &to))
    }

    /// Where the connections to an address may end, if its origin is granted.
    pub(crate) fn reach(&self, url: &Url) -> Option<Reach> {
        let origin = Origin::of(url)?;
        let is_wanted = self.wants.iter().any(|want| self.is_origin_wanted(want, &origin));
        let is_given = self.given.iter().any(|grant| grant.origin.matches(&origin));
        (is_wanted && is_given).then(|| self.reach_of(&origin))
    }

    /// The wants that no grant meets.
    pub(crate) fn ungranted(&self) -> Vec<String> {
        let is_named = |want: &&Want| want.origin != WantedOrigin::Operator;
        let unmet =
            self.wants.iter().filter(is_named).filter(|want| !self.given.iter().any(|grant| is_met(want, grant)));
        unmet.map(|want| want.origin.to_string()).collect()
    }

    /// Whether any granted origin is reached by TLS.
    pub(crate) fn needs_tls(&self) -> bool {
        self.given.iter().any(|grant| grant.origin.is_secure())
    }

    fn ask<'a>(&self, method: &'a Method, url: &Url) -> Result<Asked<'a>, Denial> {
        let refuse = |message: String| Err(Denial { message, fix: None });
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("an address with a user name or password in it is not sent".to_owned());
        }
        let Some(origin) = Origin::of(url) else {
            return refuse(format!("plugin {} may only reach http and https addresses, not {}", self.id, url.scheme()));
        };
        Ok(Asked { origin, method, path: segments(url) })
    }

    fn wanting(&self, asked: &Asked<'_>) -> impl Iterator<Item = &Want> {
        self.wants.iter().filter(|want| {
            self.is_origin_wanted(want, &asked.origin)
                && want.methods.contains(asked.method)
                && want.paths.matches(&asked.path)
        })
    }

    fn giving(&self, asked: &Asked<'_>) -> impl Iterator<Item = &Given> {
        self.given.iter().filter(|grant| grant.gives(&asked.origin, asked.method, &asked.path))
    }

    fn is_origin_wanted(&self, want: &Want, origin: &Origin) -> bool {
        match &want.origin {
            WantedOrigin::Named(pattern) => pattern.matches(origin),
            WantedOrigin::Operator => self.is_exactly_given(origin),
        }
    }

    fn is_exactly_given(&self, origin: &Origin) -> bool {
        self.given.iter().any(|grant| grant.origin.exact() == Some(origin))
    }

    /// How far an origin may reach.
    ///
    /// A name that the manifest itself wants is a public one: should its address change to one inside, that is an attack. A
    /// name that only the operator gave, and an address, are meant as they stand. A pattern never reaches inside.
    fn reach_of(&self, origin: &Origin) -> Reach {
        let is_public = self.is_named(origin) && !origin.is_address();
        if self.is_exactly_given(origin) && !is_public { Reach::Inside } else { Reach::Public }
    }

    /// Whether the manifest itself names an origin.
    fn is_named(&self, origin: &Origin) -> bool {
        self.wants.iter().any(|want| match &want.origin {
            WantedOrigin::Named(pattern) => pattern.matches(origin),
            WantedOrigin::Operator => false,
        })
    }

    fn line_for(&self, origin: &Origin) -> String {
        let origins: Vec<_> =
            self.named.iter().cloned().chain([origin.to_string()]).map(|name| format!("{name:?}")).collect();
        format!("to allow it, write in easel.toml under [plugin.{}]: origins = [{}]", self.id, origins.join(", "))
    }
}

/// Whether a grant gives something of a want.
pub(crate) fn is_met(want: &Want, grant: &Given) -> bool {
    match &want.origin {
        WantedOrigin::Named(pattern) => pattern.covers(&grant.origin) || grant.origin.covers(pattern),
        WantedOrigin::Operator => grant.origin.exact().is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NetworkGrant;

    fn grant(wants: &str, named: &[&str]) -> Grant {
        let text = format!(
            "[plugin]\nid = \"p\"\nversion = \"0.1.0\"\nkind = \"adapter\"\ncontract = {:?}\n[network]\norigins = {wants}\n",
            crate::contract::CONTRACT
        );
        let manifest = Manifest::parse(&text).unwrap();
        let origins = named.iter().map(|name| (*name).to_owned()).collect();
        Grant::new(&manifest, &PluginSettings { origins, ..PluginSettings::default() }).unwrap()
    }

    #[test]
    fn only_what_is_wanted_and_granted_passes() {
        let grant = grant("[\"https://a.com\", \"https://b.com\"]", &["https://a.com", "https://c.com"]);
        let check = |url: &str| grant.check(&Method::POST, &Url::parse(url).unwrap());
        check("https://a.com/v1?x=1").unwrap();
        check("https://A.com:443/").unwrap();
        let refused = [
            "https://b.com/",
            "https://c.com/",
            "http://a.com/",
            "https://a.com:444/",
            "https://a.com./",
            "https://x.a.com/",
            "https://a.com@b.com/",
            "https://u:p@a.com/",
            "https://a.com.evil.com/",
            "https://аpple.com/",
            "ftp://a.com/",
        ];
        for url in refused {
            assert!(check(url).is_err(), "{url}");
        }
        let denial = check("https://b.com/x").unwrap_err();
        let line = "to allow it, write in easel.toml under [plugin.p]: \
                    origins = [\"https://a.com\", \"https://c.com\", \"https://b.com\"]";
        assert_eq!(denial, Denial { message: "plugin p may not reach https://b.com".into(), fix: Some(line.into()) });
        assert!(grant.check(&Method::DELETE, &Url::parse("https://a.com/").unwrap()).is_err());
        assert_eq!(grant.ungranted(), ["https://b.com"]);
    }

    #[test]
    fn only_what_the_operator_named_himself_reaches_inside() {
        let wants = "[\"https://a.com\", \"http://10.0.0.5\", \"operator\"]";
        let grant = grant(wants, &["https://a.com", "http://10.0.0.5", "http://comfy.lan:8188"]);
        let check = |url: &str| grant.check(&Method::GET, &Url::parse(url).unwrap());
        assert_eq!(check("https://a.com/"), Ok(Reach::Public));
        assert_eq!(check("http://10.0.0.5/"), Ok(Reach::Inside));
        assert_eq!(check("http://comfy.lan:8188/"), Ok(Reach::Inside));
        assert!(check("http://comfy.lan/").is_err());
    }

    /// A grant of `[[network]]` wants and grants of the same form.
    fn listed(wants: &[&str], given: &[NetworkGrant]) -> Grant {
        let head = "[plugin]\nid = \"p\"\nversion = \"0.1.0\"\nkind = \"adapter\"";
        let keys = "[[credential]]\nname = \"key\"\nheader = \"x-key\"\n[[credential]]\nname = \"other\"\nheader = \"x-other\"";
        let wants: Vec<_> = wants.iter().map(|want| format!("[[network]]\n{want}\n")).collect();
        let text = format!("{head}\ncontract = {:?}\n{keys}\n{}", crate::contract::CONTRACT, wants.concat());
        let manifest = Manifest::parse(&text).unwrap();
        Grant::new(&manifest, &PluginSettings { network: given.to_vec(), ..PluginSettings::default() }).unwrap()
    }

    fn given(origin: &str, methods: Option<&[&str]>, paths: Option<&[&str]>, credentials: &[&str]) -> NetworkGrant {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        NetworkGrant {
            origin: origin.to_owned(),
            methods: methods.map(texts),
            paths: paths.map(texts),
            credentials: texts(credentials),
        }
    }

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn method_and_path_must_be_wanted_and_given() {
        let want = "origin = \"https://*.a.com\"\nmethods = [\"GET\", \"POST\"]\npaths = [\"/v1/**\"]";
        let grant =
            listed(&[want], &[given("https://*.a.com", Some(&["GET"]), Some(&["/v1/models/*", "/v2/**"]), &[])]);
        let message = |method: &Method, text: &str| grant.check(method, &url(text)).unwrap_err().message;
        assert_eq!(grant.check(&Method::GET, &url("https://x.a.com/v1/models/m?q=1")), Ok(Reach::Public));
        assert!(
            message(&Method::GET, "https://x.a.com/v2/x").contains("does not want GET at this path of https://x.a.com")
        );
        assert!(message(&Method::DELETE, "https://x.a.com/v1/models/m").contains("does not want DELETE"));
        assert!(message(&Method::POST, "https://x.a.com/v1/models/m").contains("may not send POST"));
        assert!(message(&Method::GET, "https://x.a.com/v1/images").contains("may not send GET"));
        assert!(message(&Method::GET, "https://x.a.com/v1/models/a%2fb").ends_with(": it has an encoded slash"));
        assert!(message(&Method::GET, "https://a.com/v1/models/m").contains("may not reach https://a.com"));
        let denial = grant.check(&Method::POST, &url("https://x.a.com/v1/models/m")).unwrap_err();
        assert_eq!(denial.fix.as_deref(), Some("to allow it: easel plugin grant p --all"));
    }

    #[test]
    fn credential_goes_only_where_want_and_grant_name_it() {
        let wants =
            ["origin = \"https://api.a.com\"\ncredential = [\"key\", \"other\"]", "origin = \"https://cdn.a.com\""];
        let given =
            [given("https://api.a.com", None, None, &["key"]), given("https://cdn.a.com", None, None, &["key"])];
        let grant = listed(&wants, &given);
        let may = |name: &str, text: &str| grant.may_carry(name, &Method::GET, &url(text));
        assert!(may("key", "https://api.a.com/x"));
        assert!(!may("other", "https://api.a.com/x"), "wanted, not given");
        assert!(!may("key", "https://cdn.a.com/x"), "given, not wanted");
        assert!(!may("key", "https://evil.com/x") && !may("nothing", "https://api.a.com/x"));
        assert!(grant.credential_denial("other", &url("https://api.a.com/x")).fix.is_some());
        assert!(grant.credential_denial("key", &url("https://cdn.a.com/x")).fix.is_none());
    }

    #[test]
    fn credential_for_what_the_operator_names_does_not_go_to_what_the_manifest_names() {
        let wants =
            ["origin = \"https://*.a.com\"\ncredential = \"key\"", "origin = \"operator\"\ncredential = \"other\""];
        let both = |origin: &str| given(origin, None, None, &["key", "other"]);
        let grant = listed(&wants, &[both("https://api.a.com"), both("https://mine.com")]);
        let may = |name: &str, text: &str| grant.may_carry(name, &Method::GET, &url(text));
        assert_eq!((may("key", "https://api.a.com/"), may("other", "https://api.a.com/")), (true, false));
        assert_eq!((may("key", "https://mine.com/"), may("other", "https://mine.com/")), (false, true));
        assert!(grant.credential_denial("other", &url("https://api.a.com/")).fix.is_none());
    }

    #[test]
    fn pattern_never_reaches_inside() {
        let grant = listed(
            &["origin = \"https://*.a.com\"", "origin = \"operator\""],
            &[
                given("https://*.a.com", None, None, &[]),
                given("https://*.b.com", None, None, &[]),
                given("https://nas.a.com", None, None, &[]),
                given("http://comfy.lan:8188", None, None, &[]),
            ],
        );
        let check = |text: &str| grant.check(&Method::GET, &url(text));
        assert_eq!(check("https://x.a.com/"), Ok(Reach::Public));
        assert_eq!(check("https://nas.a.com/"), Ok(Reach::Public), "the manifest wants it, so it is a public name");
        assert_eq!(check("http://comfy.lan:8188/"), Ok(Reach::Inside));
        assert!(check("https://x.b.com/").is_err(), "what the operator names for an open want is exact");
    }

    #[test]
    fn redirect_is_followed_as_the_want_says() {
        let origin = "origin = \"https://a.com\"\n";
        for (redirects, same, other) in [("none", false, false), ("same-origin", true, false), ("wanted", true, true)] {
            let want = format!("{origin}redirects = {redirects:?}");
            let grant = listed(&[&want], &[given("https://a.com", None, None, &[])]);
            let follows = |next: &str| grant.follows(&Method::GET, &url("https://a.com/x"), &url(next));
            assert_eq!((follows("https://a.com/y"), follows("https://b.com/y")), (same, other), "{redirects}");
            assert!(!grant.follows(&Method::GET, &url("https://b.com/"), &url("https://b.com/y")));
        }
    }
}
