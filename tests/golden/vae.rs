//! The autoencoder against diffusers', both halves, block by block.

use easel_engine::trace::Recorder;

use super::{BLOCK, Golden, MODELS, model};

#[test]
fn every_block_of_the_decoder_gives_what_diffusers_gives() {
    for name in MODELS {
        let golden = Golden::read(&format!("{name}.safetensors"));
        let recorder = Recorder::default();
        let picture = model(name).decode(&golden.values("vae.decode.input"), &recorder).unwrap();
        let (error, key) = golden.worst(&["vae.post_quant_conv", "vae.decoder"], &recorder.into_values());
        assert!(error <= BLOCK, "{name}: {key} is off by {error:e}");
        println!("{name}: decoder {error:.1e} at {key}");
        if golden.has("vae.decode.output") {
            let error = golden.error("vae.decode.output", &picture);
            assert!(error <= BLOCK, "{name}: picture {error:e}");
        }
    }
}

#[test]
fn every_block_of_the_encoder_gives_what_diffusers_gives() {
    for name in MODELS {
        let golden = Golden::read(&format!("{name}.safetensors"));
        let recorder = Recorder::default();
        let (mean, log_variance) = model(name).encode_picture(&golden.values("vae.encode.input"), &recorder).unwrap();
        let (error, key) = golden.worst(&["vae.quant_conv", "vae.encoder"], &recorder.into_values());
        assert!(error <= BLOCK, "{name}: {key} is off by {error:e}");
        println!("{name}: encoder {error:.1e} at {key}");
        let errors = [golden.error("vae.encode.mean", &mean), golden.error("vae.encode.logvar", &log_variance)];
        assert!(errors.iter().all(|error| *error <= BLOCK), "{name}: {errors:?}");
    }
}
