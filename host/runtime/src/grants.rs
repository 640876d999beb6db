//! What the operator gives a plugin, and what of its wants is still to be decided.
//!
//! A want is decided when grants cover all of it, or when the operator says that it is withheld. So a rebuilt component that
//! wants no more than was given needs nothing, and one that wants more waits: what it may do is never more than its wants and
//! never more than the grants (`door/grant.rs`), but whether it starts to do less than it asks is the operator's decision.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use http::Method;

use crate::PluginSettings;
use crate::door::{Missing, Origin, OriginPattern, PathPattern, Paths};
use crate::manifest::{
    CredentialNeed, CredentialWant, MAX_WANTS, Manifest, Want, WantedOrigin, check_paths, read_methods,
};
use crate::refusal::{Refusal, nearest};

/// Requests that the operator lets a plugin send: what a manifest's `[[network]]` can ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkGrant {
    /// The origin, or a pattern such as `https://*.example.com`.
    pub origin: String,
    /// The methods; every one if not said.
    pub methods: Option<Vec<String>>,
    /// The patterns of paths; every path if not said.
    pub paths: Option<Vec<String>>,
    /// The credentials that may go along.
    pub credentials: Vec<String>,
}

/// What a plugin wants and the operator has not decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingGrant {
    /// Each want, in words.
    pub wants: Vec<String>,
    /// The lines for `easel.toml` that give all of it.
    pub toml: String,
    /// The command that gives all of it.
    pub command: String,
}

impl fmt::Display for MissingGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it wants {}, and that is neither granted nor withheld: {}", self.wants.join(", "), self.command)
    }
}

impl PluginSettings {
    /// What a build that was made with `before` gets of these settings while a newer one waits: its own config, and no more
    /// than is given now.
    pub(crate) fn for_older(&self, manifest: &Manifest, before: &Self) -> Self {
        let is_known = |name: &String| manifest.credentials.iter().any(|want| want.name == *name);
        let mut older = Self { config: before.config.clone(), ..self.clone() };
        older.credentials.retain(|name, _| is_known(name));
        for grant in &mut older.network {
            grant.credentials.retain(is_known);
        }
        older
    }

    /// What a build gets of these settings that they were not written for: values for the config keys that it has.
    pub(crate) fn as_far_as_known(&self, manifest: &Manifest) -> Self {
        let mut settings = self.for_older(manifest, self);
        settings.config.retain(|key, _| manifest.keys().any(|known| known == key));
        settings
    }
}

/// A grant that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) origin: OriginPattern,
    /// Every method, if not said.
    methods: Option<Vec<Method>>,
    paths: Paths,
    /// Every credential that is wanted there, if not said.
    credentials: Option<BTreeSet<String>>,
}

impl Given {
    /// Whether a request is given. `path` is what [`segments`](crate::door::segments) makes of it.
    pub(crate) fn gives(
        &self,
        origin: &Origin,
        method: &Method,
        path: &Result<Vec<String>, crate::door::Ambiguous>,
    ) -> bool {
        self.origin.matches(origin) && self.gives_method(method) && self.paths.matches(path)
    }

    /// Whether a credential may go along.
    pub(crate) fn gives_credential(&self, name: &str) -> bool {
        self.credentials.as_ref().is_none_or(|names| names.contains(name))
    }

    fn gives_method(&self, method: &Method) -> bool {
        self.methods.as_ref().is_none_or(|methods| methods.contains(method))
    }

    fn covers(&self, origin: &OriginPattern, method: &Method, path: &PathPattern, credential: Option<&String>) -> bool {
        self.origin.covers(origin)
            && self.gives_method(method)
            && self.paths.cover(path)
            && credential.is_none_or(|name| self.gives_credential(name))
    }
}

/// Reads the grants of a plugin.
pub(crate) fn read(manifest: &Manifest, settings: &PluginSettings) -> Result<Vec<Given>, Refusal> {
    let id = &manifest.id;
    let entries = settings.origins.len() + settings.network.len() + settings.withheld.len();
    if entries > 4 * MAX_WANTS {
        let most = 4 * MAX_WANTS;
        return Err(Refusal::new(format!("[plugin.{id}] grants and withholds {entries} origins; it can be {most}")));
    }
    let mut given = Vec::with_capacity(entries);
    for text in &settings.origins {
        let origin = read_origin(id, "origins", text)?;
        given.push(Given { origin, methods: None, paths: Paths::Any, credentials: None });
    }
    for grant in &settings.network {
        let what = |key: &str| format!("[[plugin.{id}.network]] {key}");
        for name in &grant.credentials {
            if !manifest.credentials.iter().any(|want| want.name == *name) {
                let known = nearest(name, manifest.credentials.iter().map(|want| want.name.as_str()));
                return Err(Refusal::new(format!("{} is unknown: {name:?}; {known}", what("credential"))));
            }
        }
        let methods = grant.methods.as_deref().map(|names| read_methods(&what("methods"), names)).transpose()?;
        given.push(Given {
            origin: read_origin(id, "network.origin", &grant.origin)?,
            methods,
            paths: check_paths(&what("paths"), grant.paths.as_deref())?,
            credentials: Some(grant.credentials.iter().cloned().collect()),
        });
    }
    Ok(given)
}

/// The wants that are neither covered by grants nor withheld; nothing where all are decided. A build that takes the place of
/// another one, `replaced`, also waits for a credential that only it requires.
pub(crate) fn missing(
    manifest: &Manifest,
    settings: &PluginSettings,
    replaced: Option<&Manifest>,
) -> Result<Option<MissingGrant>, Refusal> {
    let id = &manifest.id;
    let given = read(manifest, settings)?;
    let withheld = settings.withheld.iter().map(|text| read_origin(&manifest.id, "withheld", text));
    let withheld = withheld.collect::<Result<Vec<_>, _>>()?;
    let is_open = |want: &&Want| match &want.origin {
        // Whatever the operator names is what he decides.
        WantedOrigin::Operator => false,
        WantedOrigin::Named(origin) => {
            !withheld.iter().any(|pattern| pattern.covers(origin)) && !is_covered(&given, want, origin)
        }
    };
    let open: Vec<_> = manifest.wants.iter().filter(is_open).collect();
    let names = replaced.map_or_else(Missing::default, |replaced| newly_required(manifest, settings, replaced));
    if open.is_empty() && names == Missing::default() {
        return Ok(None);
    }
    let mut wants: Vec<_> = open.iter().map(|want| in_words(want)).collect();
    let mut toml: Vec<_> = open.iter().map(|want| lines(id, want)).collect();
    let mut command = format!("easel plugin grant {id}");
    let origins: Vec<_> = open.iter().map(|want| want.origin.to_string()).collect();
    command.push_str(if origins.iter().all(|origin| is_granted_by_name(origin)) { "" } else { " --all" });
    for origin in origins.iter().filter(|origin| is_granted_by_name(origin)) {
        command.push_str(&format!(" --origin {origin}"));
    }
    let (first, others) = names.one_of.split_first().map_or((None, [].as_slice()), |(first, rest)| (Some(first), rest));
    let given: Vec<_> = names.all.iter().chain(first).collect();
    if !given.is_empty() {
        let mut places: Vec<_> = given.iter().map(|name| format!("{name} = {{ env = \"NAME\" }}\n")).collect();
        places.extend(others.iter().map(|name| format!("# or {name} = {{ env = \"NAME\" }}\n")));
        toml.push(format!("[plugin.{id}.credentials]\n{}", places.concat()));
    }
    wants.extend(names.all.iter().map(|name| format!("the credential {name}")));
    wants.extend(first.map(|_| format!("one of the credentials {}", names.one_of.join(" "))));
    for name in given {
        command.push_str(&format!(" --credential {name}=env:NAME"));
    }
    Ok(Some(MissingGrant { wants, toml: toml.join("\n"), command }))
}

/// Whether an origin is an address: it can be one inside the operator's network, so it is granted only by its name.
pub(crate) fn is_granted_by_name(origin: &str) -> bool {
    Origin::parse(origin).is_ok_and(|origin| origin.is_address())
}

/// The credentials without which this one does not work, and the one that it replaces did. Of several of which one is
/// needed none is new where the older build needed one of several too.
fn newly_required(manifest: &Manifest, settings: &PluginSettings, replaced: &Manifest) -> Missing {
    let needed_before = |need: CredentialNeed, name: Option<&str>| {
        let mut same = replaced.credentials.iter().filter(|want| want.need == need);
        same.any(|want| name.is_none_or(|name| name == want.name))
    };
    let is_supplied = |want: &CredentialWant| {
        settings.credentials.contains_key(&want.name) || manifest.is_supplied_by_a_variable(&want.name, settings)
    };
    let of = |need: CredentialNeed| manifest.credentials.iter().filter(move |want| want.need == need);
    let all = of(CredentialNeed::Required)
        .filter(|want| !is_supplied(want) && !needed_before(CredentialNeed::Required, Some(&want.name)));
    let has_one = of(CredentialNeed::Any).any(is_supplied) || needed_before(CredentialNeed::Any, None);
    let one_of = of(CredentialNeed::Any).filter(|_| !has_one);
    let names = |wants: Vec<&CredentialWant>| wants.iter().map(|want| want.name.clone()).collect();
    Missing { all: names(all.collect()), one_of: names(one_of.collect()) }
}

/// Whether grants together give all that is wanted: each method at each path, without and with each credential.
pub(crate) fn is_covered(given: &[Given], want: &Want, origin: &OriginPattern) -> bool {
    let credentials = || std::iter::once(None).chain(want.credentials.iter().map(Some));
    want.paths.patterns().iter().all(|path| {
        want.methods
            .iter()
            .all(|method| credentials().all(|name| given.iter().any(|grant| grant.covers(origin, method, path, name))))
    })
}

fn read_origin(id: &str, key: &str, text: &str) -> Result<OriginPattern, Refusal> {
    OriginPattern::parse(text).map_err(|error| Refusal::new(format!("[plugin.{id}] {key}: {error}")))
}

fn in_words(want: &Want) -> String {
    let mut text = want.origin.to_string();
    let methods: Vec<_> = want.methods.iter().map(Method::as_str).collect();
    let paths = match &want.paths {
        Paths::Any => "every path".to_owned(),
        Paths::Listed(paths) => paths.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    };
    // Writing to a text cannot fail.
    let _written = write!(text, " ({}; {paths}", methods.join(" "));
    if !want.credentials.is_empty() {
        let names: Vec<_> = want.credentials.iter().map(String::as_str).collect();
        let _written = write!(text, "; with {}", names.join(" "));
    }
    text.push(')');
    text
}

fn lines(id: &str, want: &Want) -> String {
    let grant = NetworkGrant::from(want);
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let list = |texts: &[String]| format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "));
    let mut text = format!("[[plugin.{id}.network]]\norigin = {}\n", quoted(&grant.origin));
    for (key, values) in [("methods", grant.methods), ("paths", grant.paths)] {
        if let Some(values) = values {
            text.push_str(&format!("{key} = {}\n", list(&values)));
        }
    }
    if !grant.credentials.is_empty() {
        text.push_str(&format!("credential = {}\n", list(&grant.credentials)));
    }
    text
}

/// The grant that gives a want, and nothing more.
impl From<&Want> for NetworkGrant {
    fn from(want: &Want) -> Self {
        Self {
            origin: want.origin.to_string(),
            methods: Some(want.methods.iter().map(ToString::to_string).collect()),
            paths: match &want.paths {
                Paths::Any => None,
                Paths::Listed(paths) => Some(paths.iter().map(ToString::to_string).collect()),
            },
            credentials: want.credentials.iter().cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::CONTRACT;

    fn manifest(tail: &str) -> Manifest {
        let head = "[plugin]\nid = \"p\"\nversion = \"0.1.0\"\nkind = \"adapter\"";
        let key = "[[credential]]\nname = \"key\"\nheader = \"x-key\"\nrequired = true";
        Manifest::parse(&format!("{head}\ncontract = {CONTRACT:?}\n{key}\n{tail}")).unwrap()
    }

    const API: &str = "[[network]]\norigin = \"https://api.a.com\"\npaths = [\"/v1/**\"]\ncredential = \"key\"\n";
    const CDN: &str = "[[network]]\norigin = \"https://*.cdn.com\"\nmethods = [\"GET\"]\n";

    fn settings(origins: &[&str], network: &[NetworkGrant], withheld: &[&str]) -> PluginSettings {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let (origins, withheld) = (texts(origins), texts(withheld));
        PluginSettings { origins, network: network.to_vec(), withheld, ..PluginSettings::default() }
    }

    #[test]
    fn undecided_want_is_told_with_the_lines_and_the_command_that_give_it() {
        let missing = missing(&manifest(&format!("{API}{CDN}")), &settings(&[], &[], &[]), None).unwrap().unwrap();
        assert_eq!(
            missing.wants,
            ["https://api.a.com (GET POST; /v1/**; with key)", "https://*.cdn.com (GET; every path)"]
        );
        assert_eq!(missing.command, "easel plugin grant p --all");
        let expected = "[[plugin.p.network]]\norigin = \"https://api.a.com\"\nmethods = [\"GET\", \"POST\"]\n\
                        paths = [\"/v1/**\"]\ncredential = [\"key\"]\n\n\
                        [[plugin.p.network]]\norigin = \"https://*.cdn.com\"\nmethods = [\"GET\"]\n";
        assert_eq!(missing.toml, expected);
        toml::from_str::<toml::Table>(&missing.toml).unwrap();
    }

    #[test]
    fn want_is_decided_when_grants_cover_all_of_it_or_it_is_withheld() {
        let manifest = manifest(&format!("{API}{CDN}"));
        let [api, cdn] = [&manifest.wants[0], &manifest.wants[1]].map(NetworkGrant::from);
        let is_open = |settings: &PluginSettings| missing(&manifest, settings, None).unwrap().is_some();
        let part = |paths: &[&str], methods: &[&str]| NetworkGrant {
            paths: Some(paths.iter().map(|path| (*path).to_owned()).collect()),
            methods: Some(methods.iter().map(|method| (*method).to_owned()).collect()),
            ..api.clone()
        };
        let decided = [
            settings(&[], &[api.clone(), cdn.clone()], &[]),
            settings(&["https://api.a.com", "https://*.cdn.com"], &[], &[]),
            settings(&["https://api.a.com"], &[], &["https://*.cdn.com"]),
            settings(&[], &[], &["https://api.a.com", "https://*.cdn.com"]),
            settings(&["https://x.cdn.com"], std::slice::from_ref(&api), &["https://*.cdn.com"]),
            settings(&[], &[part(&["/v1/**"], &["GET"]), part(&["/**"], &["POST"]), cdn.clone()], &[]),
        ];
        for settings in &decided {
            assert!(!is_open(settings), "{settings:?}");
        }
        let open = [
            settings(&[], &[], &[]),
            settings(&["https://api.a.com"], &[], &[]),
            settings(&["https://api.a.com", "https://x.cdn.com"], &[], &[]),
            settings(&["http://api.a.com", "https://*.cdn.com"], &[], &[]),
            settings(&[], &[NetworkGrant { credentials: Vec::new(), ..api.clone() }, cdn.clone()], &[]),
            settings(&[], &[part(&["/v1/models/**"], &["GET", "POST"]), cdn.clone()], &[]),
            settings(&[], &[part(&["/v1/**"], &["GET"]), cdn], &[]),
        ];
        for settings in &open {
            assert!(is_open(settings), "{settings:?}");
        }
    }

    #[test]
    fn address_is_granted_by_its_name_only() {
        let missing = |tail: &str| missing(&manifest(tail), &PluginSettings::default(), None).unwrap().unwrap().command;
        let lan = "[[network]]\norigin = \"http://10.0.0.5:8188\"\n";
        assert_eq!(missing(lan), "easel plugin grant p --origin http://10.0.0.5:8188");
        assert_eq!(missing(&format!("{CDN}{lan}")), "easel plugin grant p --all --origin http://10.0.0.5:8188");
    }

    #[test]
    fn what_the_operator_names_is_not_waited_for() {
        let manifest = manifest("[network]\norigins = [\"operator\"]");
        assert_eq!(missing(&manifest, &PluginSettings::default(), None).unwrap(), None);
    }

    #[test]
    fn build_that_newly_requires_a_credential_waits_for_it() {
        let needs = manifest("");
        let before = Manifest { credentials: Vec::new(), ..needs.clone() };
        let waits = missing(&needs, &PluginSettings::default(), Some(&before)).unwrap().unwrap();
        assert_eq!(waits.toml, "[plugin.p.credentials]\nkey = { env = \"NAME\" }\n");
        assert_eq!(waits.command, "easel plugin grant p --credential key=env:NAME");
        assert_eq!(missing(&needs, &PluginSettings::default(), Some(&needs)).unwrap(), None);
        assert_eq!(
            missing(&needs, &PluginSettings::default(), None).unwrap(),
            None,
            "alone it serves and says what it lacks"
        );
    }

    #[test]
    fn build_that_newly_requires_one_of_several_credentials_waits_for_one() {
        let one =
            |name: &str| format!("[[credential]]\nname = \"{name}\"\nheader = \"x-{name}\"\nrequired = \"any\"\n");
        let needs = manifest(&[one("one"), one("other")].concat());
        let before = Manifest { credentials: needs.credentials[..1].to_vec(), ..needs.clone() };
        let waits = missing(&needs, &PluginSettings::default(), Some(&before)).unwrap().unwrap();
        assert_eq!(waits.wants, ["one of the credentials one other"]);
        assert_eq!(waits.toml, "[plugin.p.credentials]\none = { env = \"NAME\" }\n# or other = { env = \"NAME\" }\n");
        assert_eq!(waits.command, "easel plugin grant p --credential one=env:NAME");
        let supplied = PluginSettings {
            credentials: [("other".to_owned(), crate::Secret::new("x"))].into(),
            ..PluginSettings::default()
        };
        assert_eq!(missing(&needs, &supplied, Some(&before)).unwrap(), None);
        assert_eq!(missing(&needs, &PluginSettings::default(), Some(&needs)).unwrap(), None);
    }

    #[test]
    fn grant_is_refused_with_what_would_be_right() {
        let manifest = manifest(API);
        let grant = |change: fn(&mut NetworkGrant)| {
            let mut grant = NetworkGrant { origin: "https://api.a.com".to_owned(), ..NetworkGrant::default() };
            change(&mut grant);
            settings(&[], &[grant], &[])
        };
        let rows = [
            (
                settings(&["https://*.com"], &[], &[]),
                "[plugin.p] origins: \"https://*.com\" stands for names of anybody",
            ),
            (settings(&[], &[], &["a.com"]), "[plugin.p] withheld: \"a.com\" must be an origin"),
            (grant(|grant| grant.origin = "a".to_owned()), "[plugin.p] network.origin: \"a\""),
            (grant(|grant| grant.methods = Some(vec!["get".to_owned()])), "[[plugin.p.network]] methods must be GET"),
            (grant(|grant| grant.paths = Some(vec!["x".to_owned()])), "[[plugin.p.network]] paths: \"x\" must begin"),
            (grant(|grant| grant.credentials = vec!["kex".to_owned()]), "did you mean \"key\"?"),
            (settings(&["https://a.com"; 4 * MAX_WANTS + 1], &[], &[]), "it can be 256"),
        ];
        for (settings, expected) in rows {
            let error = missing(&manifest, &settings, None).unwrap_err().to_string();
            assert!(error.contains(expected), "{error:?} should contain {expected:?}");
        }
    }

    #[test]
    fn older_build_keeps_its_config_and_gets_no_more_than_is_given_now() {
        let older = Manifest { credentials: Vec::new(), ..manifest("") };
        let config = |value: i32| serde_json::Map::from_iter([("key".to_owned(), value.into())]);
        let before = PluginSettings { config: config(1), ..settings(&["https://a.com"], &[], &[]) };
        let mut now = PluginSettings { config: config(2), ..settings(&[], &[], &[]) };
        now.credentials.insert("key".to_owned(), crate::Secret::new("x"));
        assert_eq!(now.for_older(&older, &before), PluginSettings { config: config(1), ..settings(&[], &[], &[]) });
    }
}
