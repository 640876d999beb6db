//! Queries, keys and values with a norm on every head and places by rotation, as the newer transformers have them; and the
//! attention of two streams, text and picture, to both of them.

use candle_core::{Result as TensorResult, Tensor};

use super::attention::multi_head;
use super::linear::Linear;
use super::norm::RmsNorm;
use super::rope::Rope;
use crate::checkpoint::Weights;
use crate::error::Result;

/// How a linear layer is loaded: with a bias, or without.
pub(crate) type LoadLinear = fn(&Weights, usize, usize) -> Result<Linear>;

/// The heads of an attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Heads {
    /// Heads of the queries.
    pub(crate) queries: usize,
    /// Heads of the keys and values, which may serve several of the queries each.
    pub(crate) keys: usize,
    /// Channels of a head.
    pub(crate) width: usize,
    /// Epsilon of the heads' norms.
    pub(crate) epsilon: f64,
}

/// What makes queries, keys and values of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Projections {
    query: Linear,
    key: Linear,
    value: Linear,
    norm_query: RmsNorm,
    norm_key: RmsNorm,
    heads: Heads,
}

impl Projections {
    /// Loads them. `names` are of the query's, key's and value's layers and of the query's and key's norms.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] when a tensor is missing or has another shape.
    pub(crate) fn load(
        weights: &Weights,
        names: [&str; 5],
        input: usize,
        heads: Heads,
        linear: LoadLinear,
    ) -> Result<Self> {
        let [query, key, value, norm_query, norm_key] = names;
        let width = heads.width;
        let linears = [
            linear(&weights.at(query), input, heads.queries * width)?,
            linear(&weights.at(key), input, heads.keys * width)?,
            linear(&weights.at(value), input, heads.keys * width)?,
        ];
        Self::new(linears, weights, [norm_query, norm_key], heads)
    }

    /// Takes the layers of queries, keys and values and loads the norms of the first two.
    ///
    /// # Errors
    /// As [`Projections::load`].
    pub(crate) fn new(linears: [Linear; 3], weights: &Weights, norms: [&str; 2], heads: Heads) -> Result<Self> {
        let [query, key, value] = linears;
        let [norm_query, norm_key] = norms.map(|name| RmsNorm::load(&weights.at(name), heads.width, heads.epsilon));
        Ok(Self { query, key, value, norm_query: norm_query?, norm_key: norm_key?, heads })
    }

    /// Queries, keys and values of `x`, the first two normed and not yet turned.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn forward(&self, x: &Tensor) -> TensorResult<[Tensor; 3]> {
        let query = self.norm_query.forward(&self.query.forward(x)?)?;
        let key = self.norm_key.forward(&self.key.forward(x)?)?;
        Ok([query, key, self.value.forward(x)?])
    }

    /// Attention of a stream to itself.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn attend(&self, x: &Tensor, rope: &Rope, mask: Option<&Tensor>) -> TensorResult<Tensor> {
        let [query, key, value] = self.forward(x)?;
        let (query, key) = (rope.turn(query)?, rope.turn(key)?);
        let (key, value) = (self.repeat(&key)?, self.repeat(&value)?);
        multi_head(&query, &key, &value, self.heads.queries, mask)
    }

    /// Gives every head of the queries its own copy of the keys that it shares.
    fn repeat(&self, x: &Tensor) -> TensorResult<Tensor> {
        let Heads { queries, keys, width, .. } = self.heads;
        if queries == keys {
            return Ok(x.clone());
        }
        let (batch, tokens, _) = x.dims3()?;
        let shared = x.reshape((batch, tokens, keys, 1, width))?;
        shared.broadcast_as((batch, tokens, keys, queries / keys, width))?.reshape((batch, tokens, queries * width))
    }
}

/// The attention of text and picture to both of them, text first.
#[derive(Clone, Debug)]
pub(crate) struct JointAttention {
    picture: Projections,
    text: Projections,
    out_picture: Linear,
    out_text: Linear,
}

impl JointAttention {
    /// Loads it, with the names that diffusers gives its parts.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] when a tensor is missing or has another shape.
    pub(crate) fn load(weights: &Weights, heads: Heads, linear: LoadLinear) -> Result<Self> {
        let width = heads.queries * heads.width;
        let picture = ["to_q", "to_k", "to_v", "norm_q", "norm_k"];
        let text = ["add_q_proj", "add_k_proj", "add_v_proj", "norm_added_q", "norm_added_k"];
        Ok(Self {
            picture: Projections::load(weights, picture, width, heads, linear)?,
            text: Projections::load(weights, text, width, heads, linear)?,
            out_picture: linear(&weights.at("to_out.0"), width, width)?,
            out_text: linear(&weights.at("to_add_out"), width, width)?,
        })
    }

    /// What picture and text get, each `[1, tokens, width]`. The places are of text and picture together.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn forward(&self, picture: &Tensor, text: &Tensor, rope: &Rope) -> TensorResult<(Tensor, Tensor)> {
        let [picture_query, picture_key, picture_value] = self.picture.forward(picture)?;
        let [text_query, text_key, text_value] = self.text.forward(text)?;
        let query = rope.turn(Tensor::cat(&[text_query, picture_query], 1)?)?;
        let key = rope.turn(Tensor::cat(&[text_key, picture_key], 1)?)?;
        let value = Tensor::cat(&[text_value, picture_value], 1)?;
        let attended = multi_head(&query, &key, &value, self.picture.heads.queries, None)?;
        let (words, pixels) = (text.dim(1)?, picture.dim(1)?);
        let for_text = self.out_text.forward(&attended.narrow(1, 0, words)?.contiguous()?)?;
        let for_picture = self.out_picture.forward(&attended.narrow(1, words, pixels)?.contiguous()?)?;
        Ok((for_picture, for_text))
    }
}
