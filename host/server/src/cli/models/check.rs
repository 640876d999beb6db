//! `easel models check`: whether the files of models hold what their networks ask for. Headers are read, weights are not.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use easel_engine::Examination;
use easel_engine::inventory::{files, inventory};

use super::folder;
use crate::cli::{ConfigOptions, Failure};

/// How many tensors of a kind are named; of the rest the number is told.
const NAMED: usize = 20;

/// Check that models are whole: every tensor there, and of the right shape.
#[derive(Args, Debug)]
pub(super) struct Check {
    /// The models, as `easel models` names them [default: all in the folder of models]
    models: Vec<String>,
    #[command(flatten)]
    options: ConfigOptions,
}

impl Check {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let folder = folder(&self.options)?;
        let models = match self.models.is_empty() {
            true => {
                let listed = inventory(&folder).map_err(easel_core::Error::from)?;
                listed.into_iter().map(|listed| listed.id).collect()
            }
            false => self.models,
        };
        let mut is_whole = true;
        for model in models {
            let (told, whole) = examined(&model, &folder);
            print!("{told}");
            is_whole &= whole;
        }
        Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// What is told of a model, and whether it is whole.
fn examined(model: &str, folder: &Path) -> (String, bool) {
    let examination = files(model, folder).and_then(|files| easel_engine::examine::examine(&files));
    match examination {
        Ok(examination) => told(model, &examination),
        Err(error) => (format!("{model}: {error}\n"), false),
    }
}

fn told(model: &str, Examination { missing, wrong, unread, right }: &Examination) -> (String, bool) {
    let is_whole = missing.is_empty() && wrong.is_empty();
    let mut text = match is_whole {
        true => format!("{model}: whole, {right} tensors"),
        false => format!("{model}: {} tensors missing, {} of another shape, {right} right", missing.len(), wrong.len()),
    };
    if !unread.is_empty() {
        text.push_str(&format!(", {} that are not read", unread.len()));
    }
    text.push('\n');
    let mut name = |what: &str, lines: &mut dyn Iterator<Item = String>| {
        let lines: Vec<_> = lines.collect();
        lines.iter().take(NAMED).for_each(|line| text.push_str(&format!("  {what} {line}\n")));
        if lines.len() > NAMED {
            text.push_str(&format!("  {what} and {} more\n", lines.len() - NAMED));
        }
    };
    name("missing", &mut missing.iter().map(|(name, shape)| format!("{name} {shape:?}")));
    name("wrong", &mut wrong.iter().map(|(name, (is, must))| format!("{name} is {is:?} and must be {must:?}")));
    if !is_whole {
        name("not read", &mut unread.iter().map(|(name, shape)| format!("{name} {shape:?}")));
    }
    (text, is_whole)
}

#[cfg(test)]
mod tests {
    use easel_engine::Examination;

    use super::told;

    #[test]
    fn what_is_missing_and_what_has_another_shape_is_named_and_the_rest_counted() {
        let mut examination = Examination { right: 5, ..Examination::default() };
        assert_eq!(told("one", &examination), ("one: whole, 5 tensors\n".to_owned(), true));
        examination.missing = (0..22).map(|at| (format!("unet.{at:02}"), vec![1])).collect();
        examination.wrong.insert("vae.a".to_owned(), (vec![2], vec![3]));
        examination.unread.insert("vae.b".to_owned(), vec![4, 4]);
        let (text, is_whole) = told("one", &examination);
        assert!(!is_whole);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "one: 22 tensors missing, 1 of another shape, 5 right, 1 that are not read");
        assert_eq!(lines[20], "  missing unet.19 [1]");
        assert_eq!(
            lines[21..],
            ["  missing and 2 more", "  wrong vae.a is [2] and must be [3]", "  not read vae.b [4, 4]"]
        );
    }
}
