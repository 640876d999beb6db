//! The autoencoder as Stable Diffusion's and FLUX's own files name it: levels going up are counted from the finest, and the
//! attention's linear layers are 1×1 convolutions.

use super::{Name, Turn, numbered, renamed};

/// What of the counting depends on the network.
pub(super) struct LdmVae {
    /// Levels of the decoder.
    levels: usize,
}

/// Parts that have other names at either half.
const HALF: &[(&str, &str)] = &[
    ("mid.block_1", "mid_block.resnets.0"),
    ("mid.block_2", "mid_block.resnets.1"),
    ("norm_out", "conv_norm_out"),
    ("conv_in", "conv_in"),
    ("conv_out", "conv_out"),
];

/// Parts of the attention.
const ATTENTION: &[(&str, &str)] =
    &[("norm", "group_norm"), ("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0")];

impl LdmVae {
    pub(super) fn of(keys: &[&str]) -> Self {
        let level = |key: &&str| key.strip_prefix("decoder.up.").and_then(numbered).map(|(level, _)| level);
        Self { levels: keys.iter().filter_map(level).max().map_or(0, |last| last + 1) }
    }

    pub(super) fn name(&self, key: &str) -> Option<Name> {
        let Some((half, rest)) = key.split_once('.').filter(|(half, _)| matches!(*half, "encoder" | "decoder")) else {
            // 1×1 convolutions between the halves, and the norm of FLUX.2.
            return Some(Name::plain(key.to_owned()));
        };
        if rest.starts_with("quant_conv") || rest.starts_with("post_quant_conv") {
            return Some(Name::plain(rest.to_owned()));
        }
        if let Some(rest) = rest.strip_prefix("mid.attn_1.") {
            let name = format!("{half}.mid_block.attentions.0.{}", renamed(rest, ATTENTION)?);
            return Some(match rest.starts_with("norm") {
                true => Name::plain(name),
                false => Name::turned(name, Turn::Squeeze),
            });
        }
        if let Some(name) = renamed(rest, HALF) {
            return Some(Name::plain(residual(&format!("{half}.{name}"))));
        }
        let (way, rest) = rest.split_once('.')?;
        let (level, rest) = numbered(rest)?;
        let (level, resize) = match way {
            "down" => (level, "downsample"),
            "up" => (self.levels.checked_sub(level + 1)?, "upsample"),
            _ => return None,
        };
        let rest = match rest.strip_prefix("block.") {
            Some(rest) => format!("resnets.{rest}"),
            None => format!("{resize}rs.0{}", rest.strip_prefix(resize)?),
        };
        Some(Name::plain(residual(&format!("{half}.{way}_blocks.{level}.{rest}"))))
    }
}

fn residual(name: &str) -> String {
    name.replace(".nin_shortcut.", ".conv_shortcut.")
}
