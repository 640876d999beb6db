//! What a plugin may reach: its manifest's wants and the operator's grant, both together.

use http::Method;
use url::Url;

use super::Origin;
use crate::PluginSettings;
use crate::manifest::{Manifest, Want};
use crate::refusal::Refusal;

/// Where the connections of an origin may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// At public addresses only.
    Public,
    /// In the operator's own network as well: the operator named a host of his own, or an address.
    Inside,
}

/// The effective grant of one plugin.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    id: String,
    origins: Vec<(Origin, Reach)>,
    /// What the operator named, kept for the line to paste.
    named: Vec<String>,
    methods: Vec<Method>,
    /// Origins that the manifest wants and nobody granted.
    ungranted: Vec<String>,
}

/// Why the door stays shut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denial {
    /// What was refused.
    pub(crate) message: String,
    /// The line that would let it through, where there is one.
    pub(crate) fix: Option<String>,
}

impl Grant {
    /// Puts wants and grant together.
    pub(crate) fn new(manifest: &Manifest, settings: &PluginSettings) -> Result<Self, Refusal> {
        let mut origins: Vec<(Origin, Reach)> = Vec::new();
        for text in &settings.origins {
            let origin = Origin::parse(text)
                .map_err(|error| Refusal::new(format!("[plugin.{}] origins: {error}", manifest.id)))?;
            match reach(manifest, &origin) {
                Some(reach) => origins.push((origin, reach)),
                None => {
                    tracing::warn!(plugin = manifest.id, origin = %origin, "granted, but the plugin does not want it");
                }
            }
        }
        let ungranted = manifest.wants.iter().filter_map(|want| match want {
            Want::Origin(origin) if !origins.iter().any(|(granted, _)| granted == origin) => Some(origin.to_string()),
            Want::Origin(_) | Want::OperatorNamed => None,
        });
        Ok(Self {
            id: manifest.id.clone(),
            ungranted: ungranted.collect(),
            origins,
            named: settings.origins.clone(),
            methods: manifest.methods.clone(),
        })
    }

    /// Tells whether a request may be sent, and where its connection may end.
    pub(crate) fn check(&self, method: &Method, url: &Url) -> Result<Reach, Denial> {
        let refuse = |message: String, fix| Err(Denial { message, fix });
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("an address with a user name or password in it is not sent".to_owned(), None);
        }
        let Some(origin) = Origin::of(url) else {
            return refuse(
                format!("plugin {} may only reach http and https addresses, not {}", self.id, url.scheme()),
                None,
            );
        };
        let Some((_, reach)) = self.origins.iter().find(|(granted, _)| *granted == origin) else {
            return refuse(format!("plugin {} may not reach {origin}", self.id), Some(self.line_for(&origin)));
        };
        if !self.methods.contains(method) {
            let wanted: Vec<_> = self.methods.iter().map(Method::as_str).collect();
            let message = format!("plugin {} wants only {} in its manifest, not {method}", self.id, wanted.join(", "));
            return refuse(message, None);
        }
        Ok(*reach)
    }

    /// Where the connections to an address may end, if its origin is granted.
    pub(crate) fn reach(&self, url: &Url) -> Option<Reach> {
        let origin = Origin::of(url)?;
        self.origins.iter().find(|(granted, _)| *granted == origin).map(|(_, reach)| *reach)
    }

    /// The origins that the manifest wants and the operator did not grant.
    pub(crate) fn ungranted(&self) -> &[String] {
        &self.ungranted
    }

    /// Whether any granted origin is reached by TLS.
    pub(crate) fn needs_tls(&self) -> bool {
        self.origins.iter().any(|(origin, _)| origin.is_secure())
    }

    fn line_for(&self, origin: &Origin) -> String {
        let origins: Vec<_> =
            self.named.iter().cloned().chain([origin.to_string()]).map(|name| format!("{name:?}")).collect();
        format!("to allow it, write in easel.toml under [plugin.{}]: origins = [{}]", self.id, origins.join(", "))
    }
}

/// How far an origin that the operator named may reach; `None` when the plugin does not want it.
///
/// A name that the manifest itself wants is a public one: should its address change to one inside, that is an attack. A
/// name that only the operator gave, and an address, are meant as they stand.
fn reach(manifest: &Manifest, origin: &Origin) -> Option<Reach> {
    let is_wanted = manifest.wants.iter().any(|want| matches!(want, Want::Origin(wanted) if wanted == origin));
    let is_open = manifest.wants.contains(&Want::OperatorNamed);
    match (is_wanted, is_open) {
        (false, false) => None,
        (true, _) if !origin.is_address() => Some(Reach::Public),
        (true, _) | (false, true) => Some(Reach::Inside),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(wants: &str, named: &[&str]) -> Grant {
        let text = format!(
            "[plugin]\nid = \"p\"\nversion = \"0.1.0\"\nkind = \"adapter\"\ncontract = \"0.2\"\n[network]\norigins = {wants}\n"
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
}
