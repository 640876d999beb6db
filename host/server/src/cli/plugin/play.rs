//! One request through one plugin in the real runtime, without a server: an adapter on the walk of every request, a
//! transformer by itself, before and after a backend that is not there.

use std::sync::Arc;
use std::time::Duration;

use easel_core::{
    Admission, Context, Error, GenerationRequest, Made, Money, Note, Pipeline, Principal, Progress, RequestId, Review,
    Snapshot, Transformer, Verdict, World,
};
use easel_runtime::workbench::Subject;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::NoKeeper;

/// The most time that a request may take.
const TIME_LIMIT: Duration = Duration::from_secs(600);

/// What came out.
#[derive(Debug, Default)]
pub(super) struct Played {
    /// The request as a transformer left it; nothing where it answered or refused.
    pub(super) request: Option<GenerationRequest>,
    pub(super) pictures: Vec<Made>,
    pub(super) notes: Vec<Note>,
    pub(super) cost: Option<Money>,
}

/// Plays a request. `pictures` are what a transformer is given afterwards.
pub(super) async fn play(
    subject: &Subject,
    request: GenerationRequest,
    pictures: Vec<Made>,
    seed: u64,
) -> Result<Played, Error> {
    let context = Context {
        id: RequestId::new("workbench").expect("a plain word makes a request id"),
        principal: Principal::local(),
        deadline: Instant::now() + TIME_LIMIT,
        cancellation: CancellationToken::new(),
        progress: Progress::new(),
        fallback_seed: seed,
        trace_parent: None,
    };
    if let Some(transformer) = subject.transformer() {
        return transform(&context, transformer.as_ref(), request, pictures).await;
    }
    let snapshot = Snapshot { backends: subject.backend().into_iter().collect(), ..Snapshot::empty() };
    let admission = Admission::new(1, std::collections::BTreeMap::new());
    let pipeline = Pipeline::new(Arc::new(World::new(snapshot)), admission, Arc::new(NoKeeper));
    let made = pipeline.run(&context, request).await?;
    Ok(Played { request: None, pictures: made.images, notes: made.notes, cost: made.cost })
}

async fn transform(
    context: &Context,
    transformer: &dyn Transformer,
    request: GenerationRequest,
    pictures: Vec<Made>,
) -> Result<Played, Error> {
    let (request, notes) = match transformer.before(context, &request).await? {
        Verdict::Next { edits, notes } => (request.edit(edits)?, notes),
        Verdict::Answer(output) => {
            let (pictures, notes, cost) = (output.images, output.notes, output.cost);
            return Ok(Played { request: None, pictures, notes, cost });
        }
        Verdict::Reject(error) => return Err(error),
    };
    if pictures.is_empty() {
        return Ok(Played { request: Some(request), pictures, notes, cost: None });
    }
    match transformer.after(context, &request, &pictures).await? {
        Review::Pass => Ok(Played { request: Some(request), pictures, notes, cost: None }),
        Review::Replace(output) => {
            let notes = notes.into_iter().chain(output.notes).collect();
            Ok(Played { request: Some(request), pictures: output.images, notes, cost: output.cost })
        }
        Review::Reject(error) => Err(error),
    }
}
