//! The smallest adapter: a backend that paints its pictures itself, with no network and no config.
//!
//! A picture is a gradient between two colours that follow from prompt and seed, so the same request gives the same
//! bytes. The file format is [`png`]'s business. `plugins/openai-images` shows an adapter with an upstream.

mod png;

use easel_sdk::models::{Determinism, SizeRange, Sizes, Treatment};
use easel_sdk::{Adapter, Blob, Context, Model, NoConfig, Output, Picture, Progress, Request, Result, Size};

/// The size of requests that name none.
const DEFAULT_SIZE: Size = Size::new(512, 512);

/// The adapter.
#[derive(Debug)]
pub struct Hello;

easel_sdk::adapter!(Hello);

impl Adapter for Hello {
    type Config = NoConfig;

    fn models(_: &NoConfig) -> Result<Vec<Model>> {
        let range =
            SizeRange { least_side: 8, most_side: 1024, multiple: 8, max_pixels: 1 << 20, default: Some(DEFAULT_SIZE) };
        Ok(vec![Model {
            name: "Hello, gradients".to_owned(),
            sizes: Sizes::Range(range),
            max_count: 4,
            negative_prompt: Treatment::Ignored,
            seed: Treatment::Honoured,
            determinism: Determinism::Exact,
            ..Model::new("hello-gradient", "hello")
        }])
    }

    fn generate(_: &Context, _: &NoConfig, request: &Request, progress: &Progress<'_>) -> Result<Output> {
        let size = request.size.unwrap_or(DEFAULT_SIZE);
        let mut output = Output::default();
        for index in 0..request.count {
            progress.step(index, 0, 1)?;
            let seed = request.seed.unwrap_or_default() + u64::from(index);
            let colours = [0, 1].map(|number| colour(&request.prompt, seed, number));
            let file = png::encode(size, |x, y| gradient(colours, size, x, y));
            let blob = Blob::new("image/png", &file)?;
            output.pictures.push(Picture { blob, seed: Some(seed), revised_prompt: None });
        }
        Ok(output)
    }
}

/// The colour of one pixel: a blend of two colours along the diagonal.
fn gradient([from, to]: [[u8; 3]; 2], size: Size, x: u32, y: u32) -> [u8; 3] {
    let (way, whole) = (x + y, (size.width + size.height - 2).max(1));
    let blend = |from: u8, to: u8| (u32::from(from) * (whole - way) + u32::from(to) * way) / whole;
    [0, 1, 2].map(|channel| u8::try_from(blend(from[channel], to[channel])).unwrap_or(u8::MAX))
}

/// A colour that follows from prompt, seed and its number, by the hash FNV-1a.
fn colour(prompt: &str, seed: u64, number: u8) -> [u8; 3] {
    let bytes = [number].into_iter().chain(prompt.bytes()).chain(seed.to_le_bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let [red, green, blue, ..] = hash.to_be_bytes();
    [red, green, blue]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn generate(request: &Request) -> Output {
        let context = Context::new("r", Duration::from_secs(1));
        Hello::generate(&context, &NoConfig {}, request, &Progress::unheard()).unwrap()
    }

    #[test]
    fn every_picture_is_a_png_of_the_size_with_its_own_seed() {
        let output =
            generate(&Request { count: 2, seed: Some(5), size: Some(Size::new(16, 8)), ..Request::new("a fox") });
        let seeds: Vec<_> = output.pictures.iter().map(|picture| picture.seed).collect();
        assert_eq!(seeds, [Some(5), Some(6)]);
        let files: Vec<_> = output.pictures.iter().map(|picture| picture.blob.bytes(10_000).unwrap()).collect();
        assert_ne!(files[0], files[1]);
        assert_eq!(files[0][..8], *b"\x89PNG\r\n\x1a\n");
        assert_eq!(files[0][16..24], [0, 0, 0, 16, 0, 0, 0, 8]);
    }

    #[test]
    fn same_request_gives_the_same_bytes() {
        let request = Request { seed: Some(1), ..Request::new("a fox") };
        let file = |request: &Request| generate(request).pictures[0].blob.bytes(1 << 21).unwrap();
        assert_eq!(file(&request), file(&request));
    }

    #[test]
    fn gradient_goes_from_one_colour_to_the_other() {
        let colours = [[0, 100, 200], [30, 100, 50]];
        let size = Size::new(4, 4);
        assert_eq!(gradient(colours, size, 0, 0), colours[0]);
        assert_eq!(gradient(colours, size, 1, 2), [15, 100, 125]);
        assert_eq!(gradient(colours, size, 3, 3), colours[1]);
        assert_eq!(gradient(colours, Size::new(1, 1), 0, 0), colours[0]);
        assert_ne!(colour("a", 1, 0), colour("a", 1, 1));
    }
}
