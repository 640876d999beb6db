//! Language models as GGUF files name them: T5's encoder and the Qwen kind.

use super::{numbered, renamed};

const QWEN: &[(&str, &str)] = &[
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

const T5: &[(&str, &str)] = &[
    ("attn_norm", "layer.0.layer_norm"),
    ("attn_q", "layer.0.SelfAttention.q"),
    ("attn_k", "layer.0.SelfAttention.k"),
    ("attn_v", "layer.0.SelfAttention.v"),
    ("attn_o", "layer.0.SelfAttention.o"),
    ("attn_rel_b", "layer.0.SelfAttention.relative_attention_bias"),
    ("ffn_norm", "layer.1.layer_norm"),
    ("ffn_gate", "layer.1.DenseReluDense.wi_0"),
    ("ffn_up", "layer.1.DenseReluDense.wi_1"),
    ("ffn_down", "layer.1.DenseReluDense.wo"),
];

pub(super) fn names(key: &str) -> Vec<super::Name> {
    // Both kinds keep their token table under one key; a network asks for it by its own name.
    let names = match key {
        "token_embd.weight" => vec!["model.embed_tokens.weight".to_owned(), "shared.weight".to_owned()],
        "output_norm.weight" => vec!["model.norm.weight".to_owned()],
        "enc.output_norm.weight" => vec!["encoder.final_layer_norm.weight".to_owned()],
        _ => layer(key).into_iter().collect(),
    };
    names.into_iter().map(super::Name::plain).collect()
}

fn layer(key: &str) -> Option<String> {
    if let Some((layer, rest)) = key.strip_prefix("enc.blk.").and_then(numbered) {
        return Some(format!("encoder.block.{layer}.{}", renamed(rest, T5)?));
    }
    let (layer, rest) = key.strip_prefix("blk.").and_then(numbered)?;
    Some(format!("model.layers.{layer}.{}", renamed(rest, QWEN)?))
}
