//! `grants.toml` in the data folder: what the operator gave plugins by command. It says the same as the plugins' tables in
//! `easel.toml`, less `enabled` and `config`; a grant in either file counts, and of two places for one credential that of
//! `easel.toml` does.
//!
//! The server reads it with the config and follows it; commands change it ([`grants_file`](super::grants_file)).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;
use std::rc::Rc;

use easel_runtime::PluginSettings;

use super::ConfigError;
use super::plugin;
use super::section::{Layers, Section};
use super::tree;

/// The file's name in the data folder.
pub(super) const FILE_NAME: &str = "grants.toml";

/// The longest file.
const MAX_BYTES: u64 = 1 << 20;

/// Reads the file, where there is one, and adds its grants to those of `easel.toml`.
pub(super) fn add(
    path: &Path,
    layers: &Rc<Layers>,
    plugins: &mut BTreeMap<String, PluginSettings>,
    notices: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let Some(text) = text(path)? else { return Ok(()) };
    let file = tree::parse(&path.display().to_string(), &text)?;
    let mut root = Section::root(Some(file), Rc::clone(layers));
    let mut tables = root.section("plugin")?;
    root.finish()?;
    for (id, node) in tables.rest() {
        let mut table = tables.item(tables.path_of(&id), &node)?;
        let given = plugin::grants(&mut table, notices)?;
        table.finish()?;
        let settings = plugins.entry(id).or_default();
        settings.origins.extend(given.origins);
        settings.network.extend(given.network);
        settings.withheld.extend(given.withheld);
        for (name, secret) in given.credentials {
            settings.credentials.entry(name).or_insert(secret);
        }
    }
    Ok(())
}

/// The file's text; nothing where there is none.
pub(super) fn text(path: &Path) -> Result<Option<String>, ConfigError> {
    let unreadable =
        |error: std::io::Error| ConfigError::general(format!("{} cannot be read: {error}", path.display()));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(ConfigError::general(format!("{} has more than {MAX_BYTES} bytes", path.display())));
    }
    Ok(Some(text))
}
