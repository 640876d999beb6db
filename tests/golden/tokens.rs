//! The tokenizer against transformers', over odd strings.

use super::{json, model};

#[test]
fn odd_prompts_are_cut_into_the_tokens_that_transformers_cuts() {
    let golden = json("tokens.json");
    let fixed = |key: &str| golden["fixed"][key].as_u64().unwrap();
    let shapes = model("shapes");
    for row in golden["rows"].as_array().unwrap() {
        let text = row["text"].as_str().unwrap();
        let tokens = shapes.tokens(text).unwrap();
        let mut want: Vec<u32> = row["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        want.resize(fixed("length") as usize, fixed("pad") as u32);
        assert_eq!(tokens.ids, want, "{text:?}");
        let length = row["length"].as_u64().unwrap() as usize;
        assert_eq!(tokens.used + tokens.dropped, length, "{text:?}");
    }
}
