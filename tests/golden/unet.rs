//! The denoising network against diffusers', block by block.

use easel_engine::latent::{LatentDiffusion, Told};
use easel_engine::trace::Recorder;

use super::{BLOCK, Golden, MODELS, model, settings};

#[test]
fn every_block_of_the_denoising_network_gives_what_diffusers_gives() {
    for name in MODELS {
        let golden = Golden::read(&format!("{name}.safetensors"));
        // The first call of the DDIM run: the same noise in both rows.
        let mut latents = golden.values("noise");
        latents.dims[0] = 2;
        latents.values.extend_from_within(..);
        let timestep = settings(name)["samplers"]["ddim"]["timesteps"][0].as_f64().unwrap();
        let recorder = Recorder::default();
        let told = told_traced(name, &model(name), &recorder);
        model(name).predict(&latents, timestep, &told, &recorder).unwrap();
        let (error, key) = golden.worst(&["unet."], &recorder.into_values());
        assert!(error <= BLOCK, "{name}: {key} is off by {error:e}");
        println!("{name}: unet {error:.1e} at {key}");
    }
}

#[test]
fn timesteps_are_embedded_as_diffusers_does_fractions_included() {
    for name in MODELS {
        let golden = Golden::read(&format!("{name}.safetensors"));
        let recorder = Recorder::default();
        let embedded = model(name).times(golden.flat("unet.times"), &recorder).unwrap();
        let waves = golden.error("unet.times.proj", &recorder.into_values()["unet.times.proj"]);
        let error = golden.error("unet.times.embedding", &embedded);
        assert!(waves <= BLOCK && error <= BLOCK, "{name}: {waves:e}, {error:e}");
    }
}

#[test]
fn sides_that_do_not_halve_are_restored_on_the_way_up() {
    for name in MODELS {
        let golden = Golden::read(&format!("{name}.safetensors"));
        let told = told(name, &model(name));
        let got = model(name).predict(&golden.values("unet.odd.sample"), 500.0, &told, &Recorder::default()).unwrap();
        let error = golden.error("unet.odd.output", &got);
        assert!(error <= BLOCK, "{name}: {error:e}");
    }
}

/// What the network is told of both prompts.
pub(crate) fn told(name: &str, model: &LatentDiffusion) -> Told {
    told_traced(name, model, &Recorder::default())
}

/// [`told`], recorded.
pub(crate) fn told_traced(name: &str, model: &LatentDiffusion, recorder: &Recorder) -> Told {
    let run = settings(name);
    let side = |key: &str| run[key].as_u64().unwrap() as u32;
    model.read(&prompts(name), 0, (side("width"), side("height")), recorder).unwrap()
}

/// Negative prompt first, as guidance stacks them.
pub(crate) fn prompts(name: &str) -> [&'static str; 2] {
    let run = settings(name);
    let text = |key: &str| run[key].as_str().unwrap().to_owned().leak() as &'static str;
    [text("negative_prompt"), text("prompt")]
}
