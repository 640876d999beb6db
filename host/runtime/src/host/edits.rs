//! `request-edit`: the changes that a transformer asks for. They are collected here and applied by the walk when the
//! call has ended well: all or none. A value that can never be right ends the call.

use easel_core::{Edit, ImageFormat, OnUnknown, OptionValue, Size};
use wasmtime::component::Resource;

use super::images::push;
use crate::bindings::easel::plugin::request_edit;
use crate::fault::{Breach, clean};
use crate::json;
use crate::state::State;

/// What was asked for so far.
#[derive(Default)]
pub struct Edits {
    pub(crate) edits: Vec<Edit>,
    pub(crate) notes: Vec<(Option<String>, String)>,
}

impl State {
    fn edit(&mut self, edits: &Resource<Edits>, edit: Edit) -> wasmtime::Result<()> {
        let edits = &mut self.table.get_mut(edits)?.edits;
        // The later change of the same thing wins, so the earlier is not kept.
        let target = edit.target();
        edits.retain(|earlier| earlier.target() != target);
        push("changes", edits, edit)
    }
}

fn wrong<T>(message: String) -> wasmtime::Result<T> {
    Err(Breach::Contract(message).into())
}

impl request_edit::Host for State {}

impl request_edit::HostEdits for State {
    fn set_prompt(&mut self, edits: Resource<Edits>, text: String) -> wasmtime::Result<()> {
        self.edit(&edits, Edit::Prompt(text))
    }

    fn set_negative_prompt(&mut self, edits: Resource<Edits>, text: Option<String>) -> wasmtime::Result<()> {
        self.edit(&edits, Edit::NegativePrompt(text))
    }

    fn set_model(&mut self, edits: Resource<Edits>, model: Option<String>) -> wasmtime::Result<()> {
        self.edit(&edits, Edit::Model(model))
    }

    fn set_count(&mut self, edits: Resource<Edits>, count: u32) -> wasmtime::Result<()> {
        self.edit(&edits, Edit::Count(count))
    }

    fn set_size(&mut self, edits: Resource<Edits>, size: Option<(u32, u32)>) -> wasmtime::Result<()> {
        let size = match size.map(|(width, height)| Size::new(width, height).ok_or((width, height))).transpose() {
            Ok(size) => size,
            Err((width, height)) => {
                return wrong(format!("set the size {width}x{height}; a side is 1 to {}", Size::MAX_SIDE));
            }
        };
        self.edit(&edits, Edit::Size(size))
    }

    fn set_seed(&mut self, edits: Resource<Edits>, seed: Option<u64>) -> wasmtime::Result<()> {
        self.edit(&edits, Edit::Seed(seed))
    }

    fn set_steps(&mut self, edits: Resource<Edits>, steps: Option<u32>) -> wasmtime::Result<()> {
        self.edit(&edits, Edit::Steps(steps))
    }

    fn set_guidance(&mut self, edits: Resource<Edits>, guidance: Option<f64>) -> wasmtime::Result<()> {
        self.edit(&edits, Edit::Guidance(guidance))
    }

    fn set_sampler(&mut self, edits: Resource<Edits>, name: Option<String>) -> wasmtime::Result<()> {
        self.edit(&edits, Edit::Sampler(name))
    }

    fn set_format(&mut self, edits: Resource<Edits>, name: Option<String>) -> wasmtime::Result<()> {
        let Ok(format) = name.as_deref().map(str::parse::<ImageFormat>).transpose() else {
            let name = clean(&name.unwrap_or_default(), 20);
            return wrong(format!("set the format {name:?}; it is png, jpeg or webp"));
        };
        self.edit(&edits, Edit::Format(format))
    }

    fn set_option(&mut self, edits: Resource<Edits>, name: String, value: Option<String>) -> wasmtime::Result<()> {
        if let Some(Err(error)) = value.as_deref().map(|value| json::check(value.as_bytes())) {
            return wrong(format!("set option {:?} to what is not JSON: {error}", clean(&name, 64)));
        }
        // The caller did not name it, so a model without it is no error of the caller's.
        let value = value.map(|json| OptionValue { json, on_unknown: OnUnknown::Note });
        self.edit(&edits, Edit::Option(name, value))
    }

    fn add_note(&mut self, edits: Resource<Edits>, param: Option<String>, message: String) -> wasmtime::Result<()> {
        push("notes", &mut self.table.get_mut(&edits)?.notes, (param, clean(&message, 1000)))
    }

    fn drop(&mut self, edits: Resource<Edits>) -> wasmtime::Result<()> {
        self.table.delete(edits)?;
        Ok(())
    }
}
