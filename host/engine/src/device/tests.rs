//! The thread with models of paper: what it does with jobs is seen without any tensor.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use candle_core::Device;
use easel_core::{
    Context, Draft, Error, ErrorKind, GenerationRequest, ParamNames, Principal, Progress, RequestId, Task,
};
use tokio::sync::oneshot;

use super::{Answer, DeviceThread, Guard, Work};
use crate::checkpoint::Files;
use crate::family::{Facts, Family, Guiding, Model, Recipe, Run};
use crate::models::{Entry, Extras};
use crate::pixels::Pixels;
use crate::plan::plan;
use crate::schedule::NoiseConfig;

#[tokio::test]
async fn a_model_is_loaded_once_however_many_wait_for_it() {
    static LOADS: AtomicUsize = AtomicUsize::new(0);
    fn load(_: &Files, _: &Device) -> crate::Result<Arc<dyn Model>> {
        std::thread::sleep(Duration::from_millis(20));
        LOADS.fetch_add(1, Ordering::SeqCst);
        Ok(Arc::new(Paper))
    }
    static FAMILY: Family = Family { load, ..PAPER };
    let thread = DeviceThread::start(Device::Cpu, 1, Guard::default()).unwrap();
    let entry = entry("one", &FAMILY);
    let answers: Vec<_> = (0..4).map(|_| send(&thread, &entry, "a", 1)).collect();
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(LOADS.load(Ordering::SeqCst), 1);
    assert_eq!(thread.state().loaded, ["one"]);
}

#[tokio::test]
async fn jobs_take_turns_a_step_each() {
    let thread = DeviceThread::start(Device::Cpu, 1, Guard::default()).unwrap();
    let entry = entry("turns", &PAPER);
    let (a, b) = (send(&thread, &entry, "turn a", 40), send(&thread, &entry, "turn b", 40));
    a.await.unwrap().unwrap();
    b.await.unwrap().unwrap();
    let steps = STEPS.lock().unwrap();
    let turns: Vec<_> = steps.iter().filter(|prompt| prompt.starts_with("turn")).collect();
    assert_eq!(turns.len(), 80);
    // While both run, neither is ever two steps ahead.
    let longest = turns.chunk_by(|a, b| a == b).map(<[_]>::len).skip(1).max();
    assert!(longest.is_some_and(|longest| longest <= 2), "{longest:?}");
}

#[tokio::test]
async fn a_panic_ends_its_own_job_and_nothing_else() {
    let thread = DeviceThread::start(Device::Cpu, 1, Guard::default()).unwrap();
    let entry = entry("panics", &PAPER);
    let (bad, good) = (send(&thread, &entry, "panic", 3), send(&thread, &entry, "fine", 3));
    assert_eq!(bad.await.unwrap().unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(good.await.unwrap().unwrap().images.len(), 1);
}

#[tokio::test]
async fn the_least_recently_used_model_makes_room() {
    let thread = DeviceThread::start(Device::Cpu, 2, Guard::default()).unwrap();
    let entries = ["x", "y", "z"].map(|id| entry(id, &PAPER));
    for index in [0, 1, 0, 2] {
        send(&thread, &entries[index], "a", 1).await.unwrap().unwrap();
    }
    assert_eq!(thread.state().loaded, ["x", "z"]);
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_is_an_error_each_time_and_no_end() {
    static FAMILY: Family = Family { load: |_, _| Err(crate::Error::Tokenizer("torn".to_owned())), ..PAPER };
    let thread = DeviceThread::start(Device::Cpu, 1, Guard::default()).unwrap();
    let entry = entry("torn", &FAMILY);
    for _ in 0..2 {
        let error = send(&thread, &entry, "a", 1).await.unwrap().unwrap_err();
        assert_eq!((error.kind(), thread.state().loading), (ErrorKind::NotReady, None));
    }
}

/// The prompts of the steps taken, in order.
static STEPS: Mutex<Vec<String>> = Mutex::new(Vec::new());

const PAPER: Family = Family {
    name: "paper",
    class_name: "Paper",
    describe: |_| Err(crate::Error::NoModel(String::new())),
    load: |_, _| Ok(Arc::new(Paper)),
};

struct Paper;

impl Model for Paper {
    fn begin(self: Arc<Self>, recipe: &Recipe) -> crate::Result<Box<dyn Run>> {
        Ok(Box::new(Page { prompt: recipe.prompt.clone(), steps: recipe.steps }))
    }

    fn dropped_tokens(&self, _: &str) -> crate::Result<usize> {
        Ok(0)
    }
}

struct Page {
    prompt: String,
    steps: usize,
}

impl Run for Page {
    fn steps(&self) -> usize {
        self.steps
    }

    fn step(&mut self, _: usize) -> crate::Result<()> {
        assert!(self.prompt != "panic", "as the prompt asked");
        std::thread::sleep(Duration::from_micros(200));
        STEPS.lock().unwrap().push(self.prompt.clone());
        Ok(())
    }

    fn preview(&self) -> crate::Result<Pixels> {
        Pixels::from_bytes(vec![0; 3], 1, 1)
    }

    fn finish(&mut self) -> crate::Result<Pixels> {
        self.preview()
    }
}

fn entry(id: &str, family: &'static Family) -> Arc<Entry> {
    let noise = NoiseConfig::from_json("{}").unwrap();
    let facts = Facts {
        native: (16, 16),
        multiple: 8,
        noise,
        prompt_tokens: 75,
        steps: 30,
        guidance: 7.5,
        tasks: vec![Task::TextToImage],
        inputs: Default::default(),
        guiding: Guiding::Above(1.0),
        options: &[],
    };
    Arc::new(Entry::new(id, family, facts, Files::Embedded(&[]), Extras::default()))
}

fn send(
    thread: &DeviceThread,
    entry: &Arc<Entry>,
    prompt: &str,
    steps: u32,
) -> oneshot::Receiver<Result<Answer, Error>> {
    let request: GenerationRequest =
        Draft { steps: Some(steps), ..Draft::new(prompt) }.check(&ParamNames::OURS).unwrap();
    let context = Context {
        id: RequestId::new("test").unwrap(),
        principal: Principal::local(),
        deadline: tokio::time::Instant::now() + Duration::from_secs(60),
        cancellation: tokio_util::sync::CancellationToken::new(),
        progress: Progress::new(),
        fallback_seed: 0,
        trace_parent: None,
    };
    let plan = plan(entry, &request, 0).unwrap();
    let (answer, result) = oneshot::channel();
    thread.send(Work { entry: Arc::clone(entry), plan, request, context, permit: None, answer }).unwrap();
    result
}
