//! CLIP's text encoder as OpenCLIP names it: the attention's three matrices in one, and the projection turned.

use super::{Name, Turn, numbered, renamed};

/// Parts that lie outside of the layers.
const OUTSIDE: &[(&str, &str)] = &[
    ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
    ("token_embedding", "text_model.embeddings.token_embedding"),
    ("ln_final", "text_model.final_layer_norm"),
];

/// Parts of a layer.
const LAYER: &[(&str, &str)] = &[
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
    ("attn.out_proj", "self_attn.out_proj"),
];

pub(super) fn names(key: &str) -> Vec<Name> {
    if key == "text_projection" {
        return vec![Name::turned("text_projection.weight".to_owned(), Turn::Transpose)];
    }
    if let Some(name) = renamed(key, OUTSIDE) {
        return vec![Name::plain(name)];
    }
    let Some((layer, rest)) = key.strip_prefix("transformer.resblocks.").and_then(numbered) else { return Vec::new() };
    let layer = format!("text_model.encoder.layers.{layer}");
    match rest.strip_prefix("attn.in_proj_") {
        Some(kind) => {
            Name::split(&["q_proj", "k_proj", "v_proj"].map(|name| format!("{layer}.self_attn.{name}.{kind}")))
        }
        None => renamed(rest, LAYER).map(|rest| Name::plain(format!("{layer}.{rest}"))).into_iter().collect(),
    }
}
