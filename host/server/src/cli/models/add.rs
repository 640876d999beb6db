//! `easel models add`: puts a model that lies elsewhere into the folder of models.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use easel_engine::inventory::look;

use super::{checked_name, failed, folder, must_be_free};
use crate::cli::{ConfigOptions, Failure};

/// How deep a model's folder may be.
const MAX_DEPTH: usize = 4;

/// Put a model into the folder of models: a folder in the diffusers layout, or a file of weights.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  easel models add ~/Downloads/painter.safetensors
  easel models add /mnt/models/sdxl --how symlink --name sdxl")]
pub(super) struct Add {
    /// The folder or the file
    path: PathBuf,
    /// The name that it gets [default: its own]
    #[arg(long)]
    name: Option<String>,
    /// Copies take the space again; hard links share it within one disk; a symlink needs the original to stay
    #[arg(long, value_enum, default_value = "copy")]
    how: How,
    #[command(flatten)]
    options: ConfigOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum How {
    Copy,
    HardLink,
    Symlink,
}

impl Add {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let folder = folder(&self.options)?;
        let added = add(&self.path, self.name.as_deref(), self.how, &folder)?;
        println!("added {added}");
        Ok(ExitCode::SUCCESS)
    }
}

/// Puts a model into the folder and tells its id.
fn add(path: &Path, name: Option<&str>, how: How, folder: &Path) -> Result<String, Failure> {
    let path = path.canonicalize().map_err(|error| failed("read", path, &error))?;
    let model = look(&path, folder).map_err(easel_core::Error::from)?;
    let id = checked_name(name.unwrap_or(&model.id))?.to_owned();
    must_be_free(folder, &id)?;
    fs::create_dir_all(folder).map_err(|error| failed("made", folder, &error))?;
    let target = match path.extension().filter(|_| !path.is_dir()) {
        Some(extension) => folder.join(format!("{id}.{}", extension.to_string_lossy())),
        None => folder.join(&id),
    };
    let hidden = folder.join(format!(".adding-{id}-{}", std::process::id()));
    let brought = bring(&path, &hidden, how, 0).and_then(|()| fs::rename(&hidden, &target));
    brought.map_err(|error| {
        // What was half brought is of no use to anybody.
        drop(discard(&hidden));
        failed("added", &path, &error)
    })?;
    Ok(id)
}

fn bring(from: &Path, to: &Path, how: How, depth: usize) -> io::Result<()> {
    if how == How::Symlink {
        return symlink(from, to);
    }
    if !from.is_dir() {
        return match how {
            How::HardLink => fs::hard_link(from, to),
            How::Copy | How::Symlink => fs::copy(from, to).map(drop),
        };
    }
    if depth >= MAX_DEPTH {
        return Err(io::Error::other(format!("it has more than {MAX_DEPTH} folders in each other")));
    }
    fs::create_dir(to)?;
    for item in fs::read_dir(from)? {
        let item = item?;
        bring(&item.path(), &to.join(item.file_name()), how, depth + 1)?;
    }
    Ok(())
}

#[cfg(unix)]
fn symlink(from: &Path, to: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(from, to)
}

#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::Error::other("symlinks are made on Unix only; copy it instead"))
}

/// Removes a file, a link or a folder.
pub(super) fn discard(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path)?.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::{How, add};
    use crate::cli::models::remove::remove;

    /// The demo model's own folder.
    fn shapes() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/models/shapes")
    }

    fn names(folder: &Path) -> Vec<String> {
        let items = fs::read_dir(folder).unwrap();
        items.map(|item| item.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_model_is_added_once_and_removed_without_trace() {
        for how in [How::Copy, How::HardLink, How::Symlink] {
            let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
            let folder = folder.path().join("models");
            assert_eq!(add(&shapes(), Some("drawn"), how, &folder).unwrap(), "drawn");
            assert!(folder.join("drawn/unet/config.json").is_file(), "{how:?}");
            assert_eq!(fs::symlink_metadata(folder.join("drawn")).unwrap().is_symlink(), how == How::Symlink);
            let failure = add(&shapes(), Some("drawn"), how, &folder).unwrap_err();
            assert!(failure.message.contains("there is a model drawn"), "{}", failure.message);
            assert_eq!(names(&folder), ["drawn"]);
            remove("drawn", &folder).unwrap();
            assert!(names(&folder).is_empty());
            assert!(shapes().join("unet/config.json").is_file(), "what a link points to stays");
        }
    }

    #[test]
    fn what_is_no_model_is_not_added_and_no_name_leads_out_of_the_folder() {
        let outside = tempfile::tempdir().unwrap();
        let folder = outside.path().join("models");
        let text = outside.path().join("text.safetensors");
        fs::write(&text, "not a model").unwrap();
        let failure = add(&text, None, How::Copy, &folder).unwrap_err();
        assert!(failure.message.contains("it is text"), "{}", failure.message);
        for name in ["../out", ".hidden", "", "a/b", "a\\b"] {
            let failure = add(&shapes(), Some(name), How::Copy, &folder).unwrap_err();
            assert!(failure.message.contains("cannot be the name"), "{name}: {}", failure.message);
        }
        assert!(!folder.exists());
        for name in ["..", "../models", "nobody"] {
            assert!(remove(name, &folder).is_err());
        }
    }
}
