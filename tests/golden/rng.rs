//! The generator against PyTorch's.

use easel_engine::rng::TorchGenerator;

use super::Golden;

/// Of normals: the same f32 formula over another library's logarithm and cosine comes this close.
const NORMALS: f64 = 5e-7;

#[test]
fn the_generators_integers_are_bit_equal_to_pytorchs() {
    let golden = Golden::read("randn.safetensors");
    for key in golden.keys("u32.") {
        let mut generator = TorchGenerator::new(key["u32.".len()..].parse().unwrap());
        assert!(golden.flat(key).iter().all(|want| f64::from(generator.next_u32()) == *want), "{key}");
    }
}

#[test]
fn every_draw_of_normals_is_pytorchs_whatever_its_length() {
    let golden = Golden::read("randn.safetensors");
    for key in golden.keys("randn.") {
        let (seed, count) = key["randn.".len()..].split_once('.').unwrap();
        let got = TorchGenerator::new(seed.parse().unwrap()).normals(count.parse().unwrap());
        check(key, &got, golden.flat(key));
    }
}

#[test]
fn draws_that_follow_each_other_go_on_as_pytorchs_do() {
    let golden = Golden::read("randn.safetensors");
    let firsts = golden.keys("sequence.").into_iter().filter(|key| key.ends_with(".0"));
    for first in firsts {
        let stem = first.strip_suffix(".0").unwrap();
        let (seed, counts) = stem["sequence.".len()..].split_once('.').unwrap();
        let mut generator = TorchGenerator::new(seed.parse().unwrap());
        for (index, count) in counts.split('-').enumerate() {
            let key = format!("{stem}.{index}");
            check(&key, &generator.normals(count.parse().unwrap()), golden.flat(&key));
        }
    }
}

fn check(key: &str, got: &[f32], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{key}");
    let gap = got.iter().zip(want).map(|(got, want)| (f64::from(*got) - want).abs()).fold(0.0, f64::max);
    assert!(gap <= NORMALS, "{key}: {gap:e}");
}
