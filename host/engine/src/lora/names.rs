//! Which parameter of a model a key of a LoRA file belongs to.
//!
//! The keys of trainers run parts together with underscores, so they cannot be taken apart again. Instead every parameter of
//! the model is written in all the ways that are known, and a key is looked up among them: diffusers' and PEFT's dotted names,
//! kohya's with underscores, and both again with the names that the makers of a network give its parts.

use std::collections::HashMap;

use super::makers;
use crate::weights::Parameters;
use crate::weights::layout::{Rows, Turn};

/// A parameter, or a part of it, to which something is added.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    /// Component and name, without the level `text_model` that some files have.
    pub(super) parameter: String,
    /// The part of the addition's rows that belongs to it.
    pub(super) rows: Option<Rows>,
    /// What is done to the addition.
    pub(super) turns: Vec<Turn>,
}

/// The modules of a model, by all the names that they have in LoRA files.
pub(super) struct Names {
    modules: HashMap<String, Vec<Target>>,
}

impl Names {
    /// Writes down the names of a model's modules.
    pub(super) fn of(parameters: &Parameters) -> Self {
        let mut names = Self { modules: HashMap::new() };
        let weights = parameters.iter().filter(|(_, shape)| shape.len() >= 2);
        let modules: Vec<(&str, &str)> =
            weights.filter_map(|(name, _)| name.strip_suffix(".weight")?.split_once('.')).collect();
        let depth = makers::residuals_per_level(&modules);
        for (component, path) in &modules {
            let path = path.strip_prefix("text_model.").unwrap_or(path);
            let target = Target { parameter: format!("{component}.{path}.weight"), rows: None, turns: Vec::new() };
            match *component {
                "unet" => {
                    names.add("unet", &["lora_unet"], path, &target);
                    for path in makers::ldm(path, depth) {
                        names.add("diffusion_model", &["lora_unet"], &path, &target);
                    }
                }
                "transformer" => names.add("transformer", &["lora_transformer", "lora_unet"], path, &target),
                "text_encoder" => names.add_text("text_encoder", &["lora_te", "lora_te1"], path, &target),
                "text_encoder_2" => names.add_text("text_encoder_2", &["lora_te2"], path, &target),
                _ => {}
            }
        }
        for (path, target) in makers::fused(parameters) {
            names.add("diffusion_model", &["lora_unet", "lora_transformer"], &path, &target);
        }
        names
    }

    /// What a module of a file belongs to.
    pub(super) fn find(&self, module: &str) -> Option<&[Target]> {
        self.modules.get(module).map(Vec::as_slice)
    }

    fn add_text(&mut self, dotted: &str, flat: &[&str], path: &str, target: &Target) {
        self.add(dotted, flat, path, target);
        self.add(dotted, flat, &format!("text_model.{path}"), target);
    }

    fn add(&mut self, dotted: &str, flat: &[&str], path: &str, target: &Target) {
        let mut add = |name: String| {
            let targets = self.modules.entry(name).or_default();
            if !targets.contains(target) {
                targets.push(target.clone());
            }
        };
        add(format!("{dotted}.{path}"));
        let underscored = path.replace('.', "_");
        flat.iter().for_each(|prefix| add(format!("{prefix}_{underscored}")));
    }
}

#[cfg(test)]
mod tests {
    use super::Names;
    use crate::weights::Parameters;

    fn names(parameters: &[&str]) -> Names {
        Names::of(&parameters.iter().map(|name| ((*name).to_owned(), vec![4, 4])).collect::<Parameters>())
    }

    #[test]
    fn one_module_is_found_by_every_name_it_has() {
        let names = names(&[
            "unet.down_blocks.0.resnets.0.conv1.weight",
            "unet.down_blocks.0.resnets.1.conv1.weight",
            "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight",
            "unet.down_blocks.1.downsamplers.0.conv.weight",
            "unet.up_blocks.1.attentions.2.proj_in.weight",
            "unet.up_blocks.1.upsamplers.0.conv.weight",
            "text_encoder.encoder.layers.0.mlp.fc1.weight",
            "text_encoder_2.text_model.encoder.layers.0.mlp.fc1.weight",
        ]);
        for (module, parameter) in [
            (
                "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
                "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight",
            ),
            (
                "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q",
                "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight",
            ),
            (
                "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q",
                "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight",
            ),
            (
                "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q",
                "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight",
            ),
            ("lora_unet_input_blocks_2_0_in_layers_2", "unet.down_blocks.0.resnets.1.conv1.weight"),
            ("lora_unet_input_blocks_6_0_op", "unet.down_blocks.1.downsamplers.0.conv.weight"),
            ("lora_unet_output_blocks_5_1_proj_in", "unet.up_blocks.1.attentions.2.proj_in.weight"),
            ("lora_unet_output_blocks_5_2_conv", "unet.up_blocks.1.upsamplers.0.conv.weight"),
            ("lora_te1_text_model_encoder_layers_0_mlp_fc1", "text_encoder.encoder.layers.0.mlp.fc1.weight"),
            ("text_encoder.text_model.encoder.layers.0.mlp.fc1", "text_encoder.encoder.layers.0.mlp.fc1.weight"),
            ("lora_te2_text_model_encoder_layers_0_mlp_fc1", "text_encoder_2.encoder.layers.0.mlp.fc1.weight"),
        ] {
            let targets = names.find(module).unwrap_or_else(|| panic!("{module} is not found"));
            assert_eq!(
                targets.iter().map(|target| target.parameter.as_str()).collect::<Vec<_>>(),
                [parameter],
                "{module}"
            );
        }
        assert!(names.find("lora_unet_input_blocks_9_1_proj_in").is_none());
    }

    #[test]
    fn what_a_maker_fuses_belongs_to_several_parameters_each_with_its_rows() {
        let names = names(&[
            "transformer.transformer_blocks.0.attn.to_q.weight",
            "transformer.transformer_blocks.0.attn.to_k.weight",
            "transformer.transformer_blocks.0.attn.to_v.weight",
        ]);
        for module in ["diffusion_model.double_blocks.0.img_attn.qkv", "lora_unet_double_blocks_0_img_attn_qkv"] {
            let targets = names.find(module).unwrap_or_else(|| panic!("{module} is not found"));
            let rows: Vec<_> = targets.iter().map(|target| target.rows.as_ref().unwrap().of(12).unwrap()).collect();
            assert_eq!(rows, [(0, 4), (4, 4), (8, 4)], "{module}");
        }
    }
}
