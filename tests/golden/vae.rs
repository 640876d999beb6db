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

#[test]
fn tiles_join_as_diffusers_joins_them_and_are_near_the_whole() {
    let golden = Golden::read("tiles.safetensors");
    for name in ["tiny-sd", "tiny-sd2"] {
        let picture = model(name).decode_in_tiles(&golden.values(&format!("{name}.latents")), 8).unwrap();
        let error = golden.error(&format!("{name}.picture"), &picture);
        assert!(error <= BLOCK, "{name}: {error:e}");
    }
    // A decoder that was trained, and a picture that means something: tiles a quarter of the picture in size.
    let latents = Golden::read("shapes.safetensors").values("vae.decode.input");
    let whole = model("shapes").decode(&latents, &Recorder::default()).unwrap();
    let tiled = model("shapes").decode_in_tiles(&latents, latents.dims[2] / 2).unwrap();
    assert_eq!(whole.dims, tiled.dims);
    let gaps = whole.values.iter().zip(&tiled.values).map(|(a, b)| f64::from(a - b).abs() * 127.5);
    let (sum, worst) = gaps.fold((0.0, 0f64), |(sum, worst), gap| (sum + gap, worst.max(gap)));
    let mean = sum / whole.values.len() as f64;
    println!("tiles of shapes: mean {mean:.2} levels, worst {worst:.1}");
    assert!(mean <= 6.0, "tiles are {mean} levels off on average");
}
