//! LoRA: small additions to the weights of a model, from files of their own.
//!
//! They lie in `loras/` in the folder of models and are asked for by name ([`Shelf`]). Which tensors of a model a file's keys
//! belong to is `names.rs`, told from the model's own parameters; reading and adding them is `patch.rs`. They are added while
//! a network reads its weights, to its own copies, so a model without them is loaded as if they had never been.

mod makers;
mod names;
mod patch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::error::{Error, Result};

pub(crate) use patch::Patches;

/// The folder among the models.
pub(crate) const FOLDER: &str = "loras";

/// The most that are added to one model at once.
const MOST: usize = 16;

/// The largest weight, either way.
const MOST_WEIGHT: f64 = 10.0;

/// A file of additions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LoraFile {
    /// The name by which requests know it: the file's, without its ending.
    pub(crate) name: String,
    path: PathBuf,
    /// Length and time of the last change: a file that was replaced is another.
    stamp: Option<(u64, Option<SystemTime>)>,
}

impl LoraFile {
    /// A file as it is found now.
    pub(crate) fn at(path: &Path) -> Self {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let metadata = std::fs::metadata(path).ok();
        let stamp = metadata.map(|metadata| (metadata.len(), metadata.modified().ok()));
        Self { name, path: path.to_owned(), stamp }
    }
}

/// An addition, and how much of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Lora {
    pub(crate) file: Arc<LoraFile>,
    pub(crate) weight: f64,
}

/// The additions there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shelf {
    files: Vec<Arc<LoraFile>>,
}

impl Shelf {
    /// Looks through the folder of models.
    pub(crate) fn look(models: &Path) -> Self {
        let mut files = Vec::new();
        for item in std::fs::read_dir(models.join(FOLDER)).into_iter().flatten().flatten() {
            let path = item.path();
            if path.extension().is_some_and(|extension| extension == "safetensors") && path.is_file() {
                files.push(Arc::new(LoraFile::at(&path)));
            }
        }
        files.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        Self { files }
    }

    /// Finds what is asked for, by name and weight.
    ///
    /// # Errors
    /// [`Error::Option`] for a name that is not there, with those that are; too many; a weight out of range.
    pub(crate) fn find(&self, asked: &[(String, f64)]) -> Result<Vec<Lora>> {
        let refuse = |message: String| Err(Error::Option { name: "loras", message });
        if asked.len() > MOST {
            return refuse(format!("loras has {} entries; at most {MOST} are added at once", asked.len()));
        }
        let mut found = Vec::with_capacity(asked.len());
        for (name, weight) in asked {
            let Some(file) = self.files.iter().find(|file| file.name == *name) else {
                let known: Vec<_> = self.files.iter().map(|file| file.name.as_str()).collect();
                let known = if known.is_empty() { "there is none".to_owned() } else { known.join(", ") };
                return refuse(format!("lora {name:?} is not here: {known}"));
            };
            if !(-MOST_WEIGHT..=MOST_WEIGHT).contains(weight) {
                let message =
                    format!("the weight of lora {name} must be from -{MOST_WEIGHT} to {MOST_WEIGHT}, not {weight}");
                return refuse(message);
            }
            found.push(Lora { file: Arc::clone(file), weight: *weight });
        }
        Ok(found)
    }
}

/// Takes `<lora:name:weight>` out of a prompt. What does not end, or has no name, is left in it.
///
/// # Errors
/// [`Error::Option`] for a weight that is no number.
pub(crate) fn from_prompt(prompt: &str) -> Result<(String, Vec<(String, f64)>)> {
    const OPENS: &str = "<lora:";
    let (mut text, mut asked, mut rest) = (String::with_capacity(prompt.len()), Vec::new(), prompt);
    while let Some(at) = rest.find(OPENS) {
        let (before, tag) = rest.split_at(at);
        text.push_str(before);
        let Some((inside, after)) = tag[OPENS.len()..].split_once('>') else {
            rest = tag;
            break;
        };
        let (name, weight) = inside.split_once(':').unwrap_or((inside, "1"));
        let Ok(weight) = weight.trim().parse() else {
            let message = format!("<lora:{inside}> in the prompt has the weight {weight:?}, which is no number");
            return Err(Error::Option { name: "loras", message });
        };
        asked.push((name.trim().to_owned(), weight));
        rest = after;
    }
    text.push_str(rest);
    Ok((text, asked))
}

#[cfg(test)]
mod tests {
    use super::from_prompt;

    #[test]
    fn tags_are_taken_out_of_a_prompt_and_leave_the_rest_as_it_was() {
        let (text, asked) = from_prompt("a <lora:ink:0.8>fox<lora: wash >, small").unwrap();
        assert_eq!(text, "a fox, small");
        assert_eq!(asked, [("ink".to_owned(), 0.8), ("wash".to_owned(), 1.0)]);
        assert_eq!(from_prompt("a <lora:ink").unwrap(), ("a <lora:ink".to_owned(), Vec::new()));
        assert!(from_prompt("a <lora:ink:much>").unwrap_err().to_string().contains("no number"));
    }
}
