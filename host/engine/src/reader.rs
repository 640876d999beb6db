//! A prompt reader: a CLIP tokenizer and the text encoder that reads its tokens.
//!
//! Stable Diffusion 1 and 2 have one, SDXL has two. Which state of it counts, and how two are joined, is the family's
//! (`family/`). Prompts in a syntax with weights ([`crate::weighting`]) are read in chunks of the encoder's length, all prompts in as many;
//! what their weights do to the states is [`Reading::weighted`].

use std::ops::Range;

use candle_core::{Device, Tensor};

use crate::checkpoint::Files;
use crate::clip::ClipText;
use crate::config;
use crate::error::{Error, Result};
use crate::tokenizer::{ClipTokenizer, Tokens};
use crate::trace::Trace;
use crate::weighting::{Chunk, Syntax, chunks};

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
    /// How the prompt is written.
    pub(crate) syntax: Syntax,
}

/// Tokens and hidden states of prompts, a row for each chunk of each prompt.
pub(crate) struct Reading {
    rows: Vec<Row>,
    hidden: Vec<Tensor>,
    prompts: Vec<Weights>,
}

/// One pass through the encoder.
struct Row {
    ids: Vec<u32>,
    depth: usize,
    /// Places that no token looks at.
    without: Vec<usize>,
}

/// What the weights of one prompt do: rows are counted among all that were read.
struct Weights {
    syntax: Syntax,
    /// The first row of its chunks, and how many there are.
    chunks: Range<usize>,
    /// What each place of each chunk counts; nothing where all count the same.
    places: Vec<f32>,
    /// The row of the empty prompt, from which weights count.
    empty: Option<usize>,
    /// The first row of its chunks without a part, and how much they count against the whole.
    lowered: Vec<(usize, f64)>,
}

/// More parts with a weight below 1 are refused: each is read once more.
const MOST_LOWERED: usize = 32;

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

    /// How many tokens of a prompt are more than are read.
    ///
    /// # Errors
    /// [`crate::Error::Tokenizer`], and [`crate::Error::Option`] for a prompt that its syntax refuses.
    pub(crate) fn dropped(&self, text: Text<'_>) -> Result<usize> {
        match text.syntax {
            Syntax::Plain => Ok(self.tokens(text.words)?.dropped),
            Syntax::Compel | Syntax::Emphasis => Ok(self.cut(text)?.2),
        }
    }

    /// The weights of a prompt's parts, its chunks, and how many tokens were left out.
    fn cut(&self, text: Text<'_>) -> Result<(Vec<f64>, Vec<Chunk>, usize)> {
        if text.syntax == Syntax::Plain {
            // Cut off at the encoder's length, whatever stands there.
            let mut ids: Vec<u32> = self.tokenizer.words(text.words)?.into_iter().map(|word| word.id).collect();
            let dropped = ids.len().saturating_sub(self.tokenizer.room());
            ids.truncate(self.tokenizer.room());
            let (weights, parts) = (vec![1.0; ids.len()], vec![0; ids.len()]);
            return Ok((vec![1.0], vec![Chunk { ids, weights, parts }], dropped));
        }
        let parts = text.syntax.parts(text.words)?;
        let words = parts.iter().map(|part| self.tokenizer.words(&part.words)).collect::<Result<Vec<_>>>()?;
        let (chunks, dropped) = chunks(text.syntax, &parts, &words, self.tokenizer.room());
        Ok((parts.iter().map(|part| part.weight).collect(), chunks, dropped))
    }

    /// Reads prompts, each without its last `skip` and `extra` layers; to the last layer, where they are to be pooled.
    ///
    /// # Errors
    /// [`crate::Error::Option`] when more layers are left out than there are, or a prompt is not what its syntax says; a tensor
    /// operation that failed.
    pub(crate) fn read(&self, texts: &[Text<'_>], extra: usize, pooling: Pooling, trace: Trace<'_>) -> Result<Reading> {
        let cuts = texts.iter().map(|text| self.cut(*text)).collect::<Result<Vec<_>>>()?;
        let longest = cuts.iter().map(|(_, chunks, _)| chunks.len()).max().unwrap_or(1);
        let (mut rows, mut prompts) = (Vec::new(), Vec::new());
        for (text, (_, chunks, _)) in texts.iter().zip(&cuts) {
            let depth = self.encoder.layers_without(text.skip, extra)?;
            let first = rows.len();
            let empty = Chunk::default();
            let padded = chunks.iter().chain(std::iter::repeat(&empty)).take(longest);
            rows.extend(padded.map(|chunk| Row { ids: self.tokenizer.framed(&chunk.ids), depth, without: Vec::new() }));
            let places = chunks.iter().flat_map(|chunk| self.framed_weights(chunk)).collect();
            prompts.push(Weights {
                syntax: text.syntax,
                chunks: first..rows.len(),
                places,
                empty: None,
                lowered: Vec::new(),
            });
        }
        let whole = rows.len();
        for (prompt, (weights, chunks, _)) in prompts.iter_mut().zip(&cuts) {
            if prompt.places.iter().all(|weight| *weight == 1.0) {
                prompt.places.clear();
            } else if prompt.syntax == Syntax::Compel {
                self.add_compel_rows(prompt, weights, chunks, &mut rows)?;
            }
        }
        let deepest = match pooling {
            Pooling::None => rows.iter().map(|row| row.depth).max().unwrap_or(0),
            Pooling::Plain | Pooling::Projected => self.encoder.layers_without(0, 0)?,
        };
        let ids = |rows: &[Row]| rows.iter().map(|row| row.ids.clone()).collect::<Vec<_>>();
        let mut hidden = self.encoder.hidden(&ids(&rows[..whole]), deepest, trace)?;
        for row in &rows[whole..] {
            let more =
                self.encoder.hidden_without(std::slice::from_ref(&row.ids), &row.without, deepest, Trace::none())?;
            for (hidden, more) in hidden.iter_mut().zip(&more) {
                *hidden = Tensor::cat(&[&*hidden, more], 0)?;
            }
        }
        Ok(Reading { rows, hidden, prompts })
    }

    fn framed_weights(&self, chunk: &Chunk) -> Vec<f32> {
        let mut weights = vec![1.0];
        weights.extend(&chunk.weights);
        weights.resize(self.tokenizer.room() + 2, 1.0);
        weights
    }

    /// The passes that compel takes besides: the empty prompt, and the prompt without each part that counts less than 1.
    fn add_compel_rows(
        &self,
        prompt: &mut Weights,
        weights: &[f64],
        chunks: &[Chunk],
        rows: &mut Vec<Row>,
    ) -> Result<()> {
        let depth = rows[prompt.chunks.start].depth;
        prompt.empty = Some(rows.len());
        rows.push(Row { ids: self.tokenizer.framed(&[]), depth, without: Vec::new() });
        let lowered: Vec<usize> = (0..weights.len()).filter(|part| weights[*part] < 1.0).collect();
        if lowered.len() > MOST_LOWERED {
            let message =
                format!("{} parts of the prompt count less than 1, and at most {MOST_LOWERED} may", lowered.len());
            return Err(Error::Option { name: "prompt_syntax", message });
        }
        for part in lowered {
            if !chunks.iter().any(|chunk| chunk.parts.contains(&part)) {
                continue;
            }
            // At 1 nothing of it, at 0.5 as much as of the whole, at 0 nothing but it.
            let share = ((1.0 - weights[part].max(1e-5)) * std::f64::consts::FRAC_PI_2).tan();
            prompt.lowered.push((rows.len(), share));
            for index in prompt.chunks.clone() {
                let chunk = chunks.get(index - prompt.chunks.start);
                let parts = chunk.map_or(&[][..], |chunk| &chunk.parts);
                let places = parts.iter().enumerate().filter(|(_, of)| **of == part).map(|(place, _)| place + 1);
                rows.push(Row { ids: rows[index].ids.clone(), depth, without: places.collect() });
            }
        }
        Ok(())
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
        let (ids, last) = reading.first_chunks()?;
        Ok(self.encoder.pooled(&ids, &last, trace)?)
    }

    /// The state at the first end token, `[prompts, width]`, of what was read to the last layer.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn ended(&self, reading: &Reading, trace: Trace<'_>) -> Result<Tensor> {
        let (ids, last) = reading.first_chunks()?;
        Ok(self.encoder.ended(&ids, &last, trace)?)
    }
}

impl Reading {
    /// The token ids of each prompt's first chunk, and its deepest states: `[prompts, tokens, width]`.
    fn first_chunks(&self) -> Result<(Vec<Vec<u32>>, Tensor)> {
        let Some(last) = self.hidden.last() else {
            return Err(candle_core::Error::Msg("nothing was read".to_owned()).into());
        };
        let first: Vec<usize> = self.prompts.iter().map(|prompt| prompt.chunks.start).collect();
        let rows = first.iter().map(|row| last.narrow(0, *row, 1)).collect::<candle_core::Result<Vec<_>>>()?;
        let ids = first.iter().map(|row| self.rows[*row].ids.clone()).collect();
        Ok((ids, Tensor::cat(&rows, 0)?.contiguous()?))
    }

    /// The states of each row at its own depth: `[rows, tokens, width]`. What a family makes of them goes to [`Reading::weighted`].
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn states(&self) -> Result<Tensor> {
        let rows = self.rows.iter().enumerate().map(|(row, of)| self.hidden[of.depth].narrow(0, row, 1));
        Ok(Tensor::cat(&rows.collect::<candle_core::Result<Vec<_>>>()?, 0)?)
    }

    /// The states of each prompt, its chunks behind one another and weighted: `[prompts, chunks · tokens, width]`.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn weighted(&self, states: &Tensor) -> Result<Tensor> {
        let prompts = self.prompts.iter().map(|prompt| prompt.apply(states));
        Ok(Tensor::cat(&prompts.collect::<Result<Vec<_>>>()?, 0)?.contiguous()?)
    }
}

impl Weights {
    fn apply(&self, states: &Tensor) -> Result<Tensor> {
        let whole = self.weighed(states, self.chunks.start)?;
        if self.lowered.is_empty() {
            return Ok(whole);
        }
        let mut sum = whole;
        for (first, share) in &self.lowered {
            sum = (sum + (self.weighed(states, *first)? * *share)?)?;
        }
        let shares: f64 = self.lowered.iter().map(|(_, share)| share).sum();
        Ok((sum / (1.0 + shares))?)
    }

    /// The chunks whose rows begin at `first`, each place as much as it counts: `[1, chunks · tokens, width]`.
    fn weighed(&self, states: &Tensor, first: usize) -> Result<Tensor> {
        let (_, tokens, _) = states.dims3()?;
        let mut chunks = Vec::with_capacity(self.chunks.len());
        for (index, row) in (first..first + self.chunks.len()).enumerate() {
            let state = states.narrow(0, row, 1)?;
            let Some(places) = self
                .places
                .get(index * tokens..(index + 1) * tokens)
                .filter(|places| places.iter().any(|weight| *weight != 1.0))
            else {
                chunks.push(state);
                continue;
            };
            let weights = Tensor::from_slice(places, (1, tokens, 1), states.device())?;
            chunks.push(match self.empty {
                // Away from the empty prompt, or towards it.
                Some(empty) => {
                    let empty = states.narrow(0, empty, 1)?;
                    (&empty + (state - &empty)?.broadcast_mul(&weights)?)?
                }
                // Longer or shorter, and then all of the chunk so that its mean is what it was.
                None => {
                    let mean = state.mean_all()?;
                    let state = state.broadcast_mul(&weights)?;
                    let scale = mean.div(&state.mean_all()?)?;
                    state.broadcast_mul(&scale)?
                }
            });
        }
        Ok(Tensor::cat(&chunks, 1)?)
    }
}
