//! `easel plugin grant`: what a plugin wants, and what of it the operator gives. Needs no running server; one that runs
//! follows the file that is written.

use std::process::ExitCode;

use clap::Args;
use easel_runtime::{HostLimits, NetworkGrant, PluginSettings, PluginWants, covers_origin, plugin_wants};

use crate::cli::{ConfigOptions, Failure, ListenOptions};
use crate::config::{Config, Edit, GrantsFile, Place};

/// Give a plugin what it wants; without options, show what that is.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  easel plugin grant some-adapter        what it wants, and what of that is not decided
  easel plugin grant some-adapter --all
  easel plugin grant some-adapter --origin http://10.0.0.5:8188
  easel plugin grant some-adapter --credential api_key=env:PROVIDER_KEY
  easel plugin grant some-adapter --withhold https://telemetry.example.org")]
pub(super) struct Grant {
    /// The plugin's id
    id: String,
    /// Give all requests that it wants to send, but those to addresses, which are given by --origin
    #[arg(long)]
    all: bool,
    /// Give what it wants at this origin; where it takes any origin, this one
    #[arg(long, value_name = "ORIGIN")]
    origin: Vec<String>,
    /// Say that this origin is not given: the plugin then does not wait for it
    #[arg(long, value_name = "ORIGIN")]
    withhold: Vec<String>,
    /// Say where a credential is found, as NAME=env:VARIABLE or NAME=file:PATH
    #[arg(long, value_name = "NAME=PLACE", value_parser = credential)]
    credential: Vec<(String, Place)>,
    #[command(flatten)]
    options: ConfigOptions,
}

fn credential(text: &str) -> Result<(String, Place), String> {
    let read = || {
        let (name, place) = text.split_once('=')?;
        let (kind, place) = place.split_once(':')?;
        let is_variable = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let place = match kind {
            "env" if is_variable(place) && !place.is_empty() => Place::Env(place.to_owned()),
            "file" if !place.is_empty() => Place::File(place.into()),
            _ => return None,
        };
        (!name.is_empty()).then(|| (name.to_owned(), place))
    };
    // What was typed could be the secret itself, so it is not repeated.
    read().ok_or_else(|| {
        "it must say where the secret is, as in api_key=env:PROVIDER_KEY or api_key=file:/run/secrets/key".to_owned()
    })
}

impl Grant {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let config = self.options.sources(&ListenOptions::default())?.load()?.config;
        let wants = find(&config, &self.id)?;
        let file = GrantsFile::open(&config.grants_file())?;
        let mut settings = config.plugins.get(&self.id).cloned().unwrap_or_default();
        let edits = self.edits(&wants, &settings)?;
        for edit in &edits {
            give(&mut settings, edit);
        }
        let missing = wants.missing(&settings)?;
        if edits.is_empty() {
            print!("{}", described(&wants));
        } else {
            file.change(&self.id, &edits)?;
            println!("written to {}", config.grants_file().display());
        }
        match missing {
            None => println!("everything that {} wants is decided", self.id),
            Some(missing) => {
                println!("not decided yet: {}\nto give it: {}", missing.wants.join(", "), missing.command);
                println!("or add to easel.toml:\n\n{}", missing.toml);
            }
        }
        print!("{}", environment(&wants, &settings));
        Ok(ExitCode::SUCCESS)
    }

    /// What the options amount to. Each must mean something to the plugin.
    fn edits(&self, wants: &PluginWants, settings: &PluginSettings) -> Result<Vec<Edit>, Failure> {
        let mut edits = Vec::new();
        let network = wants.network();
        if self.all {
            let open = |grant: &&NetworkGrant| {
                !settings.network.contains(grant) && !PluginWants::is_granted_by_name(&grant.origin)
            };
            edits.extend(network.iter().filter(open).cloned().map(Edit::Network));
        }
        for origin in &self.origin {
            let same: Vec<_> = network.iter().filter(|grant| is_same(&grant.origin, origin)).collect();
            match same.as_slice() {
                [] if wants.takes_any_origin() || network.iter().any(|grant| covers_origin(&grant.origin, origin)) => {
                    edits.push(Edit::Origin(origin.clone()));
                }
                [] => return Err(not_wanted(wants, origin)),
                same => edits.extend(same.iter().map(|grant| Edit::Network((*grant).clone()))),
            }
        }
        for origin in &self.withhold {
            if !network.iter().any(|grant| is_same(&grant.origin, origin)) {
                return Err(not_wanted(wants, origin));
            }
            edits.push(Edit::Withhold(origin.clone()));
        }
        for (name, place) in &self.credential {
            if !wants.credentials().any(|(wanted, _)| wanted == name) {
                let names: Vec<_> = wants.credentials().map(|(name, _)| name).collect();
                return Err(Failure {
                    message: format!("plugin {} has no credential {name:?}", wants.id()),
                    hint: Some(format!(
                        "it has: {}",
                        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
                    )),
                });
            }
            edits.push(Edit::Credential(name.clone(), place.clone()));
        }
        Ok(edits)
    }
}

/// The plugin of an id in the plugins folder.
fn find(config: &Config, id: &str) -> Result<PluginWants, Failure> {
    let folder = &config.plugins_folder;
    let mut there = plugin_wants(folder, &HostLimits::default())?;
    let ids: Vec<_> = there.iter().map(|wants| wants.id().to_owned()).collect();
    let Some(index) = ids.iter().position(|known| known == id) else {
        let there = if ids.is_empty() { "there are none".to_owned() } else { format!("there are: {}", ids.join(", ")) };
        let message = format!("there is no plugin {id:?} whose manifest can be read in {}", folder.display());
        return Err(Failure { message, hint: Some(there) });
    };
    Ok(there.swap_remove(index))
}

/// Whether two spellings are of one origin, or of one pattern.
fn is_same(one: &str, other: &str) -> bool {
    covers_origin(one, other) && covers_origin(other, one)
}

fn not_wanted(wants: &PluginWants, origin: &str) -> Failure {
    let wanted: Vec<_> = wants.network().into_iter().map(|grant| grant.origin).collect();
    let wanted =
        if wanted.is_empty() { "it wants none".to_owned() } else { format!("it wants: {}", wanted.join(", ")) };
    Failure { message: format!("plugin {} does not want {origin:?}", wants.id()), hint: Some(wanted) }
}

/// The settings as they will be.
fn give(settings: &mut PluginSettings, edit: &Edit) {
    match edit {
        Edit::Network(grant) => settings.network.push(grant.clone()),
        Edit::Origin(origin) => settings.origins.push(origin.clone()),
        Edit::Withhold(origin) => settings.withheld.push(origin.clone()),
        Edit::Credential(..) | Edit::RevokeOrigin(_) | Edit::RevokeCredential(_) | Edit::RevokeAll => {}
    }
}

/// What a plugin wants, line by line.
fn described(wants: &PluginWants) -> String {
    let mut text = format!("{} ({}) wants\n", wants.id(), wants.path().display());
    for grant in wants.network() {
        let paths = grant.paths.map_or_else(|| "every path".to_owned(), |paths| paths.join(" "));
        let methods = grant.methods.unwrap_or_default().join(" ");
        text.push_str(&format!("  {}  {methods}  {paths}", grant.origin));
        if !grant.credentials.is_empty() {
            text.push_str(&format!("  with {}", grant.credentials.join(" ")));
        }
        text.push('\n');
    }
    if wants.takes_any_origin() {
        text.push_str("  an origin of your choice (--origin)\n");
    }
    for (name, need) in wants.credentials() {
        let need = need.name();
        text.push_str(&format!("  the credential {name}, {need} (--credential {name}=env:NAME)\n"));
    }
    if text.lines().count() == 1 {
        text.push_str("  nothing\n");
    }
    for (name, sets) in wants.variables() {
        text.push_str(&format!("  the variable {name} may set {sets}\n"));
    }
    text
}

/// The lines that grant the variables which do not count yet. They stand in the operator's own file only: what a
/// plugin's manifest reads of his environment is not for a command to give.
fn environment(wants: &PluginWants, settings: &PluginSettings) -> String {
    let mut names: Vec<String> = Vec::new();
    for (name, _) in wants.variables() {
        // One variable may set several things.
        if !settings.environment.contains_key(&name) && !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return String::new();
    }
    let id = wants.id();
    format!(
        "to have its variables count where they are set, add to easel.toml:\n\n[plugin.{id}]\nenvironment = {names:?}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credential_is_a_place_and_never_the_secret() {
        assert_eq!(credential("key=env:KEY").unwrap(), ("key".to_owned(), Place::Env("KEY".to_owned())));
        assert_eq!(credential("key=file:/k").unwrap(), ("key".to_owned(), Place::File("/k".into())));
        for text in
            ["key", "key=sk-live-1234", "key=env:", "key=env:sk-live-1234", "=env:KEY", "key=vault:x", "key=file:"]
        {
            let error = credential(text).unwrap_err();
            assert!(!error.contains("sk-live"), "{error}");
        }
    }

    #[test]
    fn origins_are_the_same_in_every_spelling() {
        assert!(is_same("https://a.com", "HTTPS://A.com:443/"));
        assert!(is_same("https://*.a.com", "https://*.A.com"));
        assert!(!is_same("https://a.com", "https://*.a.com") && !is_same("https://a.com", "http://a.com"));
    }
}
