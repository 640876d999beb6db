//! `easel plugin new`: a plugin to begin with, which builds and passes its tests as it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use easel_runtime::PluginKind;

use super::sources::{Language, SourceFile, template};
use crate::cli::Failure;

/// Write a plugin to begin with: sources, manifest, tests, and all that it is built with.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  easel plugin new my-adapter
  easel plugin new my-filter --kind transformer --lang python
  easel plugin new my-adapter --lang js --path sources/my-adapter")]
pub(super) struct New {
    /// The plugin's id: lower-case letters, digits and hyphens
    name: String,
    /// What it is written in
    #[arg(long, value_enum, default_value = "rust")]
    lang: Language,
    /// A backend, or an editor of requests
    #[arg(long, value_enum, default_value = "adapter")]
    kind: KindOption,
    /// The folder to write into; it must be empty, or not there yet [default: ./NAME]
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KindOption {
    Adapter,
    Transformer,
}

impl From<KindOption> for PluginKind {
    fn from(kind: KindOption) -> Self {
        match kind {
            KindOption::Adapter => Self::Adapter,
            KindOption::Transformer => Self::Transformer,
        }
    }
}

impl New {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        check_name(&self.name)?;
        let folder = self.path.unwrap_or_else(|| PathBuf::from(&self.name));
        write(&folder, &template(self.lang, self.kind.into(), &self.name))?;
        let shown = folder.display();
        println!("{shown} has a plugin that builds and passes its tests; what next:");
        println!("  cd {shown}");
        for line in steps(self.lang) {
            println!("  {line}");
        }
        println!("  cp {}.wasm PLUGINS       into the plugins folder of a server, which need not stop", self.name);
        Ok(ExitCode::SUCCESS)
    }
}

/// What makes the component, in order.
fn steps(language: Language) -> &'static [&'static str] {
    const BUILD: &str = "easel plugin build";
    const TEST: &str = "easel plugin test";
    match language {
        Language::Rust => &[BUILD, TEST],
        Language::Js => &["npm install", BUILD, TEST],
        Language::Python => &["python3 -m venv .venv", ".venv/bin/pip install -r requirements.txt", BUILD, TEST],
    }
}

/// Words that no package can be named, or that would be taken for something else.
const TAKEN: [&str; 12] =
    ["alloc", "box", "core", "crate", "easel-sdk", "enum", "fn", "mod", "self", "std", "super", "test"];

fn check_name(name: &str) -> Result<(), Failure> {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let is_word = name.starts_with(|first: char| first.is_ascii_lowercase()) && !name.ends_with('-');
    if !(is_plain && is_word && name.len() <= 64) {
        let message = format!(
            "NAME must be 1 to 64 lower-case letters, digits and hyphens, a letter first and no hyphen last, not {name:?}"
        );
        return Err(Failure::new(message));
    }
    if TAKEN.contains(&name) {
        return Err(Failure::new(format!("NAME must not be {name:?}, which means something else to compilers")));
    }
    Ok(())
}

/// Writes all files. Nothing that was there is changed.
fn write(folder: &Path, files: &[SourceFile]) -> Result<(), Failure> {
    let broken =
        |path: &Path, error: std::io::Error| Failure::new(format!("{} cannot be written: {error}", path.display()));
    match fs::read_dir(folder) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                let message = format!("{} is not empty", folder.display());
                return Err(Failure::new(message).with_hint("name another folder with --path"));
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(broken(folder, error)),
    }
    for (name, bytes) in files {
        let path = folder.join(name);
        if let Some(above) = path.parent() {
            fs::create_dir_all(above).map_err(|error| broken(above, error))?;
        }
        fs::write(&path, bytes).map_err(|error| broken(&path, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_must_be_one_that_every_place_can_hold() {
        for name in ["a", "my-adapter", "x2", &"a".repeat(64)] {
            check_name(name).unwrap_or_else(|failure| panic!("{name}: {}", failure.message));
        }
        for name in ["", "My", "2x", "-a", "a-", "a_b", "a.b", "a/b", "../a", "ä", "fn", "easel-sdk", &"a".repeat(65)]
        {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn nothing_is_written_into_a_folder_that_has_something() {
        let folder = tempfile::tempdir().unwrap();
        let files = [("src/a.txt".to_owned(), b"a".to_vec())];
        write(&folder.path().join("new/deep"), &files).unwrap();
        assert_eq!(fs::read(folder.path().join("new/deep/src/a.txt")).unwrap(), b"a");
        write(folder.path(), &files).map_err(|failure| failure.message).unwrap_err();
        assert!(!folder.path().join("src").exists());
    }
}
