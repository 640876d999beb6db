//! All that there is to know about one plugin: how it stands, what it wants and is given, and how it says it is.

use std::time::Duration;

use easel_core::Error;
use easel_runtime::{Checkup, Health, HealthDepth, NetworkGrant, PluginPermissions, PluginStatus};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::wire::{Entry, unix};

/// What can be asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// How far the plugin looks to say how it is.
    #[serde(default)]
    health: Depth,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Depth {
    /// At what it has.
    #[default]
    Shallow,
    /// At its upstream as well.
    Deep,
}

impl Asked {
    /// How far the plugin looks.
    pub(super) fn depth(&self) -> HealthDepth {
        match self.health {
            Depth::Shallow => HealthDepth::Shallow,
            Depth::Deep => HealthDepth::Deep,
        }
    }
}

/// One plugin.
#[derive(Serialize)]
pub(super) struct Detail {
    #[serde(flatten)]
    entry: Entry,
    /// Nothing while no build of it was tried: none can be read, or it is switched off.
    wants: Option<Wants>,
    grants: Option<Grants>,
    /// Nothing while it does not serve.
    health: Option<Condition>,
}

#[derive(Serialize)]
struct Wants {
    network: Vec<Want>,
    credentials: Vec<Credential>,
    /// What of a request it sees, and whether it keeps values of its own.
    needs: Vec<&'static str>,
}

/// Requests that it wants to send.
#[derive(Serialize)]
struct Want {
    #[serde(flatten)]
    requests: Requests,
    redirects: &'static str,
    /// What the operator decided: `granted`, `partly`, `withheld` or `ungranted`.
    standing: &'static str,
}

#[derive(Serialize)]
struct Requests {
    origin: String,
    /// Every one, if not said.
    methods: Option<Vec<String>>,
    paths: Option<Vec<String>>,
    credentials: Vec<String>,
}

#[derive(Serialize)]
struct Credential {
    name: String,
    place: String,
    origins: Vec<String>,
    /// `optional`, `required`, or `one of several`, of which the plugin needs one.
    need: &'static str,
    supplied: bool,
}

/// What the operator gives.
#[derive(Serialize)]
struct Grants {
    /// With all that is wanted there.
    origins: Vec<String>,
    network: Vec<Requests>,
    withheld: Vec<String>,
}

/// How it says it is.
#[derive(Serialize)]
struct Condition {
    /// `healthy`, `unhealthy`, or `untold` where it has no health check.
    status: &'static str,
    depth: &'static str,
    summary: Option<String>,
    details: Map<String, Value>,
    /// What a request would meet.
    error: Option<String>,
    at: u64,
    took_ms: u64,
}

impl Detail {
    pub(super) fn of(status: &PluginStatus, checkup: Option<Checkup>, depth: HealthDepth) -> Self {
        let permissions = status.permissions.clone();
        let (wants, grants) = permissions.map(split).unzip();
        Self { entry: Entry::of(status), wants, grants, health: checkup.map(|checkup| condition(checkup, depth)) }
    }
}

fn split(permissions: PluginPermissions) -> (Wants, Grants) {
    let network = permissions.network.into_iter().map(|want| Want {
        requests: requests(want.requests),
        redirects: want.redirects,
        standing: want.standing.name(),
    });
    let credentials = permissions.credentials.into_iter().map(|want| Credential {
        name: want.name,
        place: want.place,
        origins: want.origins,
        need: want.need.name(),
        supplied: want.is_supplied,
    });
    let wants = Wants { network: network.collect(), credentials: credentials.collect(), needs: permissions.needs };
    let network = permissions.grants.into_iter().map(requests).collect();
    (wants, Grants { origins: permissions.origins, network, withheld: permissions.withheld })
}

fn requests(grant: NetworkGrant) -> Requests {
    let NetworkGrant { origin, methods, paths, credentials } = grant;
    Requests { origin, methods, paths, credentials }
}

fn condition(checkup: Checkup, depth: HealthDepth) -> Condition {
    let Checkup { at, took, health } = checkup;
    let (status, health, error) = match health {
        Ok(Some(health)) => ("healthy", health, None),
        Ok(None) => ("untold", Health::default(), None),
        Err(error) => ("unhealthy", Health::default(), Some(message(&error))),
    };
    let depth = match depth {
        HealthDepth::Shallow => "shallow",
        HealthDepth::Deep => "deep",
    };
    let Health { summary, details } = health;
    Condition { status, depth, summary, details, error, at: unix(at), took_ms: millis(took) }
}

fn message(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{}; {hint}", error.message()),
        None => error.message().to_owned(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use easel_core::ErrorKind;
    use serde_json::json;

    use super::*;

    #[test]
    fn each_way_to_be_has_its_word() {
        let (at, took) = (SystemTime::UNIX_EPOCH + Duration::from_secs(7), Duration::from_millis(3));
        let told = |health| {
            let told = condition(Checkup { at, took, health }, HealthDepth::Deep);
            serde_json::to_value(told).unwrap()
        };
        let of = |status: &str, summary: Option<&str>, details: Value, error: Option<&str>| {
            json!({ "status": status, "depth": "deep", "summary": summary, "details": details, "error": error,
                    "at": 7, "took_ms": 3 })
        };
        let details = Map::from_iter([("quota".to_owned(), json!(3))]);
        let well = Health { summary: Some("well".to_owned()), details };
        assert_eq!(told(Ok(Some(well))), of("healthy", Some("well"), json!({ "quota": 3 }), None));
        assert_eq!(told(Ok(None)), of("untold", None, json!({}), None));
        let error = Error::new(ErrorKind::Upstream, "the key is not taken");
        assert_eq!(told(Err(error.clone())), of("unhealthy", None, json!({}), Some("the key is not taken")));
        let told = told(Err(error.with_hint("look at it")));
        assert_eq!(told["error"], "the key is not taken; look at it");
    }
}
