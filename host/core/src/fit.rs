//! Fits a request to a model: what the model cannot honour is refused, or adjusted with a note. Nothing is dropped
//! silently.

use std::fmt::Display;

use crate::{
    Control, Determinism, Edit, Error, ErrorKind, GenerationRequest, ImageFormat, InputRole, ModelInfo, Note, NoteKind,
    Numbers, OnUnknown, Result, Task, input,
};

/// A request that the model can do as it stands, and what was changed to make it so.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// The request with every choice that is the model's to make filled in.
    pub request: GenerationRequest,
    /// What was adjusted or ignored.
    pub notes: Vec<Note>,
}

impl ModelInfo {
    /// Fits a request to this model. `fallback_seed` is used where the model takes seeds and the request has none.
    ///
    /// # Errors
    /// `InvalidRequest` or `Unsupported`, naming the parameter and what this model allows.
    pub fn fit(&self, request: &GenerationRequest, fallback_seed: u64) -> Result<Fitted> {
        let names = request.names();
        let mut fit = Fit { model: self, edits: Vec::new(), notes: Vec::new() };

        if !self.tasks.contains(&request.task) {
            let message = format!("model {} does not do {}", self.id, request.task.name());
            // Where the model edits pictures, the mask alone is too much.
            let only_mask = request.task == Task::Inpainting && self.tasks.contains(&Task::ImageToImage);
            let param = if only_mask { names.mask } else { names.model };
            return Err(Error::new(ErrorKind::Unsupported, message).with_param(param));
        }
        if request.count > self.max_count {
            let message = format!(
                "{} must be from 1 to {} for model {}, not {}",
                names.count, self.max_count, self.id, request.count
            );
            return Err(Error::invalid(names.count, message));
        }
        fit.inputs(request)?;
        fit.size(request)?;
        fit.number(names.steps, request.steps, &self.steps, Edit::Steps)?;
        fit.number(names.guidance, request.guidance, &self.guidance, Edit::Guidance)?;
        fit.flag(
            names.negative_prompt,
            request.negative_prompt.is_some(),
            &self.negative_prompt,
            Edit::NegativePrompt(None),
        )?;
        fit.sampler(request)?;
        fit.format(request);
        fit.options(request)?;
        fit.flag(names.seed, request.seed.is_some(), &self.seed, Edit::Seed(None))?;
        if request.seed.is_none() && matches!(self.seed, Control::Honoured(())) {
            fit.edits.push(Edit::Seed(Some(fallback_seed)));
        }
        if request.seed.is_some()
            && matches!(self.seed, Control::Honoured(()))
            && self.determinism == Determinism::BestEffort
        {
            let message = format!("model {} repeats a picture from its seed only roughly", self.id);
            fit.notes.push(Note::about(NoteKind::Advice, names.seed, message));
        }
        let request = request.edit(fit.edits)?;
        Ok(Fitted { request, notes: fit.notes })
    }
}

struct Fit<'a> {
    model: &'a ModelInfo,
    edits: Vec<Edit>,
    notes: Vec<Note>,
}

impl Fit<'_> {
    fn inputs(&self, request: &GenerationRequest) -> Result<()> {
        let most = self.model.inputs;
        for (role, most) in [(InputRole::Image, most.images), (InputRole::Reference, most.references)] {
            let brought = input::count(&request.inputs, role);
            let param = role.param(request.names());
            if brought > 0 && most == 0 {
                return Err(self.refusal(param));
            }
            if brought > most as usize {
                let message = format!("model {} takes at most {most} as {param}, not {brought}", self.model.id);
                return Err(Error::invalid(param, message));
            }
        }
        Ok(())
    }

    fn size(&mut self, request: &GenerationRequest) -> Result<()> {
        match request.size {
            None => {
                // A picture that is edited stays as large as it is, where that is possible.
                let edited = input::first(&request.inputs, InputRole::Image).map(|image| image.size);
                let edited = edited.filter(|size| self.model.sizes.allows(*size));
                self.edits.push(Edit::Size(edited.or(self.model.sizes.default_size())));
            }
            Some(size) if self.model.sizes.allows(size) => {}
            Some(size) => {
                let name = request.names().size;
                let allowed = self.model.sizes.describe();
                let message = format!("{name} {size} is not possible with model {}: it takes {allowed}", self.model.id);
                return Err(Error::invalid(name, message));
            }
        }
        Ok(())
    }

    fn number<T: PartialOrd + Copy + Display>(
        &mut self,
        name: &'static str,
        value: Option<T>,
        control: &Control<Numbers<T>>,
        edit: fn(Option<T>) -> Edit,
    ) -> Result<()> {
        match (control, value) {
            (Control::Honoured(numbers), None) => self.edits.extend(numbers.default.map(|default| edit(Some(default)))),
            (Control::Honoured(numbers), Some(value)) if value < numbers.least || value > numbers.most => {
                let (least, most, model) = (numbers.least, numbers.most, &self.model.id);
                let message = format!("{name} must be from {least} to {most} for model {model}, not {value}");
                return Err(Error::invalid(name, message));
            }
            (Control::Honoured(_), Some(_)) | (Control::Ignored | Control::Refused, None) => {}
            (Control::Ignored, Some(_)) => self.ignore(name, edit(None)),
            (Control::Refused, Some(_)) => return Err(self.refusal(name)),
        }
        Ok(())
    }

    fn flag(&mut self, name: &'static str, set: bool, control: &Control<()>, unset: Edit) -> Result<()> {
        match (control, set) {
            (Control::Honoured(()), _) | (_, false) => Ok(()),
            (Control::Ignored, true) => {
                self.ignore(name, unset);
                Ok(())
            }
            (Control::Refused, true) => Err(self.refusal(name)),
        }
    }

    fn sampler(&mut self, request: &GenerationRequest) -> Result<()> {
        let name = request.names().sampler;
        let Some(sampler) = &request.sampler else { return Ok(()) };
        match &self.model.samplers {
            Control::Honoured(known) if known.is_empty() || known.contains(sampler) => Ok(()),
            Control::Honoured(known) => {
                let message =
                    format!("{name} {sampler:?} is unknown to model {}: it takes {}", self.model.id, known.join(", "));
                Err(Error::invalid(name, message))
            }
            Control::Ignored => {
                self.ignore(name, Edit::Sampler(None));
                Ok(())
            }
            Control::Refused => Err(self.refusal(name)),
        }
    }

    fn format(&mut self, request: &GenerationRequest) {
        let names = request.names();
        let Some(default) = self.model.formats.first().copied() else { return };
        let given = request.format.filter(|format| self.model.formats.contains(format)).unwrap_or(default);
        if let Some(asked) = request.format.filter(|asked| *asked != given) {
            let message = format!("model {} does not give {asked}; the answer is {given}", self.model.id);
            self.notes.push(Note::about(NoteKind::Replaced, names.format, message));
        }
        self.edits.push(Edit::Format(Some(given)));
        if request.compression.is_some() && given == ImageFormat::Png {
            let message = format!("{} has no effect on {given}, which loses nothing", names.compression);
            self.notes.push(Note::about(NoteKind::Ignored, names.compression, message));
            self.edits.push(Edit::Compression(None));
        }
    }

    fn options(&mut self, request: &GenerationRequest) -> Result<()> {
        let prefix = request.names().options;
        for (name, value) in &request.options {
            let Some(option) = self.model.options.iter().find(|option| option.name == *name) else {
                match value.on_unknown {
                    OnUnknown::Note => self.ignore(name, Edit::Option(name.clone(), None)),
                    OnUnknown::Refuse => {
                        let known: Vec<_> = self.model.options.iter().map(|option| option.name.as_str()).collect();
                        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                        let message = format!("model {} has no option {name:?}; its options: {known}", self.model.id);
                        return Err(Error::invalid(format!("{prefix}.{name}"), message));
                    }
                }
                continue;
            };
            if !option.values.is_empty() && !option.values.contains(&value.json) {
                let path = match value.on_unknown {
                    OnUnknown::Note => name.clone(),
                    OnUnknown::Refuse => format!("{prefix}.{name}"),
                };
                let allowed = option.values.join(", ");
                let message =
                    format!("{path} must be one of {allowed} for model {}, not {}", self.model.id, value.json);
                return Err(Error::invalid(path, message));
            }
        }
        Ok(())
    }

    fn ignore(&mut self, name: &str, unset: Edit) {
        let message = format!("model {} does not use {name}; it had no effect", self.model.id);
        self.notes.push(Note::about(NoteKind::Ignored, name, message));
        self.edits.push(unset);
    }

    fn refusal(&self, name: &'static str) -> Error {
        let message = format!("model {} does not take {name}", self.model.id);
        Error::invalid(name, message).with_code("unsupported_parameter")
    }
}
