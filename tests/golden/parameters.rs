//! The parameters of the full-size networks, by name and shape, against diffusers' own classes. No weights are needed.

use std::collections::BTreeMap;
use std::path::Path;

use easel_engine::{Files, examine};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::pipeline::copy_folder;
use super::{folder, json};

#[test]
fn full_size_networks_ask_for_exactly_the_parameters_that_diffusers_makes() {
    let golden = json("parameters.json");
    for (kind, components) in golden.as_object().unwrap() {
        let at = tempfile::tempdir().unwrap();
        let got = tables(&described(kind, at.path(), None));
        for (component, want) in components.as_object().unwrap() {
            let got = &got[component];
            for (part, want) in want.as_object().unwrap() {
                assert_eq!(got.get(part).map(String::as_str), want.as_str(), "{kind}: {component}.{part}");
            }
            assert_eq!(got.len(), want.as_object().unwrap().len(), "{kind}: {component} has {:?}", got.keys());
        }
        assert_eq!(got.len(), components.as_object().unwrap().len(), "{kind}: {:?}", got.keys());
    }
}

#[test]
fn another_depth_of_the_transformers_is_seen() {
    let at = tempfile::tempdir().unwrap();
    let shallow = ("transformer_layers_per_block", json!([1, 2, 9]));
    let got = tables(&described("stable-diffusion-xl", at.path(), Some(shallow)));
    let golden = &json("parameters.json")["stable-diffusion-xl"]["unet"];
    let differing = got["unet"].iter().filter(|(part, line)| golden[part.as_str()] != line.as_str());
    let differ: Vec<_> = differing.map(|(part, _)| part.as_str()).collect();
    assert_eq!(differ, ["down_blocks.2", "mid_block", "up_blocks.0"]);
}

/// A folder with the configs of a kind of model and nothing else.
fn described(kind: &str, at: &Path, change: Option<(&str, Value)>) -> Files {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../host/engine/kinds/{kind}.json"));
    let mut files: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    if let Some((key, value)) = change {
        files["unet/config.json"][key] = value;
    }
    for tokenizer in ["tokenizer", "tokenizer_2"] {
        copy_folder(&folder("shapes").join("tokenizer"), &at.join(tokenizer));
    }
    for (file, content) in files.as_object().unwrap() {
        let file = at.join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content.to_string()).unwrap();
    }
    Files::Folder(at.to_owned())
}

/// For each part of each component: how many tensors, how many values, and a digest of names and shapes.
fn tables(files: &Files) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut parts: BTreeMap<(String, String), (usize, usize, Sha256)> = BTreeMap::new();
    let mut parameters: Vec<(String, String, Vec<usize>)> = examine::parameters(files)
        .unwrap()
        .into_iter()
        .map(|(name, shape)| {
            let (component, name) = name.split_once('.').unwrap();
            (component.to_owned(), name.strip_prefix("text_model.").unwrap_or(name).to_owned(), shape)
        })
        .collect();
    parameters.sort_unstable();
    for (component, name, mut shape) in parameters {
        let values: usize = shape.iter().product();
        while shape.last() == Some(&1) {
            shape.pop();
        }
        let sides: Vec<_> = shape.iter().map(usize::to_string).collect();
        let (count, sum, digest) = parts.entry((component, part(&name))).or_default();
        *count += 1;
        *sum += values;
        digest.update(format!("{name} {}\n", sides.join("x")));
    }
    let mut tables: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for ((component, part), (count, sum, digest)) in parts {
        let digest: String = digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        tables.entry(component).or_default().insert(part, format!("{count} {sum} {digest}"));
    }
    tables
}

/// A block, as the fixture's script cuts them.
fn part(name: &str) -> String {
    let words: Vec<&str> = name.split('.').collect();
    let block = words.windows(2).position(|pair| {
        ["down_blocks", "up_blocks", "layers"].contains(&pair[0]) && pair[1].bytes().all(|byte| byte.is_ascii_digit())
    });
    block.map_or(words[0].to_owned(), |depth| words[..depth + 2].join("."))
}
