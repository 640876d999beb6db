//! A transformer plugin on the walk.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use easel_core::{
    Context, Error, ErrorKind, GenerationRequest, Made, Output, ParamNames, Result, Review, Transformer, Verdict,
};
use wasmtime::component::Resource;

use crate::adapter::{Asked, notes, output};
use crate::bindings::easel::plugin::types::CallContext;
use crate::bindings::exports::easel::plugin::{transform, transform_result};
use crate::call::{Surroundings, while_wanted};
use crate::fault::{clean, of_value};
use crate::host::{Edits, ImageRequest, ImageResult};
use crate::manifest::Needs;
use crate::plugin::{Compiled, Plugin};
use crate::refusal::Refusal;

/// The most time that a transformer may take to look at its config.
const CHECK_TIME: Duration = Duration::from_secs(10);

/// One generation of a transformer. A snapshot that holds it goes on using it after the next one came.
pub(crate) struct TransformerPlugin(pub(crate) Arc<Plugin>);

/// What each question about a request begins with.
struct Question {
    /// The caller's words for the parameters.
    names: &'static ParamNames,
    /// What of the request the plugin sees.
    needs: Needs,
    called: CallContext,
    request: ImageRequest,
    compiled: Arc<Compiled>,
}

/// What a call came to, out of the store.
enum Decision {
    Next(Edits),
    Respond(ImageResult),
    Reject(Error),
}

/// The same of a look at a result.
enum Reviewed {
    Pass,
    Replace(ImageResult),
    Reject(Error),
}

#[async_trait]
impl Transformer for TransformerPlugin {
    fn id(&self) -> &str {
        &self.0.id
    }

    async fn before(&self, context: &Context, request: &GenerationRequest) -> Result<Verdict> {
        let Question { names, needs, called, request: asked, compiled } = self.question(context, request);
        let edits = Edits::of(request, needs);
        let call = self.0.call(
            Surroundings::of(context, None),
            Box::new(move |store, instance| {
                Box::pin(async move {
                    let guest = compiled.linked.exports.transformer()?.request.load(&mut *store, instance)?;
                    let request = store.data_mut().table.push(asked)?;
                    let edits = store.data_mut().table.push(edits)?;
                    let (lent, lent_edits) = (Resource::new_borrow(request.rep()), Resource::new_borrow(edits.rep()));
                    let verdict = guest.call_on_request(&mut *store, &called, lent, lent_edits).await?;
                    Ok(match verdict {
                        transform::Verdict::Next => Decision::Next(store.data_mut().table.delete(edits)?),
                        transform::Verdict::Respond(result) => {
                            Decision::Respond(store.data_mut().table.delete(result)?)
                        }
                        transform::Verdict::Reject(error) => Decision::Reject(of_value(error, store.data(), names)),
                    })
                })
            }),
        );
        match while_wanted(context, call).await? {
            Decision::Next(edits) => {
                let (edits, told) = edits.finish();
                Ok(Verdict::Next { edits, notes: notes(told, names) })
            }
            Decision::Reject(error) => Ok(Verdict::Reject(error)),
            Decision::Respond(result) => {
                let asked = Asked { size: None, format: None, quality: None, names };
                self.read(result, asked).await.map(Verdict::Answer)
            }
        }
    }

    async fn after(&self, context: &Context, request: &GenerationRequest, images: &[Made]) -> Result<Review> {
        if self.0.compiled.linked.exports.transformer().is_ok_and(|exports| exports.result.is_none()) {
            return Ok(Review::Pass);
        }
        let Question { names, needs, called, request: done, compiled } = self.question(context, request);
        let asked = Asked { size: None, format: request.format, quality: request.compression, names };
        let result = ImageResult::lent(images, needs);
        let call = self.0.call(
            Surroundings::of(context, None),
            Box::new(move |store, instance| {
                Box::pin(async move {
                    let Some(exports) = &compiled.linked.exports.transformer()?.result else {
                        return Ok(Reviewed::Pass);
                    };
                    let guest = exports.load(&mut *store, instance)?;
                    let request = store.data_mut().table.push(done)?;
                    let result = store.data_mut().table.push(result)?;
                    let (lent, lent_result) = (Resource::new_borrow(request.rep()), Resource::new_borrow(result.rep()));
                    let verdict = guest.call_on_result(&mut *store, &called, lent, lent_result).await?;
                    Ok(match verdict {
                        transform_result::ResultVerdict::Pass => Reviewed::Pass,
                        transform_result::ResultVerdict::Replace(result) => {
                            Reviewed::Replace(store.data_mut().table.delete(result)?)
                        }
                        transform_result::ResultVerdict::Reject(error) => {
                            Reviewed::Reject(of_value(error, store.data(), names))
                        }
                    })
                })
            }),
        );
        match while_wanted(context, call).await? {
            Reviewed::Pass => Ok(Review::Pass),
            Reviewed::Reject(error) => Ok(Review::Reject(error)),
            Reviewed::Replace(result) => self.read(result, asked).await.map(Review::Replace),
        }
    }
}

impl TransformerPlugin {
    fn question(&self, context: &Context, request: &GenerationRequest) -> Question {
        let needs = self.0.compiled.manifest.needs;
        Question {
            names: request.names(),
            needs,
            called: self.0.call_context(context, self.0.limits.wall),
            request: ImageRequest { request: request.clone(), model: request.model.clone(), needs },
            compiled: Arc::clone(&self.0.compiled),
        }
    }

    /// Reads a transformer's own pictures.
    async fn read(&self, result: ImageResult, asked: Asked) -> Result<Output> {
        let id = Arc::clone(&self.0.id);
        let read = self.0.shared.guests.spawn_blocking(move || output(&id, result, &asked));
        read.await.map_err(|error| {
            Error::new(ErrorKind::Internal, "the host failed to read a plugin's picture").with_source(error)
        })?
    }
}

impl Plugin {
    /// Asks a transformer whether it takes its config.
    pub(crate) async fn ask_whether_config_is_right(self: &Arc<Self>) -> Result<(), Refusal> {
        let compiled = Arc::clone(&self.compiled);
        let answer = self
            .call(
                self.of_the_host(CHECK_TIME),
                Box::new(move |store, instance| {
                    Box::pin(async move {
                        let guest = compiled.linked.exports.transformer()?.request.load(&mut *store, instance)?;
                        guest.call_check(&mut *store).await
                    })
                }),
            )
            .await
            .map_err(|error| Refusal::new(error.message()))?;
        answer.map_err(|error| Refusal::new(format!("it does not take its config: {}", clean(&error.message, 500))))
    }
}
