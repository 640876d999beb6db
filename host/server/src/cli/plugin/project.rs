//! A plugin's sources: where its manifest is, what it is written in, where its component goes.

use std::fs;
use std::path::{Path, PathBuf};

use easel_runtime::PluginKind;

use super::sources::Language;
use crate::cli::Failure;

/// A folder with a plugin's sources.
#[derive(Debug)]
pub(super) struct Project {
    pub(super) folder: PathBuf,
    pub(super) language: Language,
    pub(super) id: String,
    pub(super) kind: PluginKind,
    /// The text of its `plugin.toml`.
    pub(super) manifest: String,
}

impl Project {
    /// Reads the folder. What else stands in the manifest is the runtime's to judge.
    pub(super) fn find(folder: &Path) -> Result<Self, Failure> {
        let shown = folder.display();
        let manifest = fs::read_to_string(folder.join("plugin.toml")).map_err(|error| {
            Failure::new(format!("{shown} is no plugin's folder: its plugin.toml cannot be read: {error}"))
                .with_hint("easel plugin new NAME makes one")
        })?;
        let wrong = |what: &str| Failure::new(format!("{shown}/plugin.toml {what}"));
        let table: toml::Table = manifest.parse().map_err(|error: toml::de::Error| wrong(error.message()))?;
        let word = |key: &str| table.get("plugin")?.get(key)?.as_str().map(str::to_owned);
        let id = word("id").ok_or_else(|| wrong("names no plugin.id"))?;
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if id.is_empty() || !id.chars().all(is_plain) {
            return Err(wrong(&format!("has plugin.id {id:?}, which must be lower-case letters, digits and hyphens")));
        }
        let kind = match word("kind").as_deref() {
            Some("adapter") => PluginKind::Adapter,
            Some("transformer") => PluginKind::Transformer,
            Some(_) | None => return Err(wrong("must say plugin.kind, \"adapter\" or \"transformer\"")),
        };
        let has = |name: &str| folder.join(name).is_file();
        let language = match (has("Cargo.toml"), has("package.json"), has("plugin.py")) {
            (true, _, _) => Language::Rust,
            (false, true, _) => Language::Js,
            (false, false, true) => Language::Python,
            (false, false, false) => {
                return Err(Failure::new(format!("{shown} has no sources: Cargo.toml, package.json or plugin.py")));
            }
        };
        Ok(Self { folder: folder.to_owned(), language, id, kind, manifest })
    }

    /// Where the component is put: beside its manifest, so that the folder itself is one that a server can watch.
    pub(super) fn component(&self) -> PathBuf {
        self.folder.join(format!("{}.wasm", self.id))
    }
}

impl Built {
    /// Where the compiled component is kept between tests: among what else is built, where there is such a place.
    pub(super) fn cache(&self) -> Option<PathBuf> {
        let folder = self.path.parent()?;
        folder.join("tests").is_dir().then(|| folder.join("target/easel/compiled"))
    }
}

/// A component as it lies there, with the manifest beside it, which counts instead of the embedded one.
pub(super) struct Built {
    pub(super) path: PathBuf,
    pub(super) component: Vec<u8>,
    pub(super) manifest: Option<String>,
}

impl Built {
    /// Reads a component file, or the one in a plugin's folder.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let path = if path.is_dir() { component_in(path)? } else { path.to_owned() };
        let component =
            fs::read(&path).map_err(|error| Failure::new(format!("{} cannot be read: {error}", path.display())))?;
        let manifest = match fs::read_to_string(path.with_file_name("plugin.toml")) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Failure::new(format!("plugin.toml beside it cannot be read: {error}"))),
        };
        Ok(Self { path, component, manifest })
    }
}

fn component_in(folder: &Path) -> Result<PathBuf, Failure> {
    let path = Project::find(folder)?.component();
    if path.is_file() {
        return Ok(path);
    }
    let message = format!("{} is not there yet", path.display());
    Err(Failure::new(message).with_hint(format!("easel plugin build {}", folder.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_is_told_by_what_lies_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let find = || Project::find(folder.path()).map_err(|failure| failure.message);
        assert!(find().unwrap_err().contains("is no plugin's folder"));
        write("plugin.toml", "[plugin]\nid = \"a-b\"\nkind = \"transformer\"\n");
        assert!(find().unwrap_err().contains("has no sources"));
        write("plugin.py", "");
        let project = find().unwrap();
        assert_eq!((project.language, project.kind), (Language::Python, PluginKind::Transformer));
        assert_eq!(project.component(), folder.path().join("a-b.wasm"));
        write("plugin.toml", "[plugin]\nid = \"../a\"\nkind = \"adapter\"\n");
        assert!(find().unwrap_err().contains("must be lower-case letters"));
    }
}
