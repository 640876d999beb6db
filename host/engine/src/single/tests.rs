//! That the descriptions of single files are what the families read, and what a file of its own may say instead.

use std::path::PathBuf;
use std::sync::Arc;

use super::kind::{Base, Kind};
use super::{SingleFile, description};
use crate::checkpoint::Files;
use crate::family;

fn single(base: Base, channels: usize) -> SingleFile {
    let kind = Kind { base, prefix: "", channels, is_velocity: false, is_zero_terminal: false };
    let path = PathBuf::from("model.safetensors");
    SingleFile { path, kind, description: description::files(&kind), folder: None, tokenizers: None }
}

#[test]
fn every_family_that_is_here_can_read_the_description_of_its_kind() {
    let mut described = Vec::new();
    for (base, channels, native) in [
        (Base::StableDiffusion1, 4, 512),
        (Base::StableDiffusion2, 4, 512),
        (Base::StableDiffusionXl, 4, 1024),
        (Base::Flux1Dev, 64, 1024),
        (Base::Flux1Schnell, 64, 1024),
        (Base::Flux2Klein, 128, 1024),
        (Base::ZImage, 16, 1024),
    ] {
        let files = Files::Single(Arc::new(single(base, channels)));
        // A kind may be recognised before its family is written.
        let Ok(family) = family::of(&files) else { continue };
        let facts = (family.describe)(&files).unwrap_or_else(|error| panic!("{}: {error}", base.name()));
        assert_eq!(facts.native, (native, native), "{}", base.name());
        described.push(base.name());
    }
    assert!(described.len() >= 3 && described[0] == "stable-diffusion-1", "{described:?}");
}

#[test]
fn what_lies_in_a_files_own_folder_goes_before_its_description() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("unet")).unwrap();
    std::fs::write(folder.path().join("unet/config.json"), "{\"own\": true}").unwrap();
    let single = SingleFile { folder: Some(folder.path().to_owned()), ..single(Base::StableDiffusion1, 4) };
    assert_eq!(&*single.read("unet/config.json").unwrap(), b"{\"own\": true}");
    assert!(single.has("vae/config.json") && !single.has("easel.json"));
    assert!(single.read("easel.json").unwrap_err().to_string().contains("easel.json"));
}
