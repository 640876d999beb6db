//! FLUX.2's transformer as its makers name it. Its single blocks stay fused; the last modulation's halves are swapped.

use super::{Name, Turn, fused, numbered, renamed};

const OUTSIDE: &[(&str, &str)] = &[
    ("img_in", "x_embedder"),
    ("txt_in", "context_embedder"),
    ("time_in.in_layer", "time_guidance_embed.timestep_embedder.linear_1"),
    ("time_in.out_layer", "time_guidance_embed.timestep_embedder.linear_2"),
    ("guidance_in.in_layer", "time_guidance_embed.guidance_embedder.linear_1"),
    ("guidance_in.out_layer", "time_guidance_embed.guidance_embedder.linear_2"),
    ("double_stream_modulation_img.lin", "double_stream_modulation_img.linear"),
    ("double_stream_modulation_txt.lin", "double_stream_modulation_txt.linear"),
    ("single_stream_modulation.lin", "single_stream_modulation.linear"),
    ("final_layer.linear", "proj_out"),
];

const DOUBLE: &[(&str, &str)] = &[
    ("img_attn.norm.query_norm.scale", "attn.norm_q.weight"),
    ("img_attn.norm.key_norm.scale", "attn.norm_k.weight"),
    ("txt_attn.norm.query_norm.scale", "attn.norm_added_q.weight"),
    ("txt_attn.norm.key_norm.scale", "attn.norm_added_k.weight"),
    ("img_attn.proj", "attn.to_out.0"),
    ("txt_attn.proj", "attn.to_add_out"),
    ("img_mlp.0", "ff.linear_in"),
    ("img_mlp.2", "ff.linear_out"),
    ("txt_mlp.0", "ff_context.linear_in"),
    ("txt_mlp.2", "ff_context.linear_out"),
];

const SINGLE: &[(&str, &str)] = &[
    ("linear1", "attn.to_qkv_mlp_proj"),
    ("linear2", "attn.to_out"),
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
    let name = renamed(rest, SINGLE).map(|rest| format!("single_transformer_blocks.{block}.{rest}"));
    name.map(Name::plain).into_iter().collect()
}
