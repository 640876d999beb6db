//! CLIP's tokenizer: lower case, CLIP's own split, byte-pair merges whose words end in `</w>`.
//!
//! Built from `vocab.json` and `merges.txt`, not from `tokenizer.json`: a model folder may lack the latter, and loaders that
//! take the former two for GPT-2's byte-level form cut words wrongly, without any error.

use std::collections::HashMap;

use serde::Deserialize;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreSequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, SplitDelimiterBehavior,
    TokenizerImpl,
};

use crate::checkpoint::Files;
use crate::config::read_json;
use crate::error::{Error, Result};
use crate::weighting::Word;

/// How CLIP cuts a text into words before merging: contractions, letters, single digits, runs of anything else.
const WORDS: &str = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

type Bpe = TokenizerImpl<BPE, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// Turns a prompt into the token ids of a CLIP text encoder.
pub(crate) struct ClipTokenizer {
    bpe: Bpe,
    start: u32,
    end: u32,
    pad: u32,
    length: usize,
}

/// The tokens of one prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Start, words, end, padding: always as many as the text encoder has positions.
    pub ids: Vec<u32>,
    /// How many of them are not padding.
    pub used: usize,
    /// How many tokens of the prompt did not fit and were left out.
    pub dropped: usize,
}

impl ClipTokenizer {
    /// Builds the tokenizer in a folder of a model, for prompts of `positions` tokens.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Config`] or [`Error::Tokenizer`] when a file is missing or wrong.
    pub(crate) fn load(files: &Files, folder: &str, positions: usize) -> Result<Self> {
        let at = |name: &str| format!("{folder}/{name}");
        let (config_file, special_file) = (at("tokenizer_config.json"), at("special_tokens_map.json"));
        let vocabulary: HashMap<String, u32> = read_json(files, &at("vocab.json"))?;
        let merges = merges(files, &at("merges.txt"))?;
        let config: Config = match files.has(&config_file) {
            true => read_json(files, &config_file)?,
            false => Config::default(),
        };
        let special: Special = match files.has(&special_file) {
            true => read_json(files, &special_file)?,
            false => Special::default(),
        };
        let id = |name: &str| {
            let id = vocabulary.get(name).copied();
            id.ok_or_else(|| Error::Tokenizer(format!("{name:?} is not in {folder}/vocab.json")))
        };
        let names = [
            pick(config.bos_token, special.bos_token, "<|startoftext|>"),
            pick(config.eos_token, special.eos_token, "<|endoftext|>"),
            pick(config.pad_token, special.pad_token, "<|endoftext|>"),
        ];
        let (start, end, pad) = (id(&names[0])?, id(&names[1])?, id(&names[2])?);
        let unknown = pick(config.unk_token, special.unk_token, "<|endoftext|>");
        let length = config.model_max_length.filter(|length| *length < 1e6).map_or(positions, |length| length as usize);
        if length < 2 || length > positions {
            let reason = format!("model_max_length is {length}, and must be from 2 to {positions}");
            return Err(Error::Config { file: config_file, reason });
        }
        let bpe = BPE::builder()
            .vocab_and_merges(vocabulary.into_iter().collect::<Vocab>(), merges)
            .unk_token(unknown)
            .end_of_word_suffix("</w>".to_owned())
            .build()
            .map_err(broken)?;
        let mut tokenizer: Bpe = TokenizerImpl::new(bpe);
        let blanks = Replace::new(r"\s+", " ").map_err(broken)?;
        let normalizer = Sequence::new(vec![NFC.into(), blanks.into(), Lowercase.into()]);
        tokenizer.with_normalizer(Some(NormalizerWrapper::Sequence(normalizer))).map_err(broken)?;
        let words = Split::new(SplitPattern::Regex(WORDS.to_owned()), SplitDelimiterBehavior::Removed, true);
        tokenizer.with_pre_tokenizer(Some(PreTokenizerWrapper::Sequence(PreSequence::new(vec![
            words.map_err(broken)?.into(),
            ByteLevel::new(false, true, true).into(),
        ]))));
        // A prompt that spells out a special token means that token, as it does in transformers.
        tokenizer.add_special_tokens(names.map(|name| AddedToken::from(name, true))).map_err(broken)?;
        Ok(Self { bpe: tokenizer, start, end, pad, length })
    }

    /// The tokens of a prompt; what does not fit is cut off before the end token, and counted.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when the text cannot be cut into words.
    pub(crate) fn tokens(&self, prompt: &str) -> Result<Tokens> {
        let encoding = self.bpe.encode(prompt, false).map_err(broken)?;
        let words = encoding.get_ids();
        let fitting = words.len().min(self.room());
        let ids = self.framed(&words[..fitting]);
        Ok(Tokens { ids, used: fitting + 2, dropped: words.len() - fitting })
    }

    /// The tokens of a text as they are, however many.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when the text cannot be cut into words.
    pub(crate) fn words(&self, text: &str) -> Result<Vec<Word>> {
        let encoding = self.bpe.encode(text, false).map_err(broken)?;
        let words = encoding.get_ids().iter().zip(encoding.get_tokens());
        Ok(words.map(|(id, text)| Word { id: *id, text: text.clone() }).collect())
    }

    /// How many tokens the text encoder reads at once, without start and end.
    pub(crate) fn room(&self) -> usize {
        self.length - 2
    }

    /// Tokens between start and end, padded to the text encoder's length.
    pub(crate) fn framed(&self, words: &[u32]) -> Vec<u32> {
        let mut ids = Vec::with_capacity(self.length);
        ids.push(self.start);
        ids.extend(words);
        ids.push(self.end);
        ids.resize(self.length, self.pad);
        ids
    }
}

#[derive(Default, Deserialize)]
struct Config {
    bos_token: Option<Token>,
    eos_token: Option<Token>,
    pad_token: Option<Token>,
    unk_token: Option<Token>,
    // A float, because files without a limit write 1e30.
    model_max_length: Option<f64>,
}

#[derive(Default, Deserialize)]
struct Special {
    bos_token: Option<Token>,
    eos_token: Option<Token>,
    pad_token: Option<Token>,
    unk_token: Option<Token>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Token {
    Plain(String),
    Added { content: String },
}

fn pick(config: Option<Token>, special: Option<Token>, default: &str) -> String {
    match config.or(special) {
        Some(Token::Plain(text) | Token::Added { content: text }) => text,
        None => default.to_owned(),
    }
}

fn merges(files: &Files, file: &str) -> Result<Vec<(String, String)>> {
    let bytes = files.read(file)?;
    let config = |reason: String| Error::Config { file: file.to_owned(), reason };
    let text = std::str::from_utf8(&bytes).map_err(|error| config(error.to_string()))?;
    let lines = text.lines().filter(|line| !line.starts_with("#version") && !line.is_empty());
    lines
        .map(|line| match line.split_once(' ') {
            Some((left, right)) => Ok((left.to_owned(), right.to_owned())),
            None => Err(config(format!("the line {line:?} is not two parts"))),
        })
        .collect()
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err takes")]
fn broken(error: tokenizers::Error) -> Error {
    Error::Tokenizer(error.to_string())
}
