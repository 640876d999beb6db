//! `grants.toml` as commands change it: one command at a time, and at once, so that whoever reads it sees the old file or the
//! new one. Nobody but its owner may read it. No secret stands in it, only where each is found.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use easel_runtime::NetworkGrant;
use serde::{Deserialize, Serialize};

use super::{ConfigError, grants};

/// What stands first in it.
const HEAD: &str = "\
# Written by `easel plugin grant` and `easel plugin revoke`; a running server follows it. It can be changed by hand as well:
# every key is one of [plugin.ID] in easel.toml. Comments are lost with the next command.

";

/// A change of one plugin's grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Gives these requests.
    Network(NetworkGrant),
    /// Gives all that is wanted at an origin.
    Origin(String),
    /// Says that an origin is not given.
    Withhold(String),
    /// Says where a credential's value is found.
    Credential(String, Place),
    /// Takes back what was given or withheld at an origin.
    RevokeOrigin(String),
    /// Takes back a credential.
    RevokeCredential(String),
    /// Takes back everything.
    RevokeAll,
}

/// Where a credential's value is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In this environment variable of the server.
    Env(String),
    /// In this file.
    File(PathBuf),
}

/// The file, held by one command.
#[derive(Debug)]
pub struct GrantsFile {
    path: PathBuf,
    tables: Tables,
    /// Held while the file is read, changed and written.
    _lock: File,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Tables {
    plugin: BTreeMap<String, Table>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Table {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    origins: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    withheld: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    network: Vec<Network>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    credentials: BTreeMap<String, Place>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Network {
    origin: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    methods: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paths: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Names::is_empty")]
    credential: Names,
}

/// One name, or a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Several(Vec<String>),
}

impl Default for Names {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl Names {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl GrantsFile {
    /// Waits until no other command changes the file, and reads it. Makes the data folder when it is missing.
    ///
    /// # Errors
    /// The folder or the file cannot be used.
    pub fn open(path: &Path) -> Result<Self, ConfigError> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let unusable =
            |error: std::io::Error| ConfigError::general(format!("{} cannot be used: {error}", folder.display()));
        fs::create_dir_all(folder).map_err(unusable)?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        let lock = private(&mut options).open(folder.join(".grants.lock")).map_err(unusable)?;
        lock.lock().map_err(unusable)?;
        let text = grants::text(path)?.unwrap_or_default();
        let tables = toml::from_str(&text)
            .map_err(|error| ConfigError::general(format!("{} is not right: {}", path.display(), error.message())))?;
        Ok(Self { path: path.to_owned(), tables, _lock: lock })
    }

    /// Whether a change would change anything.
    pub fn would_change(&self, id: &str, edit: &Edit) -> bool {
        let mut changed = self.tables.clone();
        changed.apply(id, edit);
        changed != self.tables
    }

    /// Makes the changes, all of them or none, and writes the file.
    ///
    /// # Errors
    /// The file cannot be written; then it is as it was.
    pub fn change(mut self, id: &str, edits: &[Edit]) -> Result<(), ConfigError> {
        for edit in edits {
            self.tables.apply(id, edit);
        }
        let path = self.path.display();
        let unwritten =
            |error: &dyn std::fmt::Display| ConfigError::general(format!("{path} cannot be written: {error}"));
        let body = toml::to_string(&self.tables).map_err(|error| unwritten(&error))?;
        self.write(&body).map_err(|error| unwritten(&error))
    }

    fn write(&self, body: &str) -> std::io::Result<()> {
        let next = self.path.with_extension("toml.new");
        // What a command that was ended left there could have another owner's mode.
        match fs::remove_file(&next) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut options = OpenOptions::new();
        options.create_new(true).write(true);
        let mut file = private(&mut options).open(&next)?;
        file.write_all(HEAD.as_bytes())?;
        file.write_all(body.as_bytes())?;
        file.sync_all()?;
        fs::rename(&next, &self.path)
    }
}

#[cfg(unix)]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600)
}

#[cfg(not(unix))]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

impl Tables {
    fn apply(&mut self, id: &str, edit: &Edit) {
        let table = self.plugin.entry(id.to_owned()).or_default();
        match edit {
            Edit::Network(grant) => {
                table.withheld.retain(|withheld| *withheld != grant.origin);
                add(&mut table.network, Network::from(grant));
            }
            Edit::Origin(origin) => {
                table.withheld.retain(|withheld| withheld != origin);
                add(&mut table.origins, origin.clone());
            }
            Edit::Withhold(origin) => add(&mut table.withheld, origin.clone()),
            Edit::Credential(name, place) => drop(table.credentials.insert(name.clone(), place.clone())),
            Edit::RevokeOrigin(origin) => {
                table.origins.retain(|given| given != origin);
                table.withheld.retain(|withheld| withheld != origin);
                table.network.retain(|grant| grant.origin != *origin);
            }
            Edit::RevokeCredential(name) => drop(table.credentials.remove(name)),
            Edit::RevokeAll => *table = Table::default(),
        }
        if *table == Table::default() {
            self.plugin.remove(id);
        }
    }
}

fn add<T: PartialEq>(items: &mut Vec<T>, item: T) {
    if !items.contains(&item) {
        items.push(item);
    }
}

impl From<&NetworkGrant> for Network {
    fn from(grant: &NetworkGrant) -> Self {
        Self {
            origin: grant.origin.clone(),
            methods: grant.methods.clone(),
            paths: grant.paths.clone(),
            credential: match grant.credentials.as_slice() {
                [one] => Names::One(one.clone()),
                several => Names::Several(several.to_vec()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(origin: &str) -> NetworkGrant {
        NetworkGrant { origin: origin.to_owned(), paths: Some(vec!["/v1/**".to_owned()]), ..NetworkGrant::default() }
    }

    fn changed(path: &Path, id: &str, edits: &[Edit]) -> String {
        GrantsFile::open(path).unwrap().change(id, edits).unwrap();
        let text = fs::read_to_string(path).unwrap();
        text.strip_prefix(HEAD).unwrap().to_owned()
    }

    #[test]
    fn file_holds_what_was_given_and_nothing_that_was_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data").join("grants.toml");
        let edits = [
            Edit::Network(NetworkGrant { credentials: vec!["key".to_owned()], ..grant("https://a.com") }),
            Edit::Network(NetworkGrant { credentials: vec!["key".to_owned()], ..grant("https://a.com") }),
            Edit::Origin("http://10.0.0.5".to_owned()),
            Edit::Withhold("https://b.com".to_owned()),
            Edit::Credential("key".to_owned(), Place::Env("KEY".to_owned())),
        ];
        let text = changed(&path, "one", &edits);
        let expected = "[plugin.one]\norigins = [\"http://10.0.0.5\"]\nwithheld = [\"https://b.com\"]\n\n\
                        [[plugin.one.network]]\norigin = \"https://a.com\"\npaths = [\"/v1/**\"]\ncredential = \"key\"\n\n\
                        [plugin.one.credentials.key]\nenv = \"KEY\"\n";
        assert_eq!(text, expected);

        changed(&path, "two", &[Edit::Origin("https://c.com".to_owned())]);
        let edits = [Edit::RevokeOrigin("https://a.com".to_owned()), Edit::RevokeCredential("key".to_owned())];
        let text = changed(&path, "one", &edits);
        assert!(!text.contains("a.com") && !text.contains("KEY") && text.contains("10.0.0.5"), "{text}");
        let text = changed(&path, "one", &[Edit::Origin("https://b.com".to_owned())]);
        assert!(!text.contains("withheld"), "what is given is not withheld any more: {text}");
        assert_eq!(changed(&path, "one", &[Edit::RevokeAll]), "[plugin.two]\norigins = [\"https://c.com\"]\n");
        assert_eq!(changed(&path, "two", &[Edit::RevokeAll]), "[plugin]\n");
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_read_the_file() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grants.toml");
        fs::write(&path, "[plugin.one]\norigins = [\"https://a.com\"]").unwrap();
        fs::write(folder.path().join("grants.toml.new"), "left by a command that was ended").unwrap();
        changed(&path, "one", &[Edit::Withhold("https://b.com".to_owned())]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!folder.path().join("grants.toml.new").exists());
    }

    #[test]
    fn commands_at_the_same_time_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grants.toml");
        std::thread::scope(|scope| {
            for number in 0..16 {
                let path = &path;
                scope.spawn(move || changed(path, "one", &[Edit::Origin(format!("https://a{number}.com"))]));
            }
        });
        let tables: Tables = toml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(tables.plugin["one"].origins.len(), 16);
    }

    #[test]
    fn file_that_is_not_right_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grants.toml");
        for (text, expected) in [("[plugin", "is not right"), ("[plugin.one]\nenabled = true", "unknown field")] {
            fs::write(&path, text).unwrap();
            let error = GrantsFile::open(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
