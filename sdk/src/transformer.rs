//! A plugin that edits requests on their way in.

use serde::de::DeserializeOwned;

use crate::{Blob, Context, Error, Format, InputRole, Note, Output, Request, Result, Size};

/// A plugin that looks at every request before it is routed. Every call runs in a fresh instance.
///
/// Name the implementing type in [`transformer!`](crate::transformer!).
pub trait Transformer {
    /// The plugin's config, read from `[plugin.<id>.config]`; [`NoConfig`](crate::NoConfig) where it has none.
    type Config: DeserializeOwned;

    /// Whether the config makes sense beyond being of its type. Called when the plugin is loaded and when its config changes;
    /// a config that is refused changes nothing that serves.
    ///
    /// # Errors
    /// [`Error::config`]; the host shows the message to the operator.
    fn check(config: &Self::Config) -> Result<()> {
        let _ = config;
        Ok(())
    }

    /// Decides about a request. Edits count only with [`Verdict::Next`].
    fn on_request(context: &Context, config: &Self::Config, request: &Request, edits: &mut Edits) -> Verdict;
}

/// The decision about a request.
#[derive(Debug)]
pub enum Verdict {
    /// Go on, with the edits made.
    Next,
    /// Answer with this; no backend is asked.
    Respond(Output),
    /// Refuse the request.
    Reject(Error),
}

/// The changes that a transformer asks for. The host applies all or none; a later change of the same thing wins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edits {
    /// The changes, in order.
    pub edits: Vec<Edit>,
    /// What the client is told about them.
    pub notes: Vec<Note>,
}

/// One change. `None` leaves the choice to the server, or removes the option.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each change is of the request's field of that name")]
pub enum Edit {
    Task(String),
    Prompt(String),
    NegativePrompt(Option<String>),
    Model(Option<String>),
    Count(u32),
    Size(Option<Size>),
    Seed(Option<u64>),
    Steps(Option<u32>),
    Guidance(Option<f64>),
    Sampler(Option<String>),
    Format(Option<Format>),
    /// The quality of a lossy format, 0 to 100.
    Compression(Option<u8>),
    /// Adds a picture behind those that the request brings.
    AddInput(InputRole, Blob),
    /// Puts another picture in the place of one that the request brings, by its number there.
    ReplaceInput(u32, Blob),
    /// Takes away one that the request brings, by its number there; the others keep theirs.
    RemoveInput(u32),
    /// An option's name, and its value as JSON text.
    Option(String, Option<String>),
}

impl Edits {
    /// Asks for a change.
    pub fn make(&mut self, edit: Edit) {
        self.edits.push(edit);
    }

    /// Tells the client what was changed; `param` as in [`Error::param`].
    pub fn note(&mut self, param: &str, message: impl Into<String>) {
        self.notes.push(Note::about(param, message));
    }
}

/// The world's export, made of a [`Transformer`].
pub struct Exported<T>(std::marker::PhantomData<T>);

#[cfg(target_arch = "wasm32")]
mod export {
    use super::{Edit, Edits, Exported, Format, Transformer, Verdict};
    use crate::bindings::adapter::easel::plugin::images::ImageRequest;
    use crate::bindings::adapter::easel::plugin::types::{CallContext, PluginError};
    use crate::bindings::transformer::easel::plugin::request_edit::Edits as RawEdits;
    use crate::bindings::transformer::exports::easel::plugin::transform::{Guest, Verdict as RawVerdict};
    use crate::{Request, host};

    impl<T: Transformer> Guest for Exported<T> {
        fn check() -> Result<(), PluginError> {
            Ok(T::check(&host::config()?)?)
        }

        fn on_request(context: CallContext, request: &ImageRequest, raw: &RawEdits) -> RawVerdict {
            let config = match host::config() {
                Ok(config) => config,
                Err(error) => return RawVerdict::Reject(error.into()),
            };
            let mut edits = Edits::default();
            match T::on_request(&context.into(), &config, &Request::read(request), &mut edits) {
                Verdict::Next => match hand_over(edits, raw) {
                    Ok(()) => RawVerdict::Next,
                    Err(error) => RawVerdict::Reject(error),
                },
                Verdict::Respond(output) => RawVerdict::Respond(output.into()),
                Verdict::Reject(error) => RawVerdict::Reject(error.into()),
            }
        }
    }

    fn hand_over(edits: Edits, raw: &RawEdits) -> Result<(), PluginError> {
        for edit in edits.edits {
            match edit {
                Edit::Task(name) => raw.set_task(&name),
                Edit::Prompt(text) => raw.set_prompt(&text),
                Edit::NegativePrompt(text) => raw.set_negative_prompt(text.as_deref()),
                Edit::Model(model) => raw.set_model(model.as_deref()),
                Edit::Count(count) => raw.set_count(count),
                Edit::Size(size) => raw.set_size(size.map(|size| (size.width, size.height))),
                Edit::Seed(seed) => raw.set_seed(seed),
                Edit::Steps(steps) => raw.set_steps(steps),
                Edit::Guidance(guidance) => raw.set_guidance(guidance),
                Edit::Sampler(name) => raw.set_sampler(name.as_deref()),
                Edit::Format(format) => raw.set_format(format.map(Format::name)),
                Edit::Compression(quality) => raw.set_compression(quality),
                Edit::AddInput(role, blob) => raw.add_input(role.name(), blob.into_raw())?,
                Edit::ReplaceInput(index, blob) => raw.replace_input(index, blob.into_raw())?,
                Edit::RemoveInput(index) => raw.remove_input(index),
                Edit::Option(name, value) => raw.set_option(&name, value.as_deref()),
            }
        }
        for note in &edits.notes {
            raw.add_note(note.param.as_deref(), &note.message);
        }
        Ok(())
    }
}
