//! FLUX.1's transformer as its makers name it: query, key and value in one matrix, with the wide layer of a single block
//! behind them, and the last modulation's shift before its scale.

use super::{Name, Turn, fused, numbered, renamed};

const OUTSIDE: &[(&str, &str)] = &[
    ("img_in", "x_embedder"),
    ("txt_in", "context_embedder"),
    ("time_in.in_layer", "time_text_embed.timestep_embedder.linear_1"),
    ("time_in.out_layer", "time_text_embed.timestep_embedder.linear_2"),
    ("vector_in.in_layer", "time_text_embed.text_embedder.linear_1"),
    ("vector_in.out_layer", "time_text_embed.text_embedder.linear_2"),
    ("guidance_in.in_layer", "time_text_embed.guidance_embedder.linear_1"),
    ("guidance_in.out_layer", "time_text_embed.guidance_embedder.linear_2"),
    ("final_layer.linear", "proj_out"),
];

const DOUBLE: &[(&str, &str)] = &[
    ("img_mod.lin", "norm1.linear"),
    ("txt_mod.lin", "norm1_context.linear"),
    ("img_attn.norm.query_norm.scale", "attn.norm_q.weight"),
    ("img_attn.norm.key_norm.scale", "attn.norm_k.weight"),
    ("txt_attn.norm.query_norm.scale", "attn.norm_added_q.weight"),
    ("txt_attn.norm.key_norm.scale", "attn.norm_added_k.weight"),
    ("img_attn.proj", "attn.to_out.0"),
    ("txt_attn.proj", "attn.to_add_out"),
    ("img_mlp.0", "ff.net.0.proj"),
    ("img_mlp.2", "ff.net.2"),
    ("txt_mlp.0", "ff_context.net.0.proj"),
    ("txt_mlp.2", "ff_context.net.2"),
];

const SINGLE: &[(&str, &str)] = &[
    ("modulation.lin", "norm.linear"),
    ("linear2", "proj_out"),
    ("norm.query_norm.scale", "attn.norm_q.weight"),
    ("norm.key_norm.scale", "attn.norm_k.weight"),
];

pub(super) fn names(key: &str) -> Vec<Name> {
    if let Some(name) = renamed(key, OUTSIDE) {
        return vec![Name::plain(name)];
    }
    if let Some(kind) = key.strip_prefix("final_layer.adaLN_modulation.1.") {
        return vec![Name::turned(format!("norm_out.linear.{kind}"), Turn::SwapHalves)];
    }
    if let Some((block, rest)) = key.strip_prefix("double_blocks.").and_then(numbered) {
        let block = format!("transformer_blocks.{block}");
        return fused(&block, rest).unwrap_or_else(|| {
            renamed(rest, DOUBLE).map(|rest| Name::plain(format!("{block}.{rest}"))).into_iter().collect()
        });
    }
    let Some((block, rest)) = key.strip_prefix("single_blocks.").and_then(numbered) else { return Vec::new() };
    let block = format!("single_transformer_blocks.{block}");
    match rest.strip_prefix("linear1.") {
        // The wide layer is four times as wide as the states.
        Some(kind) => vec![
            Name::rows(format!("{block}.attn.to_q.{kind}"), 0, 1, 7),
            Name::rows(format!("{block}.attn.to_k.{kind}"), 1, 1, 7),
            Name::rows(format!("{block}.attn.to_v.{kind}"), 2, 1, 7),
            Name::rows(format!("{block}.proj_mlp.{kind}"), 3, 4, 7),
        ],
        None => renamed(rest, SINGLE).map(|rest| Name::plain(format!("{block}.{rest}"))).into_iter().collect(),
    }
}
