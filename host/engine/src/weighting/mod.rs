//! Prompts with weights: two ways of writing them, and how long prompts are cut into pieces that a text encoder can read.
//!
//! A [`Syntax`] turns a prompt into [`Part`]s (`compel.rs`, `emphasis.rs`), and parts into [`Chunk`]s of the encoder's length. What weights
//! do to the encoder's states is [`crate::reader`]'s. Pure: no candle. Plain prompts, the default, never come here: they are read as
//! they stand, and cut off where the encoder's length ends, as diffusers does.

mod chunks;
mod compel;
mod emphasis;

use crate::error::{Error, Result};

pub(crate) use chunks::{Chunk, Word, chunks};

/// How a prompt is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Syntax {
    /// As it stands; parentheses are parentheses.
    #[default]
    Plain,
    /// `word++`, `word-`, `(several words)1.3`, `"several words"+`, as the library compel reads them.
    Compel,
    /// `(words)`, `[words]`, `(words:1.3)` and `BREAK`, as most other programs read them.
    Emphasis,
}

/// The names of all syntaxes.
pub const SYNTAXES: [(&str, Syntax); 3] =
    [("plain", Syntax::Plain), ("compel", Syntax::Compel), ("emphasis", Syntax::Emphasis)];

impl Syntax {
    /// The syntax of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        SYNTAXES.iter().find(|(known, _)| *known == name).map(|(_, syntax)| *syntax)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Compel => "compel",
            Self::Emphasis => "emphasis",
        }
    }

    /// How many chunks of a prompt are read; what is more is left out.
    #[must_use]
    pub fn most_chunks(self) -> usize {
        match self {
            Self::Plain => 1,
            Self::Compel | Self::Emphasis => chunks::MOST_CHUNKS,
        }
    }

    /// The parts of a prompt.
    ///
    /// # Errors
    /// [`Error::Option`] for a weight beyond what can be meant, and for what a syntax has and this engine has not.
    pub fn parts(self, prompt: &str) -> Result<Vec<Part>> {
        let parts = match self {
            Self::Plain => vec![Part::words(prompt, 1.0)],
            Self::Compel => compel::parts(prompt)?,
            Self::Emphasis => emphasis::parts(prompt),
        };
        match parts.iter().find(|part| !(-MOST..=MOST).contains(&part.weight)) {
            Some(part) => {
                refused(format!("a weight in the prompt is {}, and must be from -{MOST} to {MOST}", part.weight))
            }
            None => Ok(parts),
        }
    }
}

/// No picture survives a weight of half of this.
const MOST: f64 = 10.0;

/// A piece of a prompt, all of one weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Its words; empty where it is a break.
    pub words: String,
    /// How much it counts.
    pub weight: f64,
    /// Whether what comes after it begins in a new chunk.
    pub is_break: bool,
}

impl Part {
    fn words(words: &str, weight: f64) -> Self {
        Self { words: words.to_owned(), weight, is_break: false }
    }
}

fn refused<T>(message: String) -> Result<T> {
    Err(Error::Option { name: "prompt_syntax", message })
}

#[cfg(test)]
mod tests {
    use super::{SYNTAXES, Syntax};

    #[test]
    fn every_syntax_has_a_name() {
        for (name, syntax) in SYNTAXES {
            assert_eq!((Syntax::named(name), syntax.name()), (Some(syntax), name));
        }
        assert_eq!(Syntax::named("comple"), None);
    }

    #[test]
    fn weights_that_no_picture_survives_are_refused() {
        for (syntax, prompt) in
            [(Syntax::Emphasis, "(a:11)"), (Syntax::Emphasis, "((a:9):-9)"), (Syntax::Compel, "(a)10.5")]
        {
            assert!(syntax.parts(prompt).unwrap_err().to_string().contains("from -10 to 10"), "{prompt}");
        }
        let deep = "(".repeat(20_000) + "a";
        assert!(Syntax::Emphasis.parts(&deep).is_err());
    }

    #[test]
    fn a_plain_prompt_is_one_part_as_it_stands() {
        let parts = Syntax::Plain.parts("(a:2) BREAK [b]++").unwrap();
        assert_eq!((parts.len(), parts[0].words.as_str(), parts[0].weight), (1, "(a:2) BREAK [b]++", 1.0));
    }
}
