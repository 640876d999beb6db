//! The other sides of the seams: a backend, a transformer and a keeper that do what a test tells them, and a house to
//! put them in.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    Admission, Backend, Context, Control, Delivery, Determinism, Draft, Error, ErrorKind, Generation,
    GenerationRequest, Image, ImageFormat, Job, Keeper, Kept, Made, ModelInfo, ModelInputs, ModelOption, Numbers,
    OnFailure, Output, ParamNames, Pipeline, Principal, Progress, Readiness, RequestId, Result, RetiredModel, Review,
    Size, SizeRule, Snapshot, Stage, Task, Transformer, Verdict, World,
};

/// What `run` may take before the deadline ends it.
pub const PATIENCE: Duration = Duration::from_secs(60);

type Making = Pin<Box<dyn Future<Output = Result<Output>> + Send>>;

/// A backend that makes one-byte pictures, or whatever it is told to.
pub struct FakeBackend {
    id: String,
    models: Vec<Arc<ModelInfo>>,
    retired: Vec<RetiredModel>,
    readiness: Readiness,
    make: Box<dyn Fn(Context, Job) -> Making + Send + Sync>,
    seen: Mutex<Vec<GenerationRequest>>,
}

impl FakeBackend {
    pub fn new(id: &str, models: &[ModelInfo]) -> Self {
        Self {
            id: id.to_owned(),
            models: models.iter().cloned().map(Arc::new).collect(),
            retired: Vec::new(),
            readiness: Readiness::Ready,
            make: Box::new(|_, job| Box::pin(async move { Ok(output(job.request.count)) })),
            seen: Mutex::default(),
        }
    }

    /// Models that it had once.
    pub fn without(mut self, retired: &[RetiredModel]) -> Self {
        self.retired = retired.to_vec();
        self
    }

    pub fn standing(mut self, readiness: Readiness) -> Self {
        self.readiness = readiness;
        self
    }

    pub fn making<F>(mut self, make: impl Fn(Context, Job) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Output>> + Send + 'static,
    {
        self.make = Box::new(move |context, job| Box::pin(make(context, job)));
        self
    }

    /// Every request goes on only when the gate lets one more through.
    pub fn behind(self, gate: &Arc<Semaphore>) -> Self {
        let gate = Arc::clone(gate);
        self.making(move |_, job| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.expect("tests never close a gate").forget();
                Ok(output(job.request.count))
            }
        })
    }

    /// The requests that reached it, in order.
    pub fn seen(&self) -> Vec<GenerationRequest> {
        self.seen.lock().unwrap().clone()
    }
}

#[async_trait]
impl Backend for FakeBackend {
    fn id(&self) -> &str {
        &self.id
    }

    fn models(&self) -> Vec<Arc<ModelInfo>> {
        self.models.clone()
    }

    fn retired(&self) -> Vec<RetiredModel> {
        self.retired.clone()
    }

    fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    async fn generate(&self, context: &Context, job: Job) -> Result<Output> {
        self.seen.lock().unwrap().push(job.request.clone());
        (self.make)(context.clone(), job).await
    }
}

type Before = Box<dyn Fn(&GenerationRequest) -> Result<Verdict> + Send + Sync>;
type After = Box<dyn Fn(&[Made]) -> Result<Review> + Send + Sync>;

/// A transformer that decides what it is told to, after a while.
pub struct FakeTransformer {
    id: String,
    takes: Duration,
    takes_after: Duration,
    before: Before,
    after: After,
}

impl FakeTransformer {
    pub fn new(id: &str) -> Self {
        let pass = |_: &GenerationRequest| Ok(Verdict::Next { edits: Vec::new(), notes: Vec::new() });
        Self {
            id: id.to_owned(),
            takes: Duration::ZERO,
            takes_after: Duration::ZERO,
            before: Box::new(pass),
            after: Box::new(|_| Ok(Review::Pass)),
        }
    }

    pub fn taking(mut self, takes: Duration) -> Self {
        self.takes = takes;
        self
    }

    /// How long it takes on the way out.
    pub fn taking_after(mut self, takes: Duration) -> Self {
        self.takes_after = takes;
        self
    }

    pub fn before(mut self, before: impl Fn(&GenerationRequest) -> Result<Verdict> + Send + Sync + 'static) -> Self {
        self.before = Box::new(before);
        self
    }

    pub fn after(mut self, after: impl Fn(&[Made]) -> Result<Review> + Send + Sync + 'static) -> Self {
        self.after = Box::new(after);
        self
    }

    pub fn stage(self, on_failure: OnFailure) -> Stage {
        Stage { transformer: Arc::new(self), time_limit: Duration::from_secs(1), on_failure }
    }
}

#[async_trait]
impl Transformer for FakeTransformer {
    fn id(&self) -> &str {
        &self.id
    }

    async fn before(&self, _: &Context, request: &GenerationRequest) -> Result<Verdict> {
        tokio::time::sleep(self.takes).await;
        (self.before)(request)
    }

    async fn after(&self, _: &Context, _: &GenerationRequest, images: &[Made]) -> Result<Review> {
        tokio::time::sleep(self.takes_after).await;
        (self.after)(images)
    }
}

/// A keeper that remembers how many pictures it kept, or has a full disk.
#[derive(Default)]
pub struct FakeKeeper {
    pub is_full: bool,
    pub kept: Mutex<Vec<Generation>>,
}

#[async_trait]
impl Keeper for FakeKeeper {
    async fn keep(&self, _: &Context, _: &GenerationRequest, generation: &Generation) -> Result<Vec<Kept>> {
        if self.is_full {
            return Err(Error::new(ErrorKind::Storage, "the disk is full"));
        }
        self.kept.lock().unwrap().push(generation.clone());
        let kept = |number| Kept { name: format!("{number}.png"), sha256: "0".repeat(64) };
        Ok((0..generation.images.len()).map(kept).collect())
    }
}

/// A pipeline with everything around it in reach.
pub struct House {
    pub pipeline: Pipeline,
    pub keeper: Arc<FakeKeeper>,
}

impl House {
    /// With limit 2 for every backend and an empty disk.
    pub fn new(snapshot: Snapshot) -> Self {
        Self::with_keeper(snapshot, FakeKeeper::default())
    }

    pub fn with_keeper(snapshot: Snapshot, keeper: FakeKeeper) -> Self {
        let keeper = Arc::new(keeper);
        let admission = Admission::new(2, BTreeMap::new());
        let world = Arc::new(World::new(snapshot));
        Self { pipeline: Pipeline::new(world, admission, Arc::clone(&keeper) as _), keeper }
    }

    pub async fn run(&self, draft: Draft) -> Result<Generation> {
        self.pipeline.run(&context(), checked(draft)).await
    }
}

/// A world of these backends, and nothing else.
pub fn world_of(backends: Vec<Arc<FakeBackend>>) -> Snapshot {
    Snapshot { backends: backends.into_iter().map(|backend| backend as _).collect(), ..Snapshot::empty() }
}

/// A house with one ready backend `studio` that has the model `brush`.
pub fn studio() -> (House, Arc<FakeBackend>) {
    let backend = Arc::new(FakeBackend::new("studio", &[model("brush")]));
    (House::new(world_of(vec![Arc::clone(&backend)])), backend)
}

/// The surroundings of a request of the local caller, who is patient.
pub fn context() -> Context {
    Context {
        id: RequestId::new("test-1").expect("a plain name"),
        principal: Principal::local(),
        deadline: Instant::now() + PATIENCE,
        cancellation: CancellationToken::new(),
        progress: Progress::new(),
        fallback_seed: 4_711,
        trace_parent: None,
    }
}

/// A model that honours everything, within small bounds.
pub fn model(id: &str) -> ModelInfo {
    ModelInfo {
        id: id.to_owned(),
        name: id.to_owned(),
        family: "fake".to_owned(),
        tasks: vec![Task::TextToImage],
        inputs: ModelInputs::default(),
        sizes: SizeRule::Range {
            least_side: 64,
            most_side: 1_024,
            multiple: 8,
            max_pixels: 512 * 1_024,
            default: Some(size(512, 512)),
        },
        max_count: 4,
        formats: vec![ImageFormat::Png, ImageFormat::Jpeg],
        negative_prompt: Control::Honoured(()),
        seed: Control::Honoured(()),
        steps: Control::Honoured(Numbers { least: 2, most: 50, default: Some(20) }),
        guidance: Control::Honoured(Numbers { least: 1.0, most: 20.0, default: Some(7.5) }),
        samplers: Control::Honoured(vec!["euler".to_owned(), "ddim".to_owned()]),
        options: vec![
            ModelOption { name: "quality".to_owned(), values: vec!["\"low\"".to_owned(), "\"high\"".to_owned()] },
            ModelOption { name: "tiling".to_owned(), values: Vec::new() },
        ],
        determinism: Determinism::Exact,
        price: None,
    }
}

pub fn size(width: u32, height: u32) -> Size {
    Size::new(width, height).expect("a size within bounds")
}

pub fn checked(draft: Draft) -> GenerationRequest {
    draft.check(&ParamNames::OURS).expect("the draft of the test is well-formed")
}

/// A draft that is answered by address.
pub fn by_address(prompt: &str) -> Draft {
    Draft { delivery: Delivery::Address, ..Draft::new(prompt) }
}

pub fn made(byte: u8) -> Made {
    let image = Image { bytes: Bytes::copy_from_slice(&[byte]), format: ImageFormat::Png, size: size(1, 1) };
    Made { image, seed: None, revised_prompt: None }
}

pub fn output(count: u32) -> Output {
    Output { images: (0..count).map(|_| made(1)).collect(), ..Output::default() }
}

/// Lets other tasks run until something holds; fails the test when it never does.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if holds() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("never came true: {what}");
}
