//! The one thread that owns a device and every tensor on it.
//!
//! Jobs come over a bounded channel and go back over a channel of their own. Each is a state machine; the thread takes one
//! denoising step of one job, then one of the next, so that jobs share the device fairly and every one of them notices
//! within a step that its caller has gone. Models are loaded here on first use, so a model is loaded once however many wait
//! for it, and the least recently used are dropped beyond a number. A panic ends the job it came from, nothing else.
//! A picture that the safety checker blocks leaves the thread in no form: neither finished nor as a preview.

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

use crate::checkpoint::Files;
use crate::family::{Model, Recipe, Run};
use crate::models::Entry;
use crate::pixels::Pixels;
use crate::plan::{Plan, named};
use crate::safety::{self, Safety, SafetyChecker};
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

/// How pictures are kept from being shown that must not be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guard {
    pub(crate) safety: Safety,
    /// Where the checker lies that all models share.
    pub(crate) shared: Option<Files>,
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
    pub(crate) fn start(device: Device, keep: usize, guard: Guard) -> Result<Self, Error> {
        let (messages, inbox) = sync_channel(WAITING);
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let spawned = thread::Builder::new().name("engine".to_owned()).spawn(move || {
            let models = Models { device, keep: keep.max(1), guard, loaded: Vec::new(), checker: None, state: shared };
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
    guard: Guard,
    /// The latest used last; of each model, one variant.
    loaded: Vec<(Arc<Entry>, Variant, Loaded)>,
    /// The checker that models share, once one needed it.
    checker: Option<Arc<SafetyChecker>>,
    state: Arc<Mutex<State>>,
}

/// A model, and what looks at its pictures.
#[derive(Clone)]
struct Loaded {
    model: Arc<dyn Model>,
    checker: Option<Arc<SafetyChecker>>,
    /// Whether pictures should be checked and cannot be.
    unchecked: bool,
}

/// Puts what is wrong with a wish into the words of who wishes.
type Word<'a> = &'a dyn Fn(crate::Error) -> Error;

impl Models {
    /// The model as it is wanted.
    fn get(&mut self, entry: &Arc<Entry>, variant: &Variant, word: Word<'_>) -> Result<Loaded, Error> {
        let is_it = |(known, as_is, _): &(Arc<Entry>, Variant, Loaded)| Arc::ptr_eq(known, entry) && as_is == variant;
        if let Some(at) = self.loaded.iter().position(is_it) {
            let found = self.loaded.remove(at);
            let loaded = found.2.clone();
            self.loaded.push(found);
            return Ok(loaded);
        }
        // An entry that was read again under the same id takes the place of the old one, and a variant that of another.
        self.loaded.retain(|(known, _, _)| known.info.id != entry.info.id);
        while self.loaded.len() >= self.keep {
            self.loaded.remove(0);
        }
        self.publish(Some(entry));
        let began = Instant::now();
        let loaded = guarded(|| self.load(entry, variant, word));
        if let Ok(loaded) = &loaded {
            let (loras, milliseconds) = (variant.loras.len(), began.elapsed().as_millis() as u64);
            tracing::info!(model = entry.info.id, loras, milliseconds, "model loaded");
            self.loaded.push((Arc::clone(entry), variant.clone(), loaded.clone()));
        }
        self.publish(None);
        loaded
    }

    fn load(&mut self, entry: &Entry, variant: &Variant, word: Word<'_>) -> Result<Loaded, Error> {
        let checker = self.checker(entry)?;
        // The model in the program knows nothing but drawn shapes.
        let is_demo = matches!(entry.files, Files::Embedded(_));
        let unchecked = checker.is_none() && self.guard.safety != Safety::Off && !is_demo;
        if unchecked {
            tracing::warn!(model = entry.info.id, "model has no safety checker, its pictures are not checked");
        }
        let load = |files: &Files| (entry.family.load)(files, &self.device);
        let model = variant.files(&entry.files).and_then(|files| load(&files)).map_err(word)?;
        Ok(Loaded { model, checker, unchecked })
    }

    /// What looks at the pictures of a model: its own checker, otherwise the shared one.
    fn checker(&mut self, entry: &Entry) -> Result<Option<Arc<SafetyChecker>>, Error> {
        if self.guard.safety == Safety::Off {
            return Ok(None);
        }
        if let Some(own) = safety::files(&entry.files) {
            return Ok(Some(Arc::new(SafetyChecker::load(own, &self.device)?)));
        }
        if let (None, Some(shared)) = (&self.checker, self.guard.shared.as_ref().and_then(safety::files)) {
            self.checker = Some(Arc::new(SafetyChecker::load(shared, &self.device)?));
        }
        if self.checker.is_none() && self.guard.safety == Safety::Required {
            let message = format!("model {} has no safety checker, and pictures must be checked", entry.info.id);
            let hint = "put a safety_checker folder into the model's folder or into the folder of models";
            return Err(Error::new(ErrorKind::NotReady, message).with_hint(hint));
        }
        Ok(self.checker.clone())
    }

    fn publish(&self, loading: Option<&Arc<Entry>>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.loading = loading.map(|entry| entry.info.id.clone());
        state.loaded = self.loaded.iter().map(|(entry, _, _)| entry.info.id.clone()).collect();
    }
}

/// A job in the middle of its work.
struct Job {
    work: Work,
    model: Option<Loaded>,
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
        let Some(Loaded { model, checker, .. }) = self.model.clone() else {
            self.stage("loading");
            let Work { entry, plan, request, .. } = &self.work;
            let loaded = models.get(entry, &plan.variant, &|error| named(error, request))?;
            self.count_dropped_tokens(&*loaded.model)?;
            if loaded.unchecked {
                let message =
                    format!("model {} has no safety checker; its pictures are not checked", self.work.entry.info.id);
                self.notes.push(Note::general(NoteKind::Advice, message));
            }
            self.model = Some(loaded);
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
        if is_blocked(checker.as_deref(), &picture)? {
            return Err(blocked(image, plan.recipes.len()));
        }
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

    /// Shows the picture as it stands; one that cannot be shown yet, or must not be, is not shown.
    fn preview(&self, image: u32) {
        let plan = &self.work.plan;
        let (Some(run), Some(loaded), Some(recipe)) = (&self.run, &self.model, plan.recipes.get(self.images.len()))
        else {
            return;
        };
        let encoded = run.preview().and_then(|picture| {
            let picture = shown(picture, recipe, plan.size);
            match is_blocked(loaded.checker.as_deref(), &picture)? {
                true => Ok(None),
                false => picture.encode(ImageFormat::Png, None, &[]).map(Some),
            }
        });
        match encoded {
            Ok(Some(picture)) => self.work.context.progress.tell(Event::Partial { image, picture }),
            Ok(None) => {}
            Err(error) => tracing::debug!(error = %error, "no preview"),
        }
    }

    fn count_dropped_tokens(&mut self, model: &dyn Model) -> Result<(), Error> {
        let names = self.work.request.names();
        // As it is read: without what the engine took out of it.
        let read = self.work.plan.recipes.first().map(|recipe| recipe.prompt.as_str());
        let prompt = (names.prompt, read);
        let negative = (names.negative_prompt, self.work.request.negative_prompt.as_deref());
        let syntax = self.work.plan.prompt_syntax();
        for (name, text) in [prompt, negative] {
            let dropped = text.map_or(Ok(0), |text| model.dropped_tokens(text, syntax))?;
            if dropped > 0 {
                let message = format!(
                    "{name} has {dropped} tokens more than the {} that model {} reads; its end was left out",
                    self.work.entry.facts.prompt_tokens * syntax.most_chunks(),
                    self.work.entry.info.id
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

fn is_blocked(checker: Option<&SafetyChecker>, picture: &Pixels) -> crate::Result<bool> {
    checker.map_or(Ok(false), |checker| Ok(checker.check(picture)?.is_blocked()))
}

/// A request of which one picture may not be shown is answered by none, as one of which one picture failed.
fn blocked(image: usize, count: usize) -> Error {
    let which = if count > 1 { format!("picture {} of {count}", image + 1) } else { "the picture".to_owned() };
    let message = format!("the safety checker blocked {which}");
    Error::new(ErrorKind::ContentPolicy, message).with_hint("another prompt or another seed makes another picture")
}

/// A picture in the size of the answer, with what a mask keeps of the given one.
fn shown(picture: Pixels, recipe: &Recipe, (width, height): (u32, u32)) -> Pixels {
    let picture = if picture.size() == (width, height) { picture } else { picture.fitted(width, height) };
    match &recipe.given {
        Some(given) => given.kept_in(picture),
        None => picture,
    }
}
