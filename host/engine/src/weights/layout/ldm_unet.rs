//! The denoising network as Stable Diffusion's own files name it: blocks counted through, without levels.

use super::{numbered, renamed};

/// What of the counting depends on the network.
pub(super) struct LdmUnet {
    /// Residual parts of a level, going down.
    layers: usize,
}

/// Parts that lie outside of the blocks.
const OUTSIDE: &[(&str, &str)] = &[
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
    ("label_emb.0.0", "add_embedding.linear_1"),
    ("label_emb.0.2", "add_embedding.linear_2"),
    ("input_blocks.0.0", "conv_in"),
    ("out.0", "conv_norm_out"),
    ("out.2", "conv_out"),
];

/// Parts of a residual part.
const RESIDUAL: &[(&str, &str)] = &[
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "time_emb_proj"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
    ("skip_connection", "conv_shortcut"),
];

impl LdmUnet {
    pub(super) fn of(keys: &[&str]) -> Self {
        // A level ends with the block that halves; one that never halves is a single level.
        let block = |key: &str| key.strip_prefix("input_blocks.").and_then(numbered).map(|(block, _)| block);
        let halves = keys.iter().filter(|key| key.ends_with(".0.op.weight")).filter_map(|key| block(key)).min();
        let last = keys.iter().filter_map(|key| block(key)).max().unwrap_or(0);
        Self { layers: halves.map_or(last, |block| block.saturating_sub(1)).max(1) }
    }

    pub(super) fn name(&self, key: &str) -> Option<String> {
        if let Some(name) = renamed(key, OUTSIDE) {
            return Some(name);
        }
        let each = self.layers + 1;
        if let Some((block, rest)) = key.strip_prefix("input_blocks.").and_then(numbered) {
            let block = block.checked_sub(1)?;
            let (level, layer) = (block / each, block % each);
            let (part, rest) = numbered(rest)?;
            return match (part, rest.strip_prefix("op.")) {
                (0, Some(rest)) => Some(format!("down_blocks.{level}.downsamplers.0.conv.{rest}")),
                (0, None) => Some(format!("down_blocks.{level}.resnets.{layer}.{}", renamed(rest, RESIDUAL)?)),
                _ => Some(format!("down_blocks.{level}.attentions.{layer}.{rest}")),
            };
        }
        if let Some((part, rest)) = key.strip_prefix("middle_block.").and_then(numbered) {
            return match part {
                1 => Some(format!("mid_block.attentions.0.{rest}")),
                _ => Some(format!("mid_block.resnets.{}.{}", part / 2, renamed(rest, RESIDUAL)?)),
            };
        }
        let (block, rest) = key.strip_prefix("output_blocks.").and_then(numbered)?;
        let (level, layer) = (block / each, block % each);
        let (part, rest) = numbered(rest)?;
        match (part, rest.strip_prefix("conv.")) {
            (0, _) => Some(format!("up_blocks.{level}.resnets.{layer}.{}", renamed(rest, RESIDUAL)?)),
            (_, Some(rest)) => Some(format!("up_blocks.{level}.upsamplers.0.conv.{rest}")),
            (_, None) => Some(format!("up_blocks.{level}.attentions.{layer}.{rest}")),
        }
    }
}
