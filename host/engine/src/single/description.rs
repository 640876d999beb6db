//! The JSON files that a model of a kind has in the diffusers layout: data in `kinds/`, one file for each kind.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::kind::{Base, Kind};

/// The files of each kind, by their names in the layout.
fn text(base: Base) -> &'static str {
    match base {
        Base::StableDiffusion1 => include_str!("../../kinds/stable-diffusion-1.json"),
        Base::StableDiffusion2 => include_str!("../../kinds/stable-diffusion-2.json"),
        Base::StableDiffusionXl => include_str!("../../kinds/stable-diffusion-xl.json"),
        Base::Flux1Dev => include_str!("../../kinds/flux-1-dev.json"),
        Base::Flux1Schnell => include_str!("../../kinds/flux-1-schnell.json"),
        Base::Flux2Klein => include_str!("../../kinds/flux-2-klein-4b.json"),
        Base::ZImage => include_str!("../../kinds/z-image-turbo.json"),
    }
}

/// The files that stand for what a single file does not hold.
pub(super) fn files(kind: &Kind) -> BTreeMap<String, Vec<u8>> {
    // A test holds that each of them parses.
    let mut files: BTreeMap<String, Value> = serde_json::from_str(text(kind.base)).unwrap_or_default();
    if let Some(unet) = files.get_mut("unet/config.json") {
        unet["in_channels"] = json!(kind.channels);
        if kind.base == Base::StableDiffusion2 && !kind.is_velocity {
            unet["sample_size"] = json!(64);
        }
    }
    if let Some(noise) =
        files.get_mut("scheduler/scheduler_config.json").filter(|noise| noise.get("beta_start").is_some())
    {
        noise["prediction_type"] = json!(if kind.is_velocity { "v_prediction" } else { "epsilon" });
        if kind.is_zero_terminal {
            noise["rescale_betas_zero_snr"] = json!(true);
            noise["timestep_spacing"] = json!("trailing");
        }
    }
    if let Some(index) = files.get_mut("model_index.json").filter(|_| kind.channels == 9) {
        let class = index["_class_name"].as_str().unwrap_or_default().replace("Pipeline", "InpaintPipeline");
        index["_class_name"] = json!(class);
    }
    files.into_iter().map(|(name, value)| (name, value.to_string().into_bytes())).collect()
}

#[cfg(test)]
mod tests {
    use super::{Base, text};

    #[test]
    fn every_description_parses_and_describes_each_component_of_its_kind() {
        for base in [
            Base::StableDiffusion1,
            Base::StableDiffusion2,
            Base::StableDiffusionXl,
            Base::Flux1Dev,
            Base::Flux1Schnell,
            Base::Flux2Klein,
            Base::ZImage,
        ] {
            let files: std::collections::BTreeMap<String, serde_json::Value> =
                serde_json::from_str(text(base)).unwrap();
            assert!(files["model_index.json"]["_class_name"].is_string(), "{}", base.name());
            assert!(files["scheduler/scheduler_config.json"]["_class_name"].is_string(), "{}", base.name());
            for (component, _) in base.components() {
                assert!(files[&format!("{component}/config.json")].is_object(), "{}: {component}", base.name());
            }
            for (tokenizer, _) in base.tokenizers() {
                assert!(
                    files.contains_key(&format!("{tokenizer}/tokenizer_config.json")),
                    "{}: {tokenizer}",
                    base.name()
                );
            }
        }
    }
}
