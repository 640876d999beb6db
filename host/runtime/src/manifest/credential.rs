//! `[[credential]]`: the keys that a plugin names, and how each is put on a request. The plugin never holds one: the
//! operator's value is added at the door.

use http::HeaderName;
use serde::Deserialize;

use super::{check_name, invalid};
use crate::door::is_connection_header;
use crate::refusal::Refusal;

/// One `[[credential]]`.
#[derive(Clone, Debug)]
pub(crate) struct CredentialWant {
    pub(crate) name: String,
    pub(crate) header: HeaderName,
    pub(crate) prefix: String,
    pub(crate) is_required: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCredential {
    name: String,
    header: String,
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    required: bool,
}

/// Checks each, and that no two have one name.
pub(super) fn check(raw: Vec<RawCredential>) -> Result<Vec<CredentialWant>, Refusal> {
    let mut credentials: Vec<CredentialWant> = Vec::new();
    for RawCredential { name, header, prefix, required } in raw {
        check_name("credential.name", &name, "abcdefghijklmnopqrstuvwxyz0123456789-_")?;
        if credentials.iter().any(|known| known.name == name) {
            return Err(Refusal::new(format!("credential {name:?} is there twice; names must differ")));
        }
        let header = match HeaderName::from_bytes(header.as_bytes()) {
            Ok(header) if !is_connection_header(&header) => header,
            _ => return Err(invalid("credential.header", &header, "the name of a header such as \"authorization\"")),
        };
        if !prefix.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            return Err(invalid("credential.prefix", &prefix, "plain text such as \"Bearer \""));
        }
        credentials.push(CredentialWant { name, header, prefix, is_required: required });
    }
    Ok(credentials)
}
