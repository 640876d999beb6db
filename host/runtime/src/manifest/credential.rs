//! `[[credential]]`: the keys that a plugin names, and how each is put on a request. Where one may go, the wants say that
//! name it (`network.rs`). The plugin never holds one: the operator's value is added at the door.

use std::fmt;

use http::{HeaderName, header};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::{check_name, invalid};
use crate::door::is_connection_header;
use crate::refusal::Refusal;

/// The longest JSON Pointer, in characters, and the most names in it.
const MAX_POINTER: (usize, usize) = (256, 16);

/// One `[[credential]]`.
#[derive(Clone, Debug)]
pub(crate) struct CredentialWant {
    pub(crate) name: String,
    pub(crate) injection: Injection,
    pub(crate) need: CredentialNeed,
}

/// Whether a plugin works without a credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CredentialNeed {
    /// It does: `required = false`.
    #[default]
    Optional,
    /// It does not: `required = true`.
    Required,
    /// It needs one, at least, of all that say so: `required = "any"`.
    Any,
}

impl CredentialNeed {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Optional => "optional",
            Self::Required => "required",
            Self::Any => "one of several",
        }
    }
}

/// `true`, `false` or `"any"`; by hand, because what serde derives for two forms loses the reason why neither fits.
impl<'de> Deserialize<'de> for CredentialNeed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl Visitor<'_> for Forms {
            type Value = CredentialNeed;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or \"any\" for required")
            }
            fn visit_bool<E: Error>(self, is_required: bool) -> Result<CredentialNeed, E> {
                Ok(if is_required { CredentialNeed::Required } else { CredentialNeed::Optional })
            }
            fn visit_str<E: Error>(self, word: &str) -> Result<CredentialNeed, E> {
                if word == "any" {
                    return Ok(CredentialNeed::Any);
                }
                Err(E::invalid_value(serde::de::Unexpected::Str(word), &self))
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

/// How a credential is put on a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Injection {
    /// As a header, after its prefix.
    Header { name: HeaderName, prefix: String },
    /// As a parameter of the query.
    Query { name: String },
    /// As a text in the JSON body, at the place of a JSON Pointer, its names unescaped.
    Json { pointer: Vec<String> },
    /// The credential is the key file of a service account (RFC 7523). What is sent is a bearer token of this scope,
    /// which the host gets for it.
    ServiceAccount { scope: String },
}

impl Injection {
    /// The header that it goes into.
    pub(crate) fn header(&self) -> Option<&HeaderName> {
        match self {
            Self::Header { name, .. } => Some(name),
            Self::ServiceAccount { .. } => Some(&header::AUTHORIZATION),
            Self::Query { .. } | Self::Json { .. } => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCredential {
    name: String,
    header: Option<String>,
    prefix: Option<String>,
    query: Option<String>,
    json: Option<String>,
    service_account: Option<String>,
    /// As manifests said it once; refused with the words for it now.
    origins: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    required: CredentialNeed,
}

/// The names, as they are written.
pub(super) fn names(raw: &[RawCredential]) -> Vec<String> {
    raw.iter().map(|raw| raw.name.clone()).collect()
}

/// Checks each, and that no two have one name.
pub(super) fn check(raw: Vec<RawCredential>) -> Result<Vec<CredentialWant>, Refusal> {
    let mut credentials: Vec<CredentialWant> = Vec::new();
    for raw in raw {
        check_name("credential.name", &raw.name, "abcdefghijklmnopqrstuvwxyz0123456789-_")?;
        if credentials.iter().any(|known| known.name == raw.name) {
            return Err(Refusal::new(format!("credential {:?} is there twice; names must differ", raw.name)));
        }
        if raw.origins.is_some() {
            let name = &raw.name;
            return Err(Refusal::new(format!(
                "credential {name:?} has origins; say in a [[network]] of each origin that it goes to: credential = {name:?}"
            )));
        }
        let injection = check_injection(&raw)?;
        credentials.push(CredentialWant { name: raw.name, injection, need: raw.required });
    }
    if let [alone] = credentials.iter().filter(|want| want.need == CredentialNeed::Any).collect::<Vec<_>>().as_slice() {
        let name = &alone.name;
        return Err(Refusal::new(format!(
            "credential {name:?} is the only one with required = \"any\", of which one is needed; say required = true"
        )));
    }
    Ok(credentials)
}

fn check_injection(raw: &RawCredential) -> Result<Injection, Refusal> {
    let RawCredential { name, header, prefix, query, json, service_account, .. } = raw;
    if prefix.is_some() && header.is_none() {
        return Err(Refusal::new(format!("credential {name:?} has a prefix, which only a header can have")));
    }
    match (header, query, json, service_account) {
        (Some(header), None, None, None) => check_header(header, prefix.as_deref().unwrap_or_default()),
        (None, Some(query), None, None) => check_query(query),
        (None, None, Some(pointer), None) => check_pointer(pointer),
        (None, None, None, Some(scope)) => check_scope(scope),
        _ => Err(Refusal::new(format!(
            "credential {name:?} must have exactly one of header, query, json and service_account"
        ))),
    }
}

fn check_header(header: &str, prefix: &str) -> Result<Injection, Refusal> {
    let name = match HeaderName::from_bytes(header.as_bytes()) {
        Ok(name) if !is_connection_header(&name) => name,
        _ => return Err(invalid("credential.header", header, "the name of a header such as \"authorization\"")),
    };
    if !prefix.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Err(invalid("credential.prefix", prefix, "plain text such as \"Bearer \""));
    }
    Ok(Injection::Header { name, prefix: prefix.to_owned() })
}

fn check_query(query: &str) -> Result<Injection, Refusal> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if query.is_empty() || query.len() > 64 || !query.bytes().all(is_plain) {
        return Err(invalid("credential.query", query, "the plain name of a parameter such as \"key\""));
    }
    Ok(Injection::Query { name: query.to_owned() })
}

fn check_pointer(pointer: &str) -> Result<Injection, Refusal> {
    let wrong = || invalid("credential.json", pointer, "a JSON Pointer such as \"/auth/key\"");
    let (longest, most) = MAX_POINTER;
    let names = pointer.strip_prefix('/').filter(|_| pointer.chars().count() <= longest).ok_or_else(wrong)?;
    let names: Vec<_> = names.split('/').map(|name| name.replace("~1", "/").replace("~0", "~")).collect();
    if names.len() > most || names.iter().any(String::is_empty) {
        return Err(wrong());
    }
    Ok(Injection::Json { pointer: names })
}

fn check_scope(scope: &str) -> Result<Injection, Refusal> {
    let is_plain = scope.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\');
    if scope.trim().is_empty() || scope.len() > 1024 || !is_plain {
        return Err(invalid("credential.service_account", scope, "the scope of the token, as the provider writes it"));
    }
    Ok(Injection::ServiceAccount { scope: scope.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;

    const HEAD: &str = "[plugin]\nid = \"a\"\nversion = \"0.1.0\"\nkind = \"adapter\"\ncontract = \"0.3\"\n\
                        [network]\norigins = [\"https://a.com\", \"operator\"]\n[[credential]]\nname = \"k\"\n";

    fn parse(tail: &str) -> Result<CredentialWant, String> {
        let manifest = Manifest::parse(&format!("{HEAD}{tail}")).map_err(|error| error.to_string())?;
        Ok(manifest.credentials.into_iter().next().unwrap())
    }

    #[test]
    fn each_kind_is_read() {
        let rows = [
            ("header = \"X-Key\"", Injection::Header { name: HeaderName::from_static("x-key"), prefix: String::new() }),
            ("query = \"key\"", Injection::Query { name: "key".into() }),
            ("json = \"/a~1b/c~0\"", Injection::Json { pointer: vec!["a/b".into(), "c~".into()] }),
            (
                "service_account = \"https://s.example/all\"",
                Injection::ServiceAccount { scope: "https://s.example/all".into() },
            ),
        ];
        for (tail, expected) in rows {
            assert_eq!(parse(tail).unwrap().injection, expected, "{tail}");
        }
    }

    #[test]
    fn credential_is_optional_required_or_one_of_several() {
        let other = "[[credential]]\nname = \"o\"\nquery = \"o\"\nrequired = \"any\"";
        let rows = [
            ("query = \"k\"".to_owned(), CredentialNeed::Optional),
            ("query = \"k\"\nrequired = false".to_owned(), CredentialNeed::Optional),
            ("query = \"k\"\nrequired = true".to_owned(), CredentialNeed::Required),
            (format!("query = \"k\"\nrequired = \"any\"\n{other}"), CredentialNeed::Any),
        ];
        for (tail, expected) in rows {
            assert_eq!(parse(&tail).unwrap().need, expected, "{tail}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let rows = [
            ("", "exactly one of header, query, json and service_account"),
            ("header = \"x\"\nquery = \"k\"", "exactly one of"),
            ("query = \"k\"\nprefix = \"x\"", "which only a header can have"),
            ("query = \"a b\"", "credential.query must be"),
            ("query = \"\"", "credential.query must be"),
            ("json = \"key\"", "credential.json must be a JSON Pointer"),
            ("json = \"/\"", "credential.json must be a JSON Pointer"),
            ("json = \"\"", "credential.json must be a JSON Pointer"),
            ("service_account = \" \"", "credential.service_account must be the scope"),
            ("query = \"k\"\nrequired = \"some\"", "string \"some\", expected true, false or \"any\" for required"),
            ("query = \"k\"\nrequired = 1", "integer `1`, expected true, false or \"any\" for required"),
            ("query = \"k\"\nrequired = \"any\"", "is the only one with required = \"any\", of which one is needed"),
            (
                "header = \"x\"\norigins = [\"https://b.com\"]",
                "say in a [[network]] of each origin that it goes to: credential = \"k\"",
            ),
        ];
        for (tail, expected) in rows {
            let error = parse(tail).unwrap_err();
            assert!(error.contains(expected), "{error:?} should contain {expected:?}");
        }
    }
}
