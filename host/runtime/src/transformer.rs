//! A transformer plugin on the walk.

use std::sync::Arc;

use async_trait::async_trait;
use easel_core::{Context, Error, ErrorKind, GenerationRequest, Result, Transformer, Verdict};
use wasmtime::component::Resource;

use crate::adapter::{answered, notes};
use crate::bindings::exports::easel::plugin::transform;
use crate::call::{Surroundings, call_context, while_wanted};
use crate::fault::of_value;
use crate::host::{Edits, ImageRequest, ImageResult};
use crate::plugin::Plugin;

/// One generation of a transformer. A snapshot that holds it goes on using it after the next one came.
pub(crate) struct TransformerPlugin(pub(crate) Arc<Plugin>);

/// What a call came to, out of the store.
enum Decision {
    Next(Edits),
    Respond(ImageResult),
    Reject(Error),
}

#[async_trait]
impl Transformer for TransformerPlugin {
    fn id(&self) -> &str {
        &self.0.id
    }

    async fn before(&self, context: &Context, request: &GenerationRequest) -> Result<Verdict> {
        let names = request.names();
        let called = call_context(context, self.0.limits.wall);
        let request = ImageRequest { request: request.clone(), model: request.model.clone() };
        let compiled = Arc::clone(&self.0.compiled);
        let call = self.0.call(
            Surroundings::of(context, None),
            Box::new(move |store, instance| {
                Box::pin(async move {
                    let guest = compiled.linked.exports.transformer()?.load(&mut *store, instance)?;
                    let request = store.data_mut().table.push(request)?;
                    let edits = store.data_mut().table.push(Edits::default())?;
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
            Decision::Next(edits) => Ok(Verdict::Next { edits: edits.edits, notes: notes(edits.notes, names) }),
            Decision::Reject(error) => Ok(Verdict::Reject(error)),
            Decision::Respond(result) => {
                let id = Arc::clone(&self.0.id);
                let read = self.0.shared.guests.spawn_blocking(move || answered(&id, result, names));
                let output = read.await.map_err(|error| {
                    Error::new(ErrorKind::Internal, "the host failed to read a plugin's picture").with_source(error)
                })??;
                Ok(Verdict::Answer(output))
            }
        }
    }
}
