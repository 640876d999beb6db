//! A prompt reader: a CLIP tokenizer and the text encoder that reads its tokens.
//!
//! Stable Diffusion 1 and 2 have one, SDXL has two. Which state of it counts, and how two are joined, is the family's
//! (`family/`).

use candle_core::{Device, Tensor};

use crate::checkpoint::Files;
use crate::clip::ClipText;
use crate::config;
use crate::error::Result;
use crate::tokenizer::{ClipTokenizer, Tokens};
use crate::trace::Trace;

/// A tokenizer and its text encoder.
pub(crate) struct ClipReader {
    tokenizer: ClipTokenizer,
    encoder: ClipText,
}

/// A prompt, and how deep it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a> {
    /// The prompt.
    pub(crate) words: &'a str,
    /// Layers of the text encoder left out at the end, on top of those that the family leaves out anyway.
    pub(crate) skip: usize,
}

/// Tokens and hidden states of prompts.
pub(crate) struct Reading {
    ids: Vec<Vec<u32>>,
    hidden: Vec<Tensor>,
    depths: Vec<usize>,
}

/// What a pooled state is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// There is none.
    None,
    /// The state at the first end token.
    Plain,
    /// That, projected.
    Projected,
}

impl ClipReader {
    /// Loads the reader whose folders are `tokenizer` and `text_encoder`, both with this ending: nothing, or `_2`.
    ///
    /// # Errors
    /// What the files lack, by file and key or tensor.
    pub(crate) fn load(files: &Files, ending: &str, pooling: Pooling, device: &Device) -> Result<Self> {
        let folder = format!("text_encoder{ending}");
        let config = config::text(files, &folder)?;
        let weights = files.weights(&folder, "model", device)?;
        let name = if ending.is_empty() { "text" } else { "text2" };
        Ok(Self {
            tokenizer: ClipTokenizer::load(files, &format!("tokenizer{ending}"), config.positions)?,
            encoder: match pooling {
                Pooling::None | Pooling::Plain => ClipText::load(name, &config, &weights)?,
                Pooling::Projected => ClipText::load_projected(name, &config, &weights)?,
            },
        })
    }

    /// The tokens of a prompt.
    ///
    /// # Errors
    /// [`crate::Error::Tokenizer`].
    pub(crate) fn tokens(&self, prompt: &str) -> Result<Tokens> {
        self.tokenizer.tokens(prompt)
    }

    /// Reads prompts, each without its last `skip` and `extra` layers; to the last layer, where they are to be pooled.
    ///
    /// # Errors
    /// [`crate::Error::Option`] when more layers are left out than there are; a tensor operation that failed.
    pub(crate) fn read(&self, texts: &[Text<'_>], extra: usize, pooling: Pooling, trace: Trace<'_>) -> Result<Reading> {
        let ids = texts.iter().map(|text| Ok(self.tokens(text.words)?.ids)).collect::<Result<Vec<_>>>()?;
        let depths = texts.iter().map(|text| self.encoder.layers_without(text.skip, extra));
        let depths = depths.collect::<Result<Vec<_>>>()?;
        let deepest = match pooling {
            Pooling::None => depths.iter().copied().max().unwrap_or(0),
            Pooling::Plain | Pooling::Projected => self.encoder.layers_without(0, 0)?,
        };
        let hidden = self.encoder.hidden(&ids, deepest, trace)?;
        Ok(Reading { ids, hidden, depths })
    }

    /// The final norm of states.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn normed(&self, states: &Tensor) -> Result<Tensor> {
        Ok(self.encoder.normed(states)?)
    }

    /// The pooled state of what was read to the last layer.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn pooled(&self, reading: &Reading, trace: Trace<'_>) -> Result<Option<Tensor>> {
        match reading.hidden.last() {
            Some(last) => Ok(self.encoder.pooled(&reading.ids, last, trace)?),
            None => Ok(None),
        }
    }
}

impl ClipReader {
    /// The state at the first end token, `[prompts, width]`, of what was read to the last layer.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn ended(&self, reading: &Reading, trace: Trace<'_>) -> Result<Tensor> {
        let Some(last) = reading.hidden.last() else {
            return Err(candle_core::Error::Msg("nothing was read".to_owned()).into());
        };
        Ok(self.encoder.ended(&reading.ids, last, trace)?)
    }
}

impl Reading {
    /// The states of each prompt at its own depth: `[prompts, tokens, width]`.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn states(&self) -> Result<Tensor> {
        let rows = self.depths.iter().enumerate().map(|(row, depth)| self.hidden[*depth].narrow(0, row, 1));
        Ok(Tensor::cat(&rows.collect::<candle_core::Result<Vec<_>>>()?, 0)?)
    }
}
