//! What a plugin wants and what it is given, side by side, as its operator sees it. What counts when a request leaves is
//! decided at the door (`door/grant.rs`), and what a build waits for in `grants.rs`; here it is only told. Names, and no
//! value of a credential or a variable.

use crate::door::{OriginPattern, is_met};
use crate::grants::{self, Given, is_covered};
use crate::manifest::{CredentialNeed, CredentialWant, Injection, Manifest, Needs, Redirects, Want, WantedOrigin};
use crate::{NetworkGrant, PluginSettings};

/// What a build wants, and what the operator gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginPermissions {
    /// The requests that it wants to send.
    pub network: Vec<WantedNetwork>,
    /// The credentials that it names.
    pub credentials: Vec<WantedCredential>,
    /// What of a request it sees, and whether it keeps values: `prompt`, `inputs`, `images`, `store`.
    pub needs: Vec<&'static str>,
    /// The origins that are given with all that it wants there.
    pub origins: Vec<String>,
    /// The requests that are given.
    pub grants: Vec<NetworkGrant>,
    /// The origins that it wants and does not get.
    pub withheld: Vec<String>,
}

/// Requests that a build wants to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedNetwork {
    /// What they are, in the words of a grant; the origin is `operator` for whatever the operator names.
    pub requests: NetworkGrant,
    /// Which redirects are followed: `none`, `same-origin` or `wanted`.
    pub redirects: &'static str,
    /// What the operator decided.
    pub standing: WantStanding,
}

/// What the operator decided about a want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WantStanding {
    /// All of it is given; of a want for whatever the operator names, some origin is.
    Granted,
    /// Something is given at its origin, and not all of it.
    Partly,
    /// None of it is, and that is how it shall be.
    Withheld,
    /// None of it is.
    Ungranted,
}

/// A credential that a build names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedCredential {
    /// Its name.
    pub name: String,
    /// Where it is put, as in `header authorization`.
    pub place: String,
    /// The origins of the wants that name it, the only ones that it goes to; `operator` for what the operator names.
    pub origins: Vec<String>,
    /// Whether the plugin works without it.
    pub need: CredentialNeed,
    /// Whether the operator has supplied it, in his file or by a variable that he granted.
    pub is_supplied: bool,
}

impl WantStanding {
    /// The word for it in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Partly => "partly",
            Self::Withheld => "withheld",
            Self::Ungranted => "ungranted",
        }
    }
}

impl PluginPermissions {
    /// Those of a build with these settings. Settings that cannot be read give nothing.
    pub(crate) fn of(manifest: &Manifest, settings: &PluginSettings) -> Self {
        let given = grants::read(manifest, settings).unwrap_or_default();
        let network = manifest.wants.iter().map(|want| WantedNetwork {
            requests: NetworkGrant::from(want),
            redirects: match want.redirects {
                Redirects::None => "none",
                Redirects::SameOrigin => "same-origin",
                Redirects::Wanted => "wanted",
            },
            standing: standing(want, &given, settings),
        });
        let credential = |want: &CredentialWant| WantedCredential {
            name: want.name.clone(),
            place: place(&want.injection),
            origins: (manifest.wants.iter())
                .filter(|network| network.credentials.contains(&want.name))
                .map(|network| network.origin.to_string())
                .collect(),
            need: want.need,
            is_supplied: settings.credentials.contains_key(&want.name)
                || manifest.is_supplied_by_a_variable(&want.name, settings),
        };
        Self {
            network: network.collect(),
            credentials: manifest.credentials.iter().map(credential).collect(),
            needs: needs(manifest.needs),
            origins: settings.origins.clone(),
            grants: settings.network.clone(),
            withheld: settings.withheld.clone(),
        }
    }
}

fn standing(want: &Want, given: &[Given], settings: &PluginSettings) -> WantStanding {
    let is_any_given = given.iter().any(|grant| is_met(want, grant));
    let WantedOrigin::Named(origin) = &want.origin else {
        return if is_any_given { WantStanding::Granted } else { WantStanding::Ungranted };
    };
    if is_covered(given, want, origin) {
        WantStanding::Granted
    } else if is_any_given {
        WantStanding::Partly
    } else if settings.withheld.iter().any(|text| OriginPattern::parse(text).is_ok_and(|it| it.covers(origin))) {
        WantStanding::Withheld
    } else {
        WantStanding::Ungranted
    }
}

fn place(injection: &Injection) -> String {
    match injection {
        Injection::Header { name, .. } => format!("header {name}"),
        Injection::Query { name } => format!("query {name}"),
        Injection::Json { pointer } => format!("json /{}", pointer.join("/")),
        Injection::ServiceAccount { scope } => format!("service account {scope}"),
    }
}

fn needs(needs: Needs) -> Vec<&'static str> {
    let Needs { prompt, inputs, images, store } = needs;
    let all = [("prompt", prompt), ("inputs", inputs), ("images", images), ("store", store)];
    all.into_iter().filter(|(_, is_needed)| *is_needed).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;
    use crate::contract::CONTRACT;

    const TAIL: &str = "[[network]]\norigin = \"https://api.a.com\"\npaths = [\"/v1/**\"]\ncredential = [\"key\", \"other\"]\n\
        [[network]]\norigin = \"https://cdn.a.com\"\nmethods = [\"GET\"]\nredirects = \"none\"\n\
        [[network]]\norigin = \"https://t.a.com\"\n[[network]]\norigin = \"https://u.a.com\"\n\
        [[network]]\norigin = \"operator\"\n\
        [[credential]]\nname = \"key\"\nheader = \"authorization\"\nrequired = true\n\
        [[credential]]\nname = \"other\"\njson = \"/a/b\"\n\
        [[credential]]\nname = \"third\"\nquery = \"q\"\n\
        [[environment]]\nvariable = \"THIRD_KEY\"\ncredential = \"third\"\n";

    #[test]
    fn each_want_stands_beside_what_was_decided_about_it() {
        let head = format!("[plugin]\nid = \"p\"\nversion = \"0.1.0\"\nkind = \"adapter\"\ncontract = {CONTRACT:?}\n");
        let manifest = Manifest::parse(&format!("{head}{TAIL}")).unwrap();
        let partly = NetworkGrant { origin: "https://api.a.com".to_owned(), ..NetworkGrant::default() };
        let settings = PluginSettings {
            origins: vec!["https://cdn.a.com".to_owned(), "http://comfy.lan:8188".to_owned()],
            network: vec![partly],
            withheld: vec!["https://t.a.com".to_owned()],
            credentials: [("key".to_owned(), Secret::new("sesame"))].into(),
            environment: [("THIRD_KEY".to_owned(), Secret::new("open"))].into(),
            ..PluginSettings::default()
        };
        let permissions = PluginPermissions::of(&manifest, &settings);
        let network: Vec<_> = permissions
            .network
            .iter()
            .map(|want| (want.requests.origin.as_str(), want.redirects, want.standing.name()))
            .collect();
        let expected = [
            ("https://api.a.com", "wanted", "partly"),
            ("https://cdn.a.com", "none", "granted"),
            ("https://t.a.com", "wanted", "withheld"),
            ("https://u.a.com", "wanted", "ungranted"),
            ("operator", "wanted", "granted"),
        ];
        assert_eq!(network, expected);
        let credentials: Vec<_> = permissions
            .credentials
            .iter()
            .map(|want| (want.name.as_str(), want.place.as_str(), want.need.name(), want.is_supplied))
            .collect();
        let expected = [
            ("key", "header authorization", "required", true),
            ("other", "json /a/b", "optional", false),
            ("third", "query q", "optional", true),
        ];
        assert_eq!(credentials, expected);
        assert_eq!(permissions.needs, ["prompt", "inputs", "images"]);
        assert_eq!(permissions.credentials[1].origins, ["https://api.a.com"]);
        let told = format!("{permissions:?}");
        assert!(!told.contains("sesame") && !told.contains("\"open"), "{told}");

        let nothing = PluginPermissions::of(&manifest, &PluginSettings::default());
        assert!(nothing.network.iter().all(|want| want.standing == WantStanding::Ungranted));
    }
}
