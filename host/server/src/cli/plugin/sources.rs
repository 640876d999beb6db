//! The files that a plugin begins with, and the SDK and the contract to build it with. They are in the program, so that
//! whoever has it needs no checkout. The templates are the examples: what builds and passes its tests there does so here.

use clap::ValueEnum;
use easel_runtime::PluginKind;
use toml::{Table, Value};

mod gathered {
    include!(concat!(env!("OUT_DIR"), "/authors.rs"));
}

/// What a plugin is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    Rust,
    Js,
    Python,
}

/// A file with its place, from the folder that it is written into.
pub(super) type SourceFile = (String, Vec<u8>);

/// The example that a plugin of this kind begins as.
pub(super) fn example(language: Language, kind: PluginKind) -> String {
    let ending = match language {
        Language::Rust => "",
        Language::Js => "-js",
        Language::Python => "-python",
    };
    format!("hello-{}{ending}", kind.name())
}

/// The files of a new plugin of this name, and what it is built with.
pub(super) fn template(language: Language, kind: PluginKind, name: &str) -> Vec<SourceFile> {
    let example = example(language, kind);
    let folder = format!("{example}/");
    let own = gathered::EXAMPLES.iter().filter_map(|(path, bytes)| Some((path.strip_prefix(&folder)?, *bytes)));
    let mut files: Vec<_> = own.map(|(path, bytes)| (path.to_owned(), renamed(bytes, &example, name))).collect();
    if language == Language::Rust {
        files.extend(sdk());
    }
    files
}

/// The contract, as its files lie under `wit/`.
pub(super) fn contract() -> impl Iterator<Item = SourceFile> {
    gathered::WIT.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec()))
}

/// The script that gets the compiler's target.
pub(super) fn wasm_target() -> &'static [u8] {
    gathered::SDK.iter().find(|(path, _)| *path == "wasm-target").map_or(&[], |(_, bytes)| bytes)
}

/// A file of an example under another plugin's name. What is no text stays as it is.
fn renamed(bytes: &[u8], example: &str, name: &str) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(bytes) else { return bytes.to_vec() };
    let words = [
        (example.to_owned(), name.to_owned()),
        (example.replace('-', "_"), name.replace('-', "_")),
        // Model ids are one space for all plugins.
        ("hello-gradient".to_owned(), format!("{name}-gradient")),
        ("../../sdk/wasm-target".to_owned(), "easel plugin build".to_owned()),
        ("../../sdk".to_owned(), "vendor/easel-sdk".to_owned()),
    ];
    words.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to)).into_bytes()
}

/// The SDK and the contract it is generated from, as a package that stands by itself. It is on no registry, so that a
/// plugin brings its own; one folder to replace is one SDK to update.
fn sdk() -> Vec<SourceFile> {
    let sources = gathered::SDK.iter().filter(|(path, _)| path.starts_with("src/") || *path == "README.md");
    let mut files: Vec<_> = sources.map(|(path, bytes)| (format!("vendor/easel-sdk/{path}"), bytes.to_vec())).collect();
    let manifest = gathered::SDK.iter().find(|(path, _)| *path == "Cargo.toml").map_or(&[][..], |(_, bytes)| bytes);
    let manifest = standing_alone(&String::from_utf8_lossy(manifest), gathered::WORKSPACE);
    files.push(("vendor/easel-sdk/Cargo.toml".to_owned(), manifest.into_bytes()));
    files.push(("vendor/easel-sdk/LICENSE".to_owned(), gathered::LICENSE.into()));
    files.extend(contract().map(|(path, bytes)| (format!("vendor/wit/{path}"), bytes)));
    files
}

/// A package's manifest with what it has from its workspace written out.
fn standing_alone(manifest: &str, workspace: &str) -> String {
    let read = |text: &str| text.parse::<Table>().unwrap_or_default();
    let (mut manifest, workspace) = (read(manifest), read(workspace));
    let shared = |section: &str| workspace.get("workspace").and_then(|all| all.get(section)).and_then(Value::as_table);
    for (section, from) in
        [("package", "package"), ("dependencies", "dependencies"), ("dev-dependencies", "dependencies")]
    {
        let Some(table) = manifest.get_mut(section).and_then(Value::as_table_mut) else { continue };
        for (key, value) in table.iter_mut() {
            let Some(own) = value.as_table().filter(|own| own.get("workspace") == Some(&Value::Boolean(true))) else {
                continue;
            };
            if let Some(given) = shared(from).and_then(|shared| shared.get(key)) {
                *value = merged(given, own);
            }
        }
    }
    manifest.remove("lints");
    toml::to_string(&manifest).unwrap_or_default()
}

/// What the workspace gives, with what the package adds: more features, or that it is optional.
fn merged(given: &Value, own: &Table) -> Value {
    let added: Vec<_> = own.iter().filter(|(key, _)| *key != "workspace").collect();
    if added.is_empty() {
        return given.clone();
    }
    let mut table = match given {
        Value::Table(table) => table.clone(),
        version => Table::from_iter([("version".to_owned(), version.clone())]),
    };
    for (key, value) in added {
        match (table.get_mut(key), value) {
            (Some(Value::Array(known)), Value::Array(more)) => known.extend(more.iter().cloned()),
            _ => drop(table.insert(key.clone(), value.clone())),
        }
    }
    Value::Table(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_has_what_a_plugin_needs_and_none_of_the_examples_name() {
        for language in [Language::Rust, Language::Js, Language::Python] {
            for kind in [PluginKind::Adapter, PluginKind::Transformer] {
                let files = template(language, kind, "my-own");
                let has = |path: &str| files.iter().any(|(known, _)| known == path);
                for path in ["plugin.toml", "README.md", ".gitignore"] {
                    assert!(has(path), "{language:?} {kind:?} lacks {path}");
                }
                assert!(files.iter().any(|(path, _)| path.starts_with("tests/")), "{language:?} {kind:?} has no tests");
                for (path, bytes) in files.iter().filter(|(path, _)| !path.starts_with("vendor/")) {
                    let text = String::from_utf8_lossy(bytes);
                    for word in [&example(language, kind), "hello_adapter", "hello-gradient", "../"] {
                        assert!(!text.contains(word), "{language:?} {kind:?}: {path} says {word}");
                    }
                }
            }
        }
    }

    #[test]
    fn manifest_stands_alone_once_what_its_workspace_gives_is_written_out() {
        let workspace = "[workspace.package]\nversion = \"0.1.0\"\n[workspace.dependencies]\na = \"1\"\nb = { version = \"2\", features = [\"x\"] }\n";
        let manifest = "[package]\nname = \"p\"\nversion.workspace = true\n[lints]\nworkspace = true\n[dependencies]\na = { workspace = true, optional = true }\nb = { workspace = true, features = [\"y\"] }\nc = \"3\"\n";
        let alone: Table = standing_alone(manifest, workspace).parse().unwrap();
        let expected: Table = "[package]\nname = \"p\"\nversion = \"0.1.0\"\n[dependencies]\na = { version = \"1\", optional = true }\nb = { version = \"2\", features = [\"x\", \"y\"] }\nc = \"3\"\n".parse().unwrap();
        assert_eq!(alone, expected);
    }

    #[test]
    fn sdk_of_a_new_plugin_is_whole() {
        let files = sdk();
        let text = |path: &str| {
            let file = files.iter().find(|(known, _)| known == path);
            String::from_utf8(file.unwrap_or_else(|| panic!("{path} is not there")).1.clone()).unwrap()
        };
        assert!(!text("vendor/easel-sdk/Cargo.toml").contains("workspace"));
        assert!(text("vendor/easel-sdk/src/lib.rs").contains("pub mod bindings;"));
        assert!(text("vendor/wit/worlds.wit").contains("world adapter"));
        assert!(std::str::from_utf8(wasm_target()).unwrap().starts_with("#!"));
    }
}
