//! The one thread that owns a device and every tensor on it.
//!
//! Jobs come over a bounded channel and go back over a channel of their own. Each is a state machine; the thread takes one
//! denoising step of one job, then one of the next, so that jobs share the device fairly and every one of them notices
//! within a step that its caller has gone. Models are loaded here on first use, so a model is loaded once however many wait
//! for it, and the least recently used are dropped beyond a number. A panic ends the job it came from, nothing else.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use candle_core::Device;
use easel_core::{Context, Error, ErrorKind, Event, Image, ImageFormat, Note, NoteKind, Permit};
use tokio::sync::oneshot;

use crate::family::{Model, Recipe, Run};
use crate::models::Entry;
use crate::pixels::Pixels;
use crate::plan::{Plan, named};
use crate::variant::Variant;

/// Jobs that may wait for the thread to look at them; admission allows far fewer.
const WAITING: usize = 256;

/// The most partial pictures shown of each picture, where somebody wants them.
const PREVIEWS: usize = 3;

/// A job for the thread.
pub(crate) struct Work {
    pub(crate) entry: Arc<Entry>,
    pub(crate) plan: Plan,
    pub(crate) request: easel_core::GenerationRequest,
    pub(crate) context: Context,
    /// Held until the work has really stopped.
    pub(crate) permit: Option<Permit>,
    pub(crate) answer: oneshot::Sender<Result<Answer, Error>>,
}

/// What comes back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) images: Vec<(Image, u64)>,
    pub(crate) notes: Vec<Note>,
}

enum Message {
    Job(Box<Work>),
    Load(Arc<Entry>),
}

/// The thread, as others see it. Dropping it ends the thread when its jobs are done.
pub(crate) struct DeviceThread {
    messages: SyncSender<Message>,
    state: Arc<Mutex<State>>,
}

/// What the thread is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// The model being loaded.
    pub(crate) loading: Option<String>,
    /// The models that are loaded, the latest used last.
    pub(crate) loaded: Vec<String>,
}

impl DeviceThread {
    /// Starts the thread, which keeps at most `keep` models loaded.
    pub(crate) fn start(device: Device, keep: usize) -> Result<Self, Error> {
        let (messages, inbox) = sync_channel(WAITING);
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let spawned = thread::Builder::new().name("engine".to_owned()).spawn(move || {
            let models = Models { device, keep: keep.max(1), loaded: Vec::new(), state: shared };
            Worker { inbox, models, jobs: VecDeque::new() }.run();
        });
        match spawned {
            Ok(_) => Ok(Self { messages, state }),
            Err(error) => {
                Err(Error::new(ErrorKind::Internal, "the engine's thread could not be started").with_source(error))
            }
        }
    }

    /// Hands a job over.
    pub(crate) fn send(&self, work: Work) -> Result<(), Error> {
        self.messages.try_send(Message::Job(Box::new(work))).map_err(|error| match error {
            TrySendError::Full(_) => {
                Error::new(ErrorKind::Overloaded, "the engine has more work waiting than it takes")
            }
            TrySendError::Disconnected(_) => crate::Error::Stopped.into(),
        })
    }

    /// Asks for a model to be loaded before anybody needs it.
    pub(crate) fn load(&self, entry: Arc<Entry>) {
        // A thread that is too busy to take the message loads the model when it is needed.
        drop(self.messages.try_send(Message::Load(entry)));
    }

    /// What the thread is about now.
    pub(crate) fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Worker {
    inbox: Receiver<Message>,
    models: Models,
    jobs: VecDeque<Job>,
}

impl Worker {
    fn run(mut self) {
        loop {
            if self.jobs.is_empty() {
                match self.inbox.recv() {
                    Ok(message) => self.take(message),
                    Err(_) => return,
                }
            }
            while let Ok(message) = self.inbox.try_recv() {
                self.take(message);
            }
            let Some(mut job) = self.jobs.pop_front() else { continue };
            match guarded(|| job.advance(&mut self.models)) {
                Ok(true) => self.jobs.push_back(job),
                Ok(false) => job.finish(),
                Err(error) => job.fail(error),
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Job(work) => self.jobs.push_back(Job::new(*work)),
            Message::Load(entry) => {
                if let Err(error) = guarded(|| self.models.get(&entry, &Variant::default(), &Error::from)) {
                    tracing::warn!(model = entry.info.id, error = %error, "model could not be loaded");
                }
            }
        }
    }
}

/// Runs a part of a job; a panic in it becomes an error.
fn guarded<T>(part: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(part)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        let source = std::io::Error::other(format!("panic: {text}"));
        Err(Error::new(ErrorKind::Internal, "the engine failed while making the picture").with_source(source))
    })
}

/// The loaded models.
struct Models {
    device: Device,
    keep: usize,
    /// The latest used last; of each model, one variant.
    loaded: Vec<Loaded>,
    state: Arc<Mutex<State>>,
}

struct Loaded {
    entry: Arc<Entry>,
    variant: Variant,
    model: Arc<dyn Model>,
}

impl Models {
    /// The model as it is wanted. `word` puts what is wrong with the wish into the caller's words.
    fn get(
        &mut self,
        entry: &Arc<Entry>,
        variant: &Variant,
        word: &dyn Fn(crate::Error) -> Error,
    ) -> Result<Arc<dyn Model>, Error> {
        let is_it = |loaded: &Loaded| Arc::ptr_eq(&loaded.entry, entry) && loaded.variant == *variant;
        if let Some(at) = self.loaded.iter().position(is_it) {
            let found = self.loaded.remove(at);
            let model = Arc::clone(&found.model);
            self.loaded.push(found);
            return Ok(model);
        }
        // An entry that was read again under the same id takes the place of the old one, and a variant that of another.
        self.loaded.retain(|loaded| loaded.entry.info.id != entry.info.id);
        while self.loaded.len() >= self.keep {
            self.loaded.remove(0);
        }
        self.publish(Some(entry));
        let began = Instant::now();
        let load = || (entry.family.load)(&variant.files(&entry.files)?, &self.device);
        let model = guarded(|| load().map_err(word));
        if let Ok(model) = &model {
            let (loras, milliseconds) = (variant.loras.len(), began.elapsed().as_millis() as u64);
            tracing::info!(model = entry.info.id, loras, milliseconds, "model loaded");
            let (entry, variant, model) = (Arc::clone(entry), variant.clone(), Arc::clone(model));
            self.loaded.push(Loaded { entry, variant, model });
        }
        self.publish(None);
        model
    }

    fn publish(&self, loading: Option<&Arc<Entry>>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.loading = loading.map(|entry| entry.info.id.clone());
        state.loaded = self.loaded.iter().map(|loaded| loaded.entry.info.id.clone()).collect();
    }
}

/// A job in the middle of its work.
struct Job {
    work: Work,
    model: Option<Arc<dyn Model>>,
    run: Option<Box<dyn Run>>,
    step: usize,
    images: Vec<(Image, u64)>,
    notes: Vec<Note>,
}

impl Job {
    fn new(work: Work) -> Self {
        Self { work, model: None, run: None, step: 0, images: Vec::new(), notes: Vec::new() }
    }

    /// Does one thing: loads the model, begins a picture, takes a step, or finishes a picture. Tells whether more is to do.
    fn advance(&mut self, models: &mut Models) -> Result<bool, Error> {
        if self.work.answer.is_closed() {
            return Err(Error::new(ErrorKind::Cancelled, "the caller has gone"));
        }
        self.work.context.check()?;
        let Some(model) = self.model.clone() else {
            self.stage("loading");
            let Work { entry, plan, request, .. } = &self.work;
            let model = models.get(entry, &plan.variant, &|error| named(error, request))?;
            self.count_dropped_tokens(&*model)?;
            self.model = Some(model);
            return Ok(true);
        };
        let image = self.images.len();
        let Some(recipe) = self.work.plan.recipes.get(image) else { return Ok(false) };
        let Some(run) = &mut self.run else {
            self.stage("encoding");
            self.run = Some(model.begin(recipe).map_err(|error| named(error, &self.work.request))?);
            self.step = 0;
            self.stage("denoising");
            return Ok(true);
        };
        let steps = run.steps();
        if self.step < steps {
            run.step(self.step)?;
            self.step += 1;
            let (image, step, steps) = (image as u32, self.step as u32, steps as u32);
            self.work.context.progress.tell(Event::Step { image, step, steps });
            if self.is_time_to_preview(steps as usize) {
                self.preview(image);
            }
            return Ok(true);
        }
        let plan = &self.work.plan;
        self.work.context.progress.tell(Event::Stage("decoding".to_owned()));
        let picture = shown(run.finish()?, recipe, plan.size);
        let encoded = picture.encode(plan.format, plan.quality, &plan.texts(recipe))?;
        self.images.push((encoded, recipe.seed));
        self.run = None;
        Ok(self.images.len() < plan.recipes.len())
    }

    fn stage(&self, name: &str) {
        self.work.context.progress.tell(Event::Stage(name.to_owned()));
    }

    fn is_time_to_preview(&self, steps: usize) -> bool {
        // They stand at even distances, whatever their number.
        let previews = PREVIEWS.min(self.work.context.progress.previews() as usize);
        let share = |step: usize| step * (previews + 1) / steps.max(1);
        self.step < steps && share(self.step) > share(self.step - 1)
    }

    /// Shows the picture as it stands; one that cannot be shown yet is not shown.
    fn preview(&self, image: u32) {
        let plan = &self.work.plan;
        let (Some(run), Some(recipe)) = (&self.run, plan.recipes.get(self.images.len())) else { return };
        let encoded =
            run.preview().and_then(|picture| shown(picture, recipe, plan.size).encode(ImageFormat::Png, None, &[]));
        match encoded {
            Ok(picture) => self.work.context.progress.tell(Event::Partial { image, picture }),
            Err(error) => tracing::debug!(error = %error, "no preview"),
        }
    }

    fn count_dropped_tokens(&mut self, model: &dyn Model) -> Result<(), Error> {
        let names = self.work.request.names();
        let prompt = (names.prompt, Some(self.work.request.prompt.as_str()));
        let negative = (names.negative_prompt, self.work.request.negative_prompt.as_deref());
        for (name, text) in [prompt, negative] {
            let dropped = text.map_or(Ok(0), |text| model.dropped_tokens(text))?;
            if dropped > 0 {
                let message = format!(
                    "{name} has {dropped} tokens more than the {} that model {} reads; its end was left out",
                    self.work.entry.facts.prompt_tokens, self.work.entry.info.id
                );
                self.notes.push(Note::about(NoteKind::Adjusted, name, message));
            }
        }
        Ok(())
    }

    fn finish(self) {
        let mut notes = self.work.plan.notes;
        notes.extend(self.notes);
        // The permit goes back before the answer: who hears of the answer may come again at once.
        drop(self.work.permit);
        drop(self.work.answer.send(Ok(Answer { images: self.images, notes })));
    }

    fn fail(self, error: Error) {
        drop(self.work.permit);
        drop(self.work.answer.send(Err(error)));
    }
}

/// A picture in the size of the answer, with what a mask keeps of the given one.
fn shown(picture: Pixels, recipe: &Recipe, (width, height): (u32, u32)) -> Pixels {
    let picture = if picture.size() == (width, height) { picture } else { picture.fitted(width, height) };
    match &recipe.given {
        Some(given) => given.kept_in(picture),
        None => picture,
    }
}
