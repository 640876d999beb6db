//! `[network]`: where a plugin wants to send requests, and how.

use http::Method;
use serde::Deserialize;

use super::invalid;
use crate::door::Origin;
use crate::refusal::Refusal;

/// One line of `[network] origins`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// This origin.
    Origin(Origin),
    /// Whatever origin the operator names: `operator`.
    OperatorNamed,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNetwork {
    #[serde(default)]
    pub(super) origins: Vec<String>,
    pub(super) methods: Option<Vec<String>>,
}

pub(super) fn check_want(origin: &str) -> Result<Want, Refusal> {
    if origin == "operator" {
        return Ok(Want::OperatorNamed);
    }
    Origin::parse(origin).map(Want::Origin).map_err(|error| Refusal::new(format!("network.origins: {error}")))
}

pub(super) fn check_methods(methods: Option<Vec<String>>) -> Result<Vec<Method>, Refusal> {
    const KNOWN: [Method; 6] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let Some(methods) = methods else { return Ok(vec![Method::GET, Method::POST]) };
    let known = |name: &String| {
        let known = KNOWN.iter().find(|method| method.as_str() == name).cloned();
        known.ok_or_else(|| invalid("network.methods", name, "GET, HEAD, POST, PUT, PATCH or DELETE"))
    };
    methods.iter().map(known).collect()
}
