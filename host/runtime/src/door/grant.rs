//! What a plugin may reach: its manifest's wants and the operator's grant, both together.

use std::collections::BTreeMap;
use std::fmt;

use http::{HeaderName, HeaderValue, Method};
use url::{Host, Url};

use crate::manifest::{Manifest, Want};
use crate::refusal::{Refusal, nearest};
use crate::{PluginSettings, Secret};

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

    fn is_address(&self) -> bool {
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

/// Where the connections of an origin may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// At public addresses only.
    Public,
    /// In the operator's own network as well: the operator named a host of his own, or an address.
    Inside,
}

/// A header that is added at the door.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    pub(crate) header: HeaderName,
    /// Marked sensitive, so that nobody prints it.
    pub(crate) value: HeaderValue,
}

/// The effective grant of one plugin.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    id: String,
    origins: Vec<(Origin, Reach)>,
    /// What the operator named, kept for the line to paste.
    named: Vec<String>,
    methods: Vec<Method>,
    credentials: BTreeMap<String, Credential>,
    /// Headers that the plugin must not set, and does not see.
    credential_headers: Vec<HeaderName>,
    /// Credentials that the manifest requires and nobody supplied.
    missing: Vec<String>,
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
        let mut grant = Self {
            id: manifest.id.clone(),
            ungranted: ungranted.collect(),
            origins,
            named: settings.origins.clone(),
            methods: manifest.methods.clone(),
            credentials: BTreeMap::new(),
            credential_headers: manifest.credentials.iter().map(|want| want.header.clone()).collect(),
            missing: Vec::new(),
        };
        grant.add_credentials(manifest, settings)?;
        Ok(grant)
    }

    fn add_credentials(&mut self, manifest: &Manifest, settings: &PluginSettings) -> Result<(), Refusal> {
        for name in settings.credentials.keys() {
            if !manifest.credentials.iter().any(|want| want.name == *name) {
                let known = nearest(name, manifest.credentials.iter().map(|want| want.name.as_str()));
                let message = format!("[plugin.{}.credentials] names an unknown credential {name:?}; {known}", self.id);
                return Err(Refusal::new(message));
            }
        }
        for want in &manifest.credentials {
            let value = settings.credentials.get(&want.name).map(Secret::expose).filter(|value| !value.is_empty());
            let Some(value) = value else {
                if want.is_required {
                    self.missing.push(want.name.clone());
                }
                continue;
            };
            let mut value = HeaderValue::from_str(&format!("{}{value}", want.prefix)).map_err(|_| {
                let message =
                    format!("credential {:?} of plugin {} has characters no header can hold", want.name, self.id);
                Refusal::new(message)
            })?;
            value.set_sensitive(true);
            self.credentials.insert(want.name.clone(), Credential { header: want.header.clone(), value });
        }
        Ok(())
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

    /// The credential of a name, if the operator supplied it.
    pub(crate) fn credential(&self, name: &str) -> Option<&Credential> {
        self.credentials.get(name)
    }

    /// Whether a header belongs to the door: the plugin neither sets nor sees it.
    pub(crate) fn is_credential_header(&self, name: &HeaderName) -> bool {
        self.credential_headers.contains(name)
    }

    /// The credentials that are required and not there.
    pub(crate) fn missing(&self) -> &[String] {
        &self.missing
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
            "[plugin]\nid = \"p\"\nversion = \"0.1.0\"\nkind = \"adapter\"\ncontract = \"0.1\"\n[network]\norigins = {wants}\n"
        );
        let manifest = Manifest::parse(&text).unwrap();
        let origins = named.iter().map(|name| (*name).to_owned()).collect();
        Grant::new(&manifest, &PluginSettings { origins, ..PluginSettings::default() }).unwrap()
    }

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
