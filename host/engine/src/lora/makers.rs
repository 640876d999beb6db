//! The names that the makers of networks give their parts, for parameters that we know by diffusers' names.
//!
//! Names of Stable Diffusion's own checkpoints are worked out from ours. Those of FLUX fuse what we keep apart, so they are
//! listed, and the layouts of checkpoints (`weights/layout/`) say what lies in each.

use super::names::Target;
use crate::weights::Parameters;
use crate::weights::layout::{self, Maker};

/// Residual parts per level of a denoising network: how many going down.
pub(super) fn residuals_per_level(modules: &[(&str, &str)]) -> usize {
    let numbers = modules.iter().filter(|(component, _)| *component == "unet").filter_map(|(_, path)| {
        let rest = path.strip_prefix("down_blocks.0.resnets.")?;
        rest.split('.').next()?.parse::<usize>().ok()
    });
    numbers.max().map_or(0, |last| last + 1)
}

/// The names that a module of a denoising network may have in Stable Diffusion's own checkpoints, where each level has so many
/// residual parts going down. What enlarges a level stands behind an attention, where the level has one; it has both places
/// here, of which only one can be meant.
pub(super) fn ldm(path: &str, depth: usize) -> Vec<String> {
    match path.strip_suffix(".upsamplers.0.conv").and_then(|path| path.strip_prefix("up_blocks.")?.parse().ok()) {
        Some(level) => {
            let level: usize = level;
            let block = (level + 1) * (depth + 1) - 1;
            [1, 2].map(|place| format!("output_blocks.{block}.{place}.conv")).to_vec()
        }
        None => one(path, depth).into_iter().collect(),
    }
}

fn one(path: &str, depth: usize) -> Option<String> {
    const OUTSIDE: &[(&str, &str)] = &[
        ("time_embedding.linear_1", "time_embed.0"),
        ("time_embedding.linear_2", "time_embed.2"),
        ("add_embedding.linear_1", "label_emb.0.0"),
        ("add_embedding.linear_2", "label_emb.0.2"),
        ("conv_in", "input_blocks.0.0"),
        ("conv_out", "out.2"),
    ];
    if let Some((_, theirs)) = OUTSIDE.iter().find(|(ours, _)| *ours == path) {
        return Some((*theirs).to_owned());
    }
    let mut parts = path.splitn(5, '.');
    let mut next = || parts.next();
    let way = next()?;
    if way == "mid_block" {
        let (part, index) = (next()?, next()?.parse::<usize>().ok()?);
        let rest: Vec<&str> = parts.collect();
        let rest = rest.join(".");
        return match part {
            "resnets" => Some(format!("middle_block.{}.{}", 2 * index, residual(&rest)?)),
            "attentions" => Some(format!("middle_block.1.{rest}")),
            _ => None,
        };
    }
    let (level, part, index) = (next()?.parse::<usize>().ok()?, next()?, next()?.parse::<usize>().ok()?);
    let rest = parts.next()?;
    let whole = depth + 1;
    match (way, part) {
        ("down_blocks", "resnets") => Some(format!("input_blocks.{}.0.{}", 1 + level * whole + index, residual(rest)?)),
        ("down_blocks", "attentions") => Some(format!("input_blocks.{}.1.{rest}", 1 + level * whole + index)),
        ("down_blocks", "downsamplers") => Some(format!("input_blocks.{}.0.op", (level + 1) * whole)),
        ("up_blocks", "resnets") => Some(format!("output_blocks.{}.0.{}", level * whole + index, residual(rest)?)),
        ("up_blocks", "attentions") => Some(format!("output_blocks.{}.1.{rest}", level * whole + index)),
        _ => None,
    }
}

fn residual(part: &str) -> Option<&'static str> {
    Some(match part {
        "conv1" => "in_layers.2",
        "conv2" => "out_layers.3",
        "time_emb_proj" => "emb_layers.1",
        "conv_shortcut" => "skip_connection",
        _ => return None,
    })
}

/// Modules of FLUX as its makers name them, each with a parameter that lies in it.
pub(super) fn fused(parameters: &Parameters) -> Vec<(String, Target)> {
    const OUTSIDE: &[&str] = &[
        "img_in",
        "txt_in",
        "time_in.in_layer",
        "time_in.out_layer",
        "vector_in.in_layer",
        "vector_in.out_layer",
        "guidance_in.in_layer",
        "guidance_in.out_layer",
        "double_stream_modulation_img.lin",
        "double_stream_modulation_txt.lin",
        "single_stream_modulation.lin",
        "final_layer.linear",
        "final_layer.adaLN_modulation.1",
    ];
    const DOUBLE: &[&str] = &["attn.qkv", "attn.proj", "mlp.0", "mlp.2", "mod.lin"];
    const SINGLE: &[&str] = &["linear1", "linear2", "modulation.lin"];
    let blocks = |stem: &str| {
        let numbers = parameters.keys().filter_map(|name| {
            name.strip_prefix("transformer.")?.strip_prefix(stem)?.split('.').next()?.parse::<usize>().ok()
        });
        numbers.max().map_or(0, |last| last + 1)
    };
    let (double, single) = (blocks("transformer_blocks."), blocks("single_transformer_blocks."));
    let mut theirs: Vec<String> = OUTSIDE.iter().map(|name| (*name).to_owned()).collect();
    for block in 0..double {
        for side in ["img", "txt"] {
            theirs.extend(DOUBLE.iter().map(|part| format!("double_blocks.{block}.{side}_{part}")));
        }
    }
    for block in 0..single {
        theirs.extend(SINGLE.iter().map(|part| format!("single_blocks.{block}.{part}")));
    }
    let maker = match parameters.contains_key("transformer.single_stream_modulation.linear.weight") {
        true => Maker::Flux2,
        false => Maker::Flux,
    };
    let mut found = Vec::new();
    for module in theirs {
        for name in layout::names(maker, &format!("{module}.weight")) {
            let parameter = format!("transformer.{}", name.name);
            if parameters.contains_key(&parameter) {
                found.push((module.clone(), Target { parameter, rows: name.rows, turns: name.turns }));
            }
        }
    }
    found
}
