//! Which backend and model a request goes to.

use std::sync::Arc;
use std::time::Duration;

use crate::{
    Backend, Error, ErrorKind, GenerationRequest, ModelInfo, Note, NoteKind, ParamNames, Result, Snapshot, UnknownModel,
};

/// When a caller may try again who came while there was no model at all.
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
    /// Set when another model took the place of the one that was asked for.
    pub note: Option<Note>,
}

impl Snapshot {
    /// Chooses the backend and model of a request.
    ///
    /// A named backend is binding. A named model is looked up among aliases, then as `backend/model`, then as a model id
    /// in backend order. What is not found is replaced by the default or refused, as the snapshot says.
    ///
    /// # Errors
    /// `InvalidRequest` with code `backend_not_found`, `ModelNotFound`, or `NotReady` when there is no model at all.
    pub fn route(&self, request: &GenerationRequest) -> Result<Route> {
        let names = request.names();
        let backend = request.backend.as_deref().map(|id| self.backend(names, id)).transpose()?;
        let candidates = match &backend {
            Some(backend) => backend.models().into_iter().map(|model| (Arc::clone(backend), model)).collect(),
            None => self.models(),
        };
        if let Some(asked) = request.model.as_deref() {
            let id = self.aliases.get(asked).map_or(asked, String::as_str);
            if let Some((backend, model)) = find(&candidates, id) {
                let reason = if request.backend.is_some() { "requested backend and model" } else { "requested model" };
                return Ok(Route { backend, model, reason, note: None });
            }
            if self.unknown_model == UnknownModel::Refuse {
                return Err(unknown_model(names, asked, &candidates));
            }
        }
        let default = self.default_model.as_deref().and_then(|default| find(&candidates, default));
        let Some((backend, model)) = default.or_else(|| candidates.first().cloned()) else {
            let message = match &request.backend {
                Some(backend) => format!("backend {backend} has no models now"),
                None => "no backend has a model now".to_owned(),
            };
            return Err(Error::new(ErrorKind::NotReady, message).with_retry_after(RETRY_AFTER));
        };
        let note = request.model.as_deref().map(|asked| {
            let message = format!("model {asked:?} is not known here; {} took its place", model.id);
            Note::about(NoteKind::Replaced, names.model, message)
        });
        let reason = match (&note, &request.backend) {
            (Some(_), _) => "unknown model, default used",
            (None, Some(_)) => "requested backend",
            (None, None) => "default model",
        };
        Ok(Route { backend, model, reason, note })
    }

    fn backend(&self, names: &'static ParamNames, id: &str) -> Result<Arc<dyn Backend>> {
        self.backends.iter().find(|backend| backend.id() == id).cloned().ok_or_else(|| {
            let known: Vec<_> = self.backends.iter().map(|backend| backend.id()).collect();
            let message = format!("{} {id:?} does not exist; there are: {}", names.backend, known.join(", "));
            Error::invalid(names.backend, message).with_code("backend_not_found")
        })
    }
}

type Candidate = (Arc<dyn Backend>, Arc<ModelInfo>);

fn find(candidates: &[Candidate], asked: &str) -> Option<Candidate> {
    let qualified = |(backend, model): &&Candidate| {
        asked.strip_prefix(backend.id()).and_then(|rest| rest.strip_prefix('/')) == Some(model.id.as_str())
    };
    let plain = |(_, model): &&Candidate| model.id == asked;
    candidates.iter().find(qualified).or_else(|| candidates.iter().find(plain)).cloned()
}

fn unknown_model(names: &'static ParamNames, asked: &str, candidates: &[Candidate]) -> Error {
    let known: Vec<_> = candidates.iter().map(|(_, model)| model.id.as_str()).collect();
    let message = format!("model {asked:?} is not known here; there are: {}", known.join(", "));
    Error::new(ErrorKind::ModelNotFound, message).with_param(names.model)
}
