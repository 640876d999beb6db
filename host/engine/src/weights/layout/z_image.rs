//! Z-Image's transformer as its makers name it: query, key and value in one matrix, other names in the attention.

use super::Name;

pub(super) fn names(key: &str) -> Vec<Name> {
    // A norm that the network has and never uses.
    if key == "norm_final.weight" {
        return Vec::new();
    }
    if let Some((layer, kind)) = key.split_once(".attention.qkv.") {
        return Name::split(&["to_q", "to_k", "to_v"].map(|name| format!("{layer}.attention.{name}.{kind}")));
    }
    for (old, new) in [("final_layer.", "all_final_layer.2-1."), ("x_embedder.", "all_x_embedder.2-1.")] {
        if let Some(rest) = key.strip_prefix(old) {
            return vec![Name::plain(format!("{new}{rest}"))];
        }
    }
    let attention = [(".out.", ".to_out.0."), (".q_norm.", ".norm_q."), (".k_norm.", ".norm_k.")];
    let name = attention.iter().find_map(|(old, new)| {
        let (layer, rest) = key.split_once(&format!(".attention{old}"))?;
        Some(format!("{layer}.attention{new}{rest}"))
    });
    vec![Name::plain(name.unwrap_or_else(|| key.to_owned()))]
}
