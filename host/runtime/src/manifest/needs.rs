//! `[needs]`: which parts of a request a transformer gets to see, and whether a plugin keeps values of its own.

use serde::Deserialize;

use crate::PluginKind;
use crate::refusal::Refusal;

/// What a plugin gets to see and keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    /// The prompts, as they came and as a provider rewrote them.
    pub(crate) prompt: bool,
    /// The pictures that a request brings.
    pub(crate) inputs: bool,
    /// The finished pictures.
    pub(crate) images: bool,
    /// Values of its own.
    pub(crate) store: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNeeds {
    prompt: Option<bool>,
    inputs: Option<bool>,
    images: Option<bool>,
    #[serde(default)]
    store: bool,
}

pub(super) fn check(raw: &RawNeeds, kind: PluginKind) -> Result<Needs, Refusal> {
    let RawNeeds { prompt, inputs, images, store } = *raw;
    match kind {
        // What transformers are for is words; pictures are seen only by those that say so.
        PluginKind::Transformer => Ok(Needs {
            prompt: prompt.unwrap_or(true),
            inputs: inputs.unwrap_or(false),
            images: images.unwrap_or(false),
            store,
        }),
        PluginKind::Adapter => {
            let named = [("prompt", prompt), ("inputs", inputs), ("images", images)];
            if let Some((name, _)) = named.into_iter().find(|(_, value)| value.is_some()) {
                let message = format!("needs.{name} is for transformers; an adapter sees the whole request");
                return Err(Refusal::new(message));
            }
            Ok(Needs { prompt: true, inputs: true, images: true, store })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(text: &str, kind: PluginKind) -> Result<Needs, String> {
        let raw: RawNeeds = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        check(&raw, kind).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn transformer_sees_words_unless_it_says_otherwise() {
        let nothing = Needs { prompt: false, inputs: false, images: false, store: false };
        let transformer = |text| needs(text, PluginKind::Transformer);
        assert_eq!(transformer(""), Ok(Needs { prompt: true, ..nothing }));
        assert_eq!(transformer("prompt = false"), Ok(nothing));
        assert_eq!(transformer("images = true"), Ok(Needs { prompt: true, images: true, ..nothing }));
        let all = Needs { prompt: true, inputs: true, images: true, store: true };
        assert_eq!(transformer("inputs = true\nimages = true\nstore = true"), Ok(all));
        assert!(transformer("image = true").unwrap_err().contains("unknown field `image`"));
    }

    #[test]
    fn adapter_sees_all_and_says_only_whether_it_keeps_values() {
        let all = Needs { prompt: true, inputs: true, images: true, store: false };
        assert_eq!(needs("", PluginKind::Adapter), Ok(all));
        assert_eq!(needs("store = true", PluginKind::Adapter), Ok(Needs { store: true, ..all }));
        let error = needs("prompt = false", PluginKind::Adapter).unwrap_err();
        assert_eq!(error, "needs.prompt is for transformers; an adapter sees the whole request");
    }
}
