//! Which backend and model a request goes to, and what the names of models stand for.

use std::sync::Arc;
use std::time::Duration;

use crate::{
    Allowance, Backend, Error, ErrorKind, GenerationRequest, ModelInfo, Note, NoteKind, ParamNames, Result,
    RetiredModel, Snapshot, UnknownModel,
};

/// When a caller may try again who came while the model that would be chosen for them was not there.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// Where a request goes, and why.
#[derive(Clone)]
pub struct Route {
    /// The backend.
    pub backend: Arc<dyn Backend>,
    /// The model, one of the backend's.
    pub model: Arc<ModelInfo>,
    /// Why, in a few words.
    pub reason: &'static str,
    /// Set when another model took the place of the one that was asked for, or of the default.
    pub note: Option<Note>,
}

/// One model of one backend.
type Candidate = (Arc<dyn Backend>, Arc<ModelInfo>);

impl Snapshot {
    /// Chooses the backend and model of a request.
    ///
    /// A named backend is binding. A named model is looked up among aliases, then as `backend/model`, then as a model id
    /// in backend order. What is not found is replaced by the default or refused, as the snapshot says; one that a backend
    /// had once is refused with its successor.
    ///
    /// # Errors
    /// `InvalidRequest` with code `backend_not_found`, `ModelNotFound`, or `NotReady` when there is no model to choose.
    pub fn route(&self, request: &GenerationRequest) -> Result<Route> {
        let candidates = self.candidates(request)?;
        let Some(asked) = request.model.as_deref() else { return self.default_route(request, &candidates) };
        if let Some((backend, model)) = self.find(&candidates, asked) {
            let reason = if request.backend.is_some() { "requested backend and model" } else { "requested model" };
            return Ok(Route { backend, model, reason, note: None });
        }
        if let Some(error) = self.retired(request, asked) {
            return Err(error);
        }
        match self.unknown_model {
            UnknownModel::Refuse => Err(unknown_model(request.names(), asked, &candidates)),
            UnknownModel::UseDefault => {
                let route = self.default_route(request, &candidates)?;
                let message = format!("model {asked:?} is not known here; {} took its place", route.model.id);
                let note = Note::about(NoteKind::Replaced, request.names().model, message);
                Ok(Route { reason: "unknown model, default used", note: Some(note), ..route })
            }
        }
    }

    /// Adds to a refusal for want of a task the models that the caller could name instead.
    pub(crate) fn with_other_models(&self, error: Error, allowance: &Allowance, request: &GenerationRequest) -> Error {
        if error.kind() != ErrorKind::Unsupported || error.hint().is_some() {
            return error;
        }
        let mut able = self.models();
        able.retain(|(backend, model)| {
            model.tasks.contains(&request.task) && allowance.allows_model(self, backend.id(), &model.id)
        });
        let names: Vec<_> = able.iter().map(|(backend, model)| format!("{}/{}", backend.id(), model.id)).collect();
        let (task, names) = (request.task.name(), names.join(", "));
        error.with_hint(match able.as_slice() {
            [] => format!("no model here does {task}"),
            [_, ..] => format!("{task} is done by {names}"),
        })
    }

    /// Where a request goes whose model is the server's to choose: the default, or else the first model.
    fn default_route(&self, request: &GenerationRequest, candidates: &[Candidate]) -> Result<Route> {
        let not_ready = |message: String| Error::new(ErrorKind::NotReady, message).with_retry_after(RETRY_AFTER);
        let Some((backend, model)) = candidates.first().cloned() else {
            return Err(not_ready(match &request.backend {
                Some(backend) => format!("backend {backend} has no models now"),
                None => "no backend has a model now".to_owned(),
            }));
        };
        let default = self.default_model.as_deref();
        if let Some((backend, model)) = default.and_then(|default| self.find(candidates, default)) {
            let reason = if request.backend.is_some() { "requested backend" } else { "default model" };
            return Ok(Route { backend, model, reason, note: None });
        }
        match (default, &request.backend, self.unknown_model) {
            (_, Some(_), _) => Ok(Route { backend, model, reason: "requested backend", note: None }),
            (None, None, _) => Ok(Route { backend, model, reason: "default model", note: None }),
            (Some(default), None, UnknownModel::Refuse) => {
                Err(not_ready(format!("the default model {default:?} is not here now")))
            }
            (Some(default), None, UnknownModel::UseDefault) => {
                let message = format!("the default model {default:?} is not here now; {} took its place", model.id);
                let note = Note::about(NoteKind::Replaced, request.names().model, message);
                Ok(Route { backend, model, reason: "default model not here, first one used", note: Some(note) })
            }
        }
    }

    /// The refusal of a model that was taken away, where the name is of such a one.
    fn retired(&self, request: &GenerationRequest, asked: &str) -> Option<Error> {
        let name = self.meaning(asked);
        let is_asked = |id: &str| request.backend.as_deref().is_none_or(|backend| backend == id);
        let backends = self.backends.iter().filter(|backend| is_asked(backend.id()));
        let mut retired = backends.flat_map(|backend| backend.retired().into_iter().map(move |model| (backend, model)));
        let is_named = |(backend, model): &(&Arc<dyn Backend>, RetiredModel)| {
            name == model.id || is_qualified(name, backend.id(), &model.id)
        };
        retired.find(is_named).map(|(_, model)| retired_model(request.names(), asked, &model))
    }

    /// The backend and model that a request names; nothing where it names no model, or one that nobody has.
    pub(crate) fn named(&self, request: &GenerationRequest) -> Option<Candidate> {
        let asked = request.model.as_deref()?;
        self.find(&self.candidates(request).ok()?, asked)
    }

    /// Whether a name stands for this model of this backend: its id, `backend/id`, or an alias of one of these.
    pub fn is_name_of(&self, name: &str, backend: &str, model: &str) -> bool {
        let name = self.meaning(name);
        name == model || is_qualified(name, backend, model)
    }

    /// The configured default, where nobody has it.
    pub fn missing_default(&self) -> Option<&str> {
        let default = self.default_model.as_deref()?;
        self.find(&self.models(), default).is_none().then_some(default)
    }

    /// What an alias stands for; every other name stands for itself.
    fn meaning<'a>(&'a self, name: &'a str) -> &'a str {
        self.aliases.get(name).map_or(name, String::as_str)
    }

    fn find(&self, candidates: &[Candidate], name: &str) -> Option<Candidate> {
        let name = self.meaning(name);
        let qualified = |(backend, model): &&Candidate| is_qualified(name, backend.id(), &model.id);
        let plain = |(_, model): &&Candidate| model.id == name;
        candidates.iter().find(qualified).or_else(|| candidates.iter().find(plain)).cloned()
    }

    /// The models that a request can go to: all, or those of the backend that it names.
    fn candidates(&self, request: &GenerationRequest) -> Result<Vec<Candidate>> {
        let Some(id) = request.backend.as_deref() else { return Ok(self.models()) };
        let Some(backend) = self.backends.iter().find(|backend| backend.id() == id) else {
            let name = request.names().backend;
            let known: Vec<_> = self.backends.iter().map(|backend| backend.id()).collect();
            let message = format!("{name} {id:?} does not exist; there are: {}", known.join(", "));
            return Err(Error::invalid(name, message).with_code("backend_not_found"));
        };
        Ok(backend.models().into_iter().map(|model| (Arc::clone(backend), model)).collect())
    }
}

fn is_qualified(name: &str, backend: &str, model: &str) -> bool {
    name.strip_prefix(backend).and_then(|rest| rest.strip_prefix('/')) == Some(model)
}

fn unknown_model(names: &'static ParamNames, asked: &str, candidates: &[Candidate]) -> Error {
    let known: Vec<_> = candidates.iter().map(|(_, model)| model.id.as_str()).collect();
    let message = format!("model {asked:?} is not known here; there are: {}", known.join(", "));
    Error::new(ErrorKind::ModelNotFound, message).with_param(names.model)
}

fn retired_model(names: &'static ParamNames, asked: &str, model: &RetiredModel) -> Error {
    let since = model.since.as_deref().map_or_else(String::new, |since| format!(" since {since}"));
    let gone = format!("model {asked:?} is retired by its provider{since}");
    let error = |message: String| Error::new(ErrorKind::ModelNotFound, message).with_param(names.model);
    match &model.successor {
        Some(successor) => error(format!("{gone}; its successor is {successor}")),
        None => error(gone),
    }
}
