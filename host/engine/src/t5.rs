//! T5 as a text encoder: the whole of its last layer's normed states.
//!
//! Defined by transformers' `T5EncoderModel`; candle's own, which gives the same numbers. Padding is read like any word, as
//! image models were trained with.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Result as TensorResult, Shape, Tensor};
use candle_nn::var_builder::{SimpleBackend, VarBuilder};
use candle_transformers::models::t5::T5EncoderModel;

use crate::config::T5Config;
use crate::error::{Error, Result};
use crate::weights::Weights;

/// A T5 encoder.
pub(crate) struct T5 {
    encoder: T5EncoderModel,
    vocabulary: usize,
}

impl T5 {
    /// Loads the encoder.
    ///
    /// # Errors
    /// [`Error::Weights`] when a tensor is missing or has another shape.
    pub(crate) fn load(config: &T5Config, weights: &Weights) -> Result<Self> {
        let failed = Arc::new(Mutex::new(None));
        let source = Source { weights: weights.clone(), failed: Arc::clone(&failed) };
        let builder = VarBuilder::from_backend(Box::new(source), DType::F32, weights.device().clone());
        let encoder = T5EncoderModel::load(builder, config).map_err(|error| {
            // Ours says which tensor and what is wrong with it.
            failed.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_else(|| Error::from(error))
        })?;
        Ok(Self { encoder, vocabulary: config.vocab_size })
    }

    /// The states `[1, tokens, width]` of a text.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for a token that the table does not have; a tensor operation that failed.
    pub(crate) fn states(&self, ids: &[u32]) -> Result<Tensor> {
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.vocabulary) {
            let rows = self.vocabulary;
            return Err(Error::Tokenizer(format!("token {id} is beyond the {rows} that the text encoder knows")));
        }
        // Its signature is for generating, which keeps something between calls; an encoder keeps nothing, and copying it copies
        // no weights.
        let mut encoder = self.encoder.clone();
        let ids = Tensor::new(ids, encoder.device())?.unsqueeze(0)?;
        Ok(encoder.forward(&ids)?)
    }
}

/// Our weights, as candle's models ask for theirs.
struct Source {
    weights: Weights,
    /// Why one of them could not be had.
    failed: Arc<Mutex<Option<Error>>>,
}

impl Source {
    fn told(&self, result: Result<Tensor>) -> TensorResult<Tensor> {
        result.map_err(|error| {
            let message = error.to_string();
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            candle_core::Error::Msg(message)
        })
    }
}

impl SimpleBackend for Source {
    fn get(&self, shape: Shape, name: &str, _: candle_nn::Init, _: DType, _: &Device) -> TensorResult<Tensor> {
        self.told(self.weights.get(name, shape.dims()))
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> TensorResult<Tensor> {
        self.told(self.weights.get_any(name))
    }

    fn contains_tensor(&self, name: &str) -> bool {
        // Where the table of tokens has a name of its own in the encoder, it has no other.
        self.weights.has(name) || (name == SHARED && !self.weights.has("encoder.embed_tokens.weight"))
    }
}

/// The table of tokens, by its usual name.
const SHARED: &str = "shared.weight";
