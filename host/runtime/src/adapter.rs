//! An adapter plugin as a backend.

use std::sync::Arc;

use async_trait::async_trait;
use easel_core::{
    Backend, Context, Error, ErrorKind, GenerationRequest, Image, Job, Made, ModelInfo, Money, Note, NoteKind, Output,
    ParamNames, Readiness, Record, Result, RetiredModel, Size, Ticket,
};
use wasmtime::component::Resource;

use crate::bindings::easel::plugin::types::PluginError;
use crate::call::{Surroundings, while_wanted};
use crate::fault::{callers_word, clean, fault, of_value};
use crate::host::{ImageRequest, ImageResult};
use crate::jobs::Polling;
use crate::models::{self, Models};
use crate::pixels;
use crate::plugin::Plugin;
use crate::refusal::Refusal;

/// The most time that an adapter may take to name its models.
const MODELS_TIME: std::time::Duration = std::time::Duration::from_secs(10);

/// One generation of an adapter. A snapshot that holds it goes on using it after the next one came.
pub(crate) struct Adapter(pub(crate) Arc<Plugin>);

#[async_trait]
impl Backend for Adapter {
    fn id(&self) -> &str {
        &self.0.id
    }

    fn models(&self) -> Vec<Arc<ModelInfo>> {
        self.0.models().to_vec()
    }

    fn retired(&self) -> Vec<RetiredModel> {
        self.0.retired().to_vec()
    }

    fn readiness(&self) -> Readiness {
        match self.0.not_ready() {
            Some(reason) => Readiness::NotReady(reason.to_owned()),
            None => Readiness::Ready,
        }
    }

    async fn estimate(
        &self,
        context: &Context,
        request: &GenerationRequest,
        model: &Arc<ModelInfo>,
    ) -> Result<Option<Money>> {
        match self.0.compiled.linked.abilities.catalogue {
            Some(_) => while_wanted(context, self.0.estimate(context, request, model)).await,
            None => Ok(model.price_of(request.count)),
        }
    }

    async fn generate(&self, context: &Context, job: Job) -> Result<Output> {
        self.begin(context, job, None).await
    }

    async fn generate_recorded(&self, context: &Context, job: Job, record: Arc<dyn Record>) -> Result<Output> {
        self.begin(context, job, Some(record)).await
    }

    async fn resume(&self, context: &Context, job: Job, ticket: Ticket, record: Arc<dyn Record>) -> Result<Output> {
        let polling = Polling::new(&self.0, context, &job, Some(record));
        self.finish(context, polling, std::future::ready(Ok(ImageResult::of_ticket(ticket))), job).await
    }
}

impl Adapter {
    async fn begin(&self, context: &Context, job: Job, record: Option<Arc<dyn Record>>) -> Result<Output> {
        let polling = Polling::new(&self.0, context, &job, record);
        let Job { request, model, permit } = job.clone();
        let names = request.names();
        let called = self.0.call_context(context, self.0.limits.wall);
        let progress = polling.progress();
        let request = ImageRequest { request, model: Some(model.id.clone()), needs: self.0.compiled.manifest.needs };
        let compiled = Arc::clone(&self.0.compiled);
        let call = self.0.call(
            Surroundings::of(context, Some(permit.clone())).charging(&polling.spent),
            Box::new(move |store, instance| {
                Box::pin(async move {
                    let guest = compiled.linked.exports.adapter()?.load(&mut *store, instance)?;
                    let request = store.data_mut().table.push(request)?;
                    let progress = store.data_mut().table.push(progress)?;
                    let (request, progress) =
                        (Resource::new_borrow(request.rep()), Resource::new_borrow(progress.rep()));
                    let answer = guest.call_generate(&mut *store, &called, request, progress).await?;
                    Ok(match answer {
                        Ok(result) => Ok(store.data_mut().table.delete(result)?),
                        Err(error) => Err(of_value(error, store.data(), names)),
                    })
                })
            }),
        );
        self.finish(context, polling, async { call.await? }, job).await
    }

    /// Polls where there is something to poll, and reads the pictures.
    async fn finish(
        &self,
        context: &Context,
        mut polling: Polling,
        first: impl Future<Output = Result<ImageResult>> + Send,
        job: Job,
    ) -> Result<Output> {
        let Job { request, permit, .. } = job;
        let asked =
            Asked { size: request.size, format: request.format, quality: request.compression, names: request.names() };
        while_wanted(context, async {
            let result = polling.finish(first.await?).await?;
            let id = Arc::clone(&self.0.id);
            // Reading and converting pictures is slow, and the permit stands for that work as well.
            let work = move || {
                let _permit = permit;
                output(&id, result, &asked)
            };
            self.0.shared.guests.spawn_blocking(work).await.map_err(|error| {
                Error::new(ErrorKind::Internal, "the host failed to read a plugin's picture").with_source(error)
            })?
        })
        .await
    }
}

/// What a request asked of its pictures.
pub(crate) struct Asked {
    pub(crate) size: Option<Size>,
    pub(crate) format: Option<easel_core::ImageFormat>,
    pub(crate) quality: Option<u8>,
    pub(crate) names: &'static ParamNames,
}

/// What the plugin made, in the words of core: every picture is read, and brought into the format that was asked for.
pub(crate) fn output(plugin: &str, result: ImageResult, asked: &Asked) -> Result<Output> {
    if result.pending.is_some() {
        return Err(fault(plugin, "left its answer pending where nobody polls"));
    }
    let mut notes = notes(result.notes, asked.names);
    let mut images = Vec::new();
    for (number, (blob, info)) in result.images.into_iter().enumerate() {
        let unreadable = |error: String| {
            let message = format!("picture {number} of plugin {plugin} cannot be read: {}", clean(&error, 200));
            Error::new(ErrorKind::Upstream, message)
        };
        let mut image = pixels::inspect(blob.bytes).map_err(unreadable)?;
        if let Some(format) = asked.format.filter(|format| *format != image.format) {
            image = pixels::convert(&image, format, asked.quality).map_err(unreadable)?;
        }
        notes.extend(size_note(&image, asked));
        let revised_prompt = info.revised_prompt.map(|prompt| clean(&prompt, easel_core::MAX_PROMPT_CHARS));
        images.push(Made { image, seed: info.seed, revised_prompt });
    }
    notes.dedup();
    Ok(Output { images, notes, cost: result.cost, usage: result.usage })
}

fn size_note(image: &Image, asked: &Asked) -> Option<Note> {
    let size = asked.size.filter(|size| *size != image.size)?;
    let message = format!("the backend made {}, not {size}", image.size);
    Some(Note::about(NoteKind::Adjusted, asked.names.size, message))
}

/// A plugin's notes, with the parameters in the caller's words.
pub(crate) fn notes(notes: Vec<(Option<String>, String)>, names: &'static ParamNames) -> Vec<Note> {
    let note = |(param, message): (Option<String>, String)| match param {
        Some(param) => Note::about(NoteKind::Adjusted, callers_word(names, &param), message),
        None => Note::general(NoteKind::Adjusted, message),
    };
    notes.into_iter().map(note).collect()
}

impl Plugin {
    /// Asks an adapter for its models.
    pub(crate) async fn ask_models(self: &Arc<Self>) -> Result<Models, Refusal> {
        let answer = self.models_json().await.map_err(|error| Refusal::new(error.message()))?;
        let json = answer
            .map_err(|error| Refusal::by_plugin(format!("it names no models: {}", clean(&error.message, 500))))?;
        models::parse(&json)
            .map_err(|error| Refusal::new(format!("its models are not as wit/schema/models.json says: {error}")))
    }

    async fn models_json(self: &Arc<Self>) -> Result<Result<String, PluginError>> {
        let compiled = Arc::clone(&self.compiled);
        self.call(
            self.of_the_host(MODELS_TIME),
            Box::new(move |store, instance| {
                Box::pin(async move {
                    let guest = compiled.linked.exports.adapter()?.load(&mut *store, instance)?;
                    guest.call_models(&mut *store).await
                })
            }),
        )
        .await
    }
}
