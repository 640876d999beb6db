//! A test of a plugin as data: `tests/NAME.toml` in its folder says what is asked, what the upstream is asked and answers,
//! and what must come out. Unknown keys are refused, so that a slip of the pen is no check that cannot fail.

use std::collections::BTreeMap;

use easel_core::{Draft, GenerationRequest, OnUnknown, OptionValue, ParamNames, Size};
use serde::{Deserialize, Serialize};

static NAMES: ParamNames = ParamNames::OURS;

/// One test.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    /// The time at which every call begins, in seconds since 1970.
    #[serde(default = "Case::default_time")]
    pub(super) time: u64,
    /// What random numbers follow from, and the seed of requests that name none.
    #[serde(default)]
    pub(super) randomness: u32,
    /// Origins that the operator names, besides those of the manifest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) origins: Vec<String>,
    /// Credentials that the operator has not supplied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) without_credentials: Vec<String>,
    /// The operator's config.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub(super) config: toml::Table,
    pub(super) request: Asked,
    /// What a transformer is given after the backend: a picture's file in the tests' folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) picture: Option<String>,
    /// The upstream's exchanges, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) upstream: Vec<Exchange>,
    pub(super) expect: Expected,
}

/// A request. Where it stands among what is expected, only the keys that are there count.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prompt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) negative_prompt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) steps: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) guidance: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sampler: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) format: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) options: BTreeMap<String, toml::Value>,
}

/// One request of the plugin and its answer.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Exchange {
    pub(super) method: String,
    pub(super) url: String,
    /// The headers that must be there; others may be.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) headers: BTreeMap<String, String>,
    /// The credential that must be there, by its name; without it, none may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) credential: Option<String>,
    /// The body, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) json: Option<toml::Value>,
    /// Texts that must stand in the body, whatever else does: for forms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) contains: Vec<String>,
    pub(super) answer: Answered,
}

/// What the upstream answers: one of `json`, `text` and `file`, or no body.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answered {
    pub(super) status: u16,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) json: Option<toml::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<String>,
    /// A file in the tests' folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<String>,
}

/// What must come out.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expected {
    /// How many pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pictures: Option<usize>,
    /// The size of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<String>,
    /// The format of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) format: Option<String>,
    /// The seeds, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) seeds: Option<Vec<u64>>,
    /// Files in the tests' folder that the pictures must equal, in order, byte by byte.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) golden: Vec<String>,
    /// Texts, each of which must stand in a note.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) notes: Vec<String>,
    /// The cost, as in `0.040000 USD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cost: Option<String>,
    /// The request as a transformer leaves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) request: Option<Asked>,
    /// The error that a caller gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<Failed>,
    /// The most processor time, in milliseconds, and memory, in KiB, that a call may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) most_cpu_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) most_memory_kib: Option<usize>,
}

/// An error, as far as it is told.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Failed {
    /// The HTTP status.
    pub(super) status: u16,
    /// A part of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
    /// The parameter at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) param: Option<String>,
}

impl Case {
    /// A day like any other: 2026-01-01.
    pub(super) const fn default_time() -> u64 {
        1_767_225_600
    }

    /// Reads a test.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let case: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            format!("line {line}: {}", error.message())
        })?;
        let expect = &case.expect;
        let is_told = expect.pictures.is_some()
            || expect.request.is_some()
            || expect.error.is_some()
            || !expect.golden.is_empty()
            || !expect.notes.is_empty();
        if !is_told {
            return Err("[expect] says nothing: name pictures, golden, request, notes or error".to_owned());
        }
        for answer in case.upstream.iter().map(|exchange| &exchange.answer) {
            let bodies = [answer.json.is_some(), answer.text.is_some(), answer.file.is_some()];
            if bodies.into_iter().filter(|is_there| *is_there).count() > 1 {
                return Err("an answer has one of json, text and file".to_owned());
            }
        }
        Ok(case)
    }
}

impl Asked {
    /// The request that it asks.
    pub(super) fn request(&self) -> Result<GenerationRequest, String> {
        let prompt = self.prompt.clone().ok_or("request.prompt is missing")?;
        let size = self.size.as_deref().map(|size| size.parse::<Size>());
        let size = size.transpose().map_err(|()| format!("request.size must be as in 128x128, not {:?}", self.size))?;
        let format = self.format.as_deref().map(str::parse);
        let format = format
            .transpose()
            .map_err(|_| format!("request.format must be png, jpeg or webp, not {:?}", self.format))?;
        let option = |(name, value): (&String, &toml::Value)| {
            let json = serde_json::to_string(value).map_err(|error| format!("request.options.{name}: {error}"))?;
            Ok((name.clone(), OptionValue { json, on_unknown: OnUnknown::Refuse }))
        };
        let draft = Draft {
            negative_prompt: self.negative_prompt.clone(),
            model: self.model.clone(),
            count: self.count.unwrap_or(1),
            size,
            seed: self.seed,
            steps: self.steps,
            guidance: self.guidance,
            sampler: self.sampler.clone(),
            format,
            options: self.options.iter().map(option).collect::<Result<_, String>>()?,
            ..Draft::new(prompt)
        };
        draft.check(&NAMES).map_err(|error| error.message().to_owned())
    }

    /// What a request says, in the words of a test.
    pub(super) fn of(request: &GenerationRequest) -> Self {
        let option = |(name, value): (&String, &OptionValue)| {
            Some((name.clone(), serde_json::from_str::<toml::Value>(&value.json).ok()?))
        };
        Self {
            prompt: Some(request.prompt.clone()),
            negative_prompt: request.negative_prompt.clone(),
            model: request.model.clone(),
            count: Some(request.count),
            size: request.size.map(|size| size.to_string()),
            seed: request.seed,
            steps: request.steps,
            guidance: request.guidance,
            sampler: request.sampler.clone(),
            format: request.format.map(|format| format.name().to_owned()),
            options: request.options.iter().filter_map(option).collect(),
        }
    }

    /// What is expected and not so.
    pub(super) fn differences(&self, found: &Self) -> Vec<String> {
        fn row<T: PartialEq + std::fmt::Debug>(name: &str, expected: Option<&T>, found: Option<&T>) -> Option<String> {
            let is_same = expected.is_none() || expected == found;
            (!is_same).then(|| format!("request.{name} is {found:?}, not {expected:?}"))
        }
        let rows = [
            row("prompt", self.prompt.as_ref(), found.prompt.as_ref()),
            row("negative_prompt", self.negative_prompt.as_ref(), found.negative_prompt.as_ref()),
            row("model", self.model.as_ref(), found.model.as_ref()),
            row("count", self.count.as_ref(), found.count.as_ref()),
            row("size", self.size.as_ref(), found.size.as_ref()),
            row("seed", self.seed.as_ref(), found.seed.as_ref()),
            row("steps", self.steps.as_ref(), found.steps.as_ref()),
            row("guidance", self.guidance.as_ref(), found.guidance.as_ref()),
            row("sampler", self.sampler.as_ref(), found.sampler.as_ref()),
            row("format", self.format.as_ref(), found.format.as_ref()),
        ];
        let options = self.options.iter();
        let options =
            options.filter_map(|(name, value)| row(&format!("options.{name}"), Some(value), found.options.get(name)));
        rows.into_iter().flatten().chain(options).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_that_checks_nothing_is_refused() {
        let refused = |text: &str| Case::parse(text).unwrap_err();
        assert!(refused("[request]\nprompt = \"a\"\n[expect]\n").contains("says nothing"));
        assert!(refused("[request]\nprompt = \"a\"\n[expect]\npicture = 1\n").contains("line 4: unknown field"));
        assert!(refused("[expect]\npictures = 1\n").contains("request"));
        let twice = "[request]\nprompt = \"a\"\n[[upstream]]\nmethod = \"GET\"\nurl = \"http://u/\"\nanswer = { status = 200, text = \"a\", file = \"b\" }\n[expect]\npictures = 1\n";
        assert!(refused(twice).contains("one of json"));
    }

    #[test]
    fn only_what_is_expected_of_a_request_counts() {
        let found = Asked { prompt: Some("a".to_owned()), seed: Some(1), ..Asked::default() };
        assert_eq!(Asked { seed: Some(1), ..Asked::default() }.differences(&found), [""; 0]);
        let expected = Asked { prompt: Some("b".to_owned()), steps: Some(3), ..Asked::default() };
        assert_eq!(expected.differences(&found).len(), 2);
    }

    #[test]
    fn request_reads_back_as_it_was_asked() {
        let text =
            "prompt = \"a fox\"\nsize = \"64x32\"\ncount = 2\nformat = \"png\"\noptions = { quality = \"low\" }\n";
        let asked: Asked = toml::from_str(text).unwrap();
        assert_eq!(Asked::of(&asked.request().unwrap()), asked);
        let wrong: Asked = toml::from_str("prompt = \"a\"\nsize = \"big\"\n").unwrap();
        assert!(wrong.request().unwrap_err().contains("128x128"));
    }
}
