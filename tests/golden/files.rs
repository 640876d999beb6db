//! Ways of storing and naming weights, against the numbers that the reference readers make of them. All are exact.

use std::collections::BTreeSet;
use std::path::Path;

use easel_engine::{Files, examine};

use super::Golden;

fn golden_folder(name: &str) -> Files {
    Files::Folder(Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name))
}

#[test]
fn every_way_of_storing_weights_gives_the_dequantised_numbers_exactly() {
    let want = Golden::read("formats/want.safetensors");
    for folder in ["plain", "blocks", "sharded"] {
        let keys = want.keys(folder);
        assert!(keys.len() >= 2, "{folder}");
        for key in keys {
            let name = key.split_once('/').unwrap().1;
            let got = examine::tensor(&golden_folder("formats"), folder, "model", name).unwrap();
            assert_eq!(want.error(key, &got), 0.0, "{key}");
        }
    }
}

#[test]
fn the_makers_own_layouts_lie_where_diffusers_puts_them() {
    for layout in ["flux-1-dev", "flux-1-schnell", "flux-2", "z-image"] {
        let want = Golden::read(&format!("layouts/{layout}/want.safetensors"));
        let files = golden_folder(&format!("layouts/{layout}"));
        let names: BTreeSet<_> = examine::names(&files, "transformer", "model").unwrap().into_iter().collect();
        let wanted: BTreeSet<_> = want.keys("").into_iter().map(str::to_owned).collect();
        assert_eq!(names, wanted, "{layout}");
        for key in &wanted {
            let got = examine::tensor(&files, "transformer", "model", key).unwrap();
            assert_eq!(want.error(key, &got), 0.0, "{layout}: {key}");
        }
    }
}
