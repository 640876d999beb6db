//! Credentials: what the manifest says about each, with the operator's value of the moment. They are added at the door and
//! nowhere else; what may be sent at all, and where each may go along, is [`grant`](super::grant)'s business.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use reqwest::Request;
use url::Url;

use super::DoorError;
use super::json_insert::JsonInsert;
use super::vault::Vault;
use crate::manifest::{CredentialNeed, CredentialWant, Injection, Manifest};
use crate::refusal::{Refusal, nearest};
use crate::{PluginSettings, Secret};

/// The credentials of one plugin.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    /// Those that the operator supplied.
    by_name: BTreeMap<String, CredentialWant>,
    /// Headers that the plugin must not set, and does not see.
    headers: Vec<HeaderName>,
    missing: Missing,
    vault: Arc<Vault>,
    accounts: Accounts,
}

/// What the manifest requires and nobody supplied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    /// Each of these.
    pub(crate) all: Vec<String>,
    /// One of these.
    pub(crate) one_of: Vec<String>,
}

/// What the value of a service account is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accounts {
    /// A key file, from which tokens are made.
    KeyFiles,
    /// The token itself: where upstreams are played there is nobody who makes one.
    Tokens,
}

/// A credential as it is put on one request.
pub(super) enum Placed {
    Header(HeaderName, HeaderValue),
    Query(String, Secret),
    Json(Vec<String>, Secret),
}

impl Credentials {
    /// Puts the manifest's wants and the operator's values together.
    pub(crate) fn new(
        manifest: &Manifest,
        settings: &PluginSettings,
        vault: Arc<Vault>,
        accounts: Accounts,
    ) -> Result<Self, Refusal> {
        let id = &manifest.id;
        for name in settings.credentials.keys() {
            if !manifest.credentials.iter().any(|want| want.name == *name) {
                let known = nearest(name, manifest.credentials.iter().map(|want| want.name.as_str()));
                let message = format!("[plugin.{id}.credentials] names an unknown credential {name:?}; {known}");
                return Err(Refusal::new(message));
            }
        }
        let headers = manifest.credentials.iter().filter_map(|want| want.injection.header().cloned()).collect();
        let (by_name, missing) = (BTreeMap::new(), Missing::default());
        let mut credentials = Self { by_name, headers, missing, vault, accounts };
        for want in &manifest.credentials {
            let value = settings.credentials.get(&want.name).and_then(|_| credentials.vault.get(&want.name));
            let Some(value) = value else {
                match want.need {
                    CredentialNeed::Required => credentials.missing.all.push(want.name.clone()),
                    CredentialNeed::Any => credentials.missing.one_of.push(want.name.clone()),
                    CredentialNeed::Optional => {}
                }
                continue;
            };
            match &want.injection {
                Injection::ServiceAccount { .. } if accounts == Accounts::KeyFiles => drop(
                    super::service_account::Key::read(value.expose())
                        .map_err(|error| Refusal::new(format!("credential {:?} of plugin {id} {error}", want.name)))?,
                ),
                injection => drop(
                    place(&want.name, injection, &value)
                        .map_err(|error| Refusal::new(format!("plugin {id}: {error}")))?,
                ),
            }
            credentials.by_name.insert(want.name.clone(), want.clone());
        }
        if credentials.by_name.values().any(|want| want.need == CredentialNeed::Any) {
            credentials.missing.one_of.clear();
        }
        Ok(credentials)
    }

    /// The names of those that the operator supplied.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.by_name.keys()
    }

    /// What the manifest says about a credential, and its value, if the operator supplied it.
    pub(super) fn lend(&self, name: &str) -> Result<(&Injection, Secret), DoorError> {
        let unknown = || DoorError::Credential(name.to_owned());
        let want = self.by_name.get(name).ok_or_else(unknown)?;
        Ok((&want.injection, self.vault.get(name).ok_or_else(unknown)?))
    }

    /// Whether a header belongs to the door: the plugin neither sets nor sees it.
    pub(crate) fn has_header(&self, name: &HeaderName) -> bool {
        self.headers.contains(name)
    }

    /// Whether any of them is got by TLS.
    pub(super) fn needs_tls(&self) -> bool {
        self.by_name.values().any(|want| matches!(want.injection, Injection::ServiceAccount { .. }))
    }

    /// What is required and not there.
    pub(crate) fn missing(&self) -> &Missing {
        &self.missing
    }

    /// Whether tokens are made of key files.
    pub(super) fn has_key_files(&self) -> bool {
        self.accounts == Accounts::KeyFiles
    }

    /// Where the values are.
    pub(crate) fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }
}

/// Makes ready what is put on a request.
pub(super) fn place(name: &str, injection: &Injection, value: &Secret) -> Result<Placed, DoorError> {
    Ok(match injection {
        Injection::Header { name: header, prefix } => header_of(name, header, &format!("{prefix}{}", value.expose()))?,
        Injection::ServiceAccount { .. } => {
            header_of(name, &http::header::AUTHORIZATION, &format!("Bearer {}", value.expose()))?
        }
        Injection::Query { name } => Placed::Query(name.clone(), value.clone()),
        Injection::Json { pointer } => Placed::Json(pointer.clone(), value.clone()),
    })
}

fn header_of(name: &str, header: &HeaderName, text: &str) -> Result<Placed, DoorError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| DoorError::Unfit(name.to_owned()))?;
    // Nobody prints it.
    value.set_sensitive(true);
    Ok(Placed::Header(header.clone(), value))
}

impl Placed {
    /// Puts it into the head of a request.
    pub(super) fn put(&self, request: &mut Request) {
        match self {
            Self::Header(name, value) => drop(request.headers_mut().insert(name.clone(), value.clone())),
            Self::Query(name, secret) => put_query(request.url_mut(), name, secret),
            Self::Json(..) => {}
        }
    }

    /// What puts it into the body.
    pub(super) fn insert(&self) -> Option<JsonInsert> {
        match self {
            Self::Json(pointer, secret) => Some(JsonInsert::new(pointer.clone(), secret.expose())),
            Self::Header(..) | Self::Query(..) => None,
        }
    }
}

/// Sets a parameter; what the plugin wrote in its name is taken out, the rest stays as it was written.
fn put_query(url: &mut Url, name: &str, secret: &Secret) {
    let is_other = |part: &&str| url::form_urlencoded::parse(part.as_bytes()).all(|(key, _)| key != name);
    let others: Vec<_> = url.query().unwrap_or_default().split('&').filter(is_other).map(str::to_owned).collect();
    let others = others.join("&");
    url.set_query((!others.is_empty()).then_some(&others));
    url.query_pairs_mut().append_pair(name, secret.expose());
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "[plugin]\nid = \"p\"\nversion = \"0.1.0\"\nkind = \"adapter\"\n";
    const TAIL: &str = "[network]\norigins = [\"https://a.com\", \"operator\"]\n[[credential]]\nname = \"key\"\n\
                        header = \"x-key\"\n";

    /// With this in the vault, and what settings name.
    fn credentials(value: &str, named: &[&str]) -> Result<Credentials, Refusal> {
        let manifest = Manifest::parse(&format!("{HEAD}contract = {:?}\n{TAIL}", crate::contract::CONTRACT)).unwrap();
        let vault = Arc::new(Vault::default());
        vault.set(&[("key".to_owned(), Secret::new(value))].into());
        let credentials = named.iter().map(|name| ((*name).to_owned(), Secret::new(""))).collect();
        let settings = PluginSettings { credentials, ..PluginSettings::default() };
        Credentials::new(&manifest, &settings, vault, Accounts::KeyFiles)
    }

    #[test]
    fn only_what_settings_name_and_what_can_be_sent_is_lent() {
        assert_eq!(credentials("sesame", &["key"]).unwrap().names().collect::<Vec<_>>(), ["key"]);
        assert_eq!(credentials("sesame", &[]).unwrap().names().count(), 0);
        let refusal = credentials("two\nlines", &["key"]).unwrap_err().to_string();
        assert!(refusal.ends_with("credential \"key\" has characters that no header can hold"), "{refusal}");
        let refusal = credentials("sesame", &["kex"]).unwrap_err().to_string();
        assert!(refusal.contains("names an unknown credential \"kex\"; did you mean \"key\"?"), "{refusal}");
    }

    #[test]
    fn header_of_a_credential_is_marked_as_one_that_nobody_prints() {
        let credentials = credentials("sesame", &["key"]).unwrap();
        let (injection, value) = credentials.lend("key").unwrap();
        let Placed::Header(_, value) = place("key", injection, &value).unwrap() else { panic!("it is a header") };
        assert!(value.is_sensitive());
    }

    #[test]
    fn parameter_replaces_what_the_plugin_wrote_in_its_name() {
        let rows = [
            ("https://a.com/", "https://a.com/?key=s%26+x"),
            ("https://a.com/?b=%20c&d", "https://a.com/?b=%20c&d&key=s%26+x"),
            ("https://a.com/?key=1&b=2&k%65y=3", "https://a.com/?b=2&key=s%26+x"),
            ("https://a.com/?keys=1", "https://a.com/?keys=1&key=s%26+x"),
        ];
        for (before, after) in rows {
            let mut url = Url::parse(before).unwrap();
            put_query(&mut url, "key", &Secret::new("s& x"));
            assert_eq!(url.as_str(), after);
        }
    }
}
