//! Two lanes for guests. A call begins on the fast one; once it has used half a millisecond of processor time without
//! an end, it goes on on the slow one, whose threads wait for all others. So however many guests compute, those that only
//! look at a request are not kept waiting by them.
//!
//! A plugin whose calls are long begins on the slow lane, until enough of them were short.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use easel_core::{Error, ErrorKind, Result};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::task::AbortOnDropHandle;

use crate::budget::CpuBudget;
use crate::priority::{SPINNING, step_back};

/// The processor time that a call may use on the fast lane.
const SHORT: Duration = Duration::from_micros(500);

/// So many short calls bring a plugin back to the fast lane.
const SHORT_ENOUGH: u32 = 16;

/// The threads of both lanes.
pub(crate) struct LaneThreads {
    fast: Runtime,
    slow: Runtime,
}

impl LaneThreads {
    pub(crate) fn start() -> std::io::Result<Self> {
        let threads = std::thread::available_parallelism().map_or(2, usize::from).max(2);
        let lane = |name: &str| {
            let mut builder = Builder::new_multi_thread();
            builder
                .worker_threads(threads)
                .max_blocking_threads(threads.saturating_mul(2))
                .thread_name(name)
                .enable_all();
            builder
        };
        let slow = lane("easel-plugin-slow").on_thread_start(|| step_back(SPINNING)).build()?;
        Ok(Self { fast: lane("easel-plugin").build()?, slow })
    }

    pub(crate) fn lanes(&self) -> Lanes {
        Lanes { fast: self.fast.handle().clone(), slow: self.slow.handle().clone() }
    }

    /// Ends the calls that still run.
    pub(crate) fn stop(self) {
        self.fast.shutdown_background();
        self.slow.shutdown_background();
    }
}

/// Where calls are put.
pub(crate) struct Lanes {
    pub(crate) fast: Handle,
    slow: Handle,
}

impl Lanes {
    /// Runs a call whose polls are charged to this budget.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        pace: &Arc<Pace>,
        cpu: Arc<CpuBudget>,
        call: impl Future<Output = Result<T>> + Send + 'static,
    ) -> JoinHandle<Result<T>> {
        let (pace, call) = (Arc::clone(pace), Box::pin(call));
        if pace.is_slow() {
            return self.slow.spawn(async move {
                let result = call.await;
                pace.note(cpu.used());
                result
            });
        }
        let slow = self.slow.clone();
        self.fast.spawn(async move {
            match (Sprint { cpu, call: Some(call) }).await {
                Ok(result) => result,
                Err(call) => {
                    pace.note(SHORT);
                    joined(AbortOnDropHandle::new(slow.spawn(call)).await)
                }
            }
        })
    }
}

/// What a call came to, whatever became of its task.
pub(crate) fn joined<T>(result: std::result::Result<Result<T>, JoinError>) -> Result<T> {
    match result {
        Ok(result) => result,
        Err(error) if error.is_cancelled() => Err(stopping()),
        Err(error) => Err(Error::new(ErrorKind::Internal, "the host failed in a plugin's call").with_source(error)),
    }
}

/// What callers are told once the runtime stops.
pub(crate) fn stopping() -> Error {
    Error::new(ErrorKind::NotReady, "the plugins are stopping")
}

/// How long the calls of a plugin are: how many short ones are missing for the fast lane.
#[derive(Debug, Default)]
pub(crate) struct Pace(AtomicU32);

impl Pace {
    fn is_slow(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    fn note(&self, used: Duration) {
        if used >= SHORT {
            self.0.store(SHORT_ENOUGH, Ordering::Relaxed);
        } else {
            // Zero stays zero.
            let _unchanged =
                self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |missing| missing.checked_sub(1));
        }
    }
}

/// Polls a call, and gives it back once it has used more than its share.
struct Sprint<F> {
    cpu: Arc<CpuBudget>,
    call: Option<Pin<Box<F>>>,
}

impl<F: Future> Future for Sprint<F> {
    type Output = std::result::Result<F::Output, Pin<Box<F>>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(call) = &mut self.call else { return Poll::Pending };
        match call.as_mut().poll(context) {
            Poll::Ready(result) => Poll::Ready(Ok(result)),
            Poll::Pending if self.cpu.used() >= SHORT => match self.call.take() {
                Some(call) => Poll::Ready(Err(call)),
                None => Poll::Pending,
            },
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::budget::Metered;

    /// A call that computes so long before it waits once, and tells on which threads it was.
    async fn call(work: Duration, seen: Arc<Mutex<Vec<String>>>) -> Result<()> {
        let note = || seen.lock().unwrap().push(std::thread::current().name().unwrap_or_default().to_owned());
        note();
        let begun = std::time::Instant::now();
        while begun.elapsed() < work {
            std::hint::spin_loop();
        }
        tokio::task::yield_now().await;
        note();
        Ok(())
    }

    fn threads_of(lanes: &LaneThreads, pace: &Arc<Pace>, work: Duration) -> Vec<String> {
        let (cpu, seen) = (CpuBudget::new(Duration::from_secs(60)), Arc::default());
        let call = Metered::new(Arc::clone(&cpu), call(work, Arc::clone(&seen)));
        let task = lanes.lanes().spawn(pace, cpu, call);
        lanes.fast.block_on(task).unwrap().unwrap();
        seen.lock().unwrap().clone()
    }

    #[test]
    fn long_call_moves_to_the_slow_lane_and_its_plugin_stays_there_until_it_is_short_again() {
        let (lanes, pace) = (LaneThreads::start().unwrap(), Arc::default());
        assert_eq!(threads_of(&lanes, &pace, Duration::ZERO), ["easel-plugin", "easel-plugin"]);
        // Far more than half a millisecond, so that another process on this processor does not matter.
        assert_eq!(threads_of(&lanes, &pace, Duration::from_millis(100)), ["easel-plugin", "easel-plugin-slow"]);
        for _ in 0..SHORT_ENOUGH {
            assert_eq!(threads_of(&lanes, &pace, Duration::ZERO), ["easel-plugin-slow", "easel-plugin-slow"]);
        }
        assert_eq!(threads_of(&lanes, &pace, Duration::ZERO), ["easel-plugin", "easel-plugin"]);
        lanes.stop();
    }

    #[test]
    fn call_that_is_given_up_on_the_slow_lane_ends() {
        let (lanes, pace) = (LaneThreads::start().unwrap(), Arc::default());
        let cpu = CpuBudget::new(Duration::from_secs(60));
        let held = Arc::new(());
        let call = {
            let held = Arc::clone(&held);
            async move {
                let _held = held;
                let begun = std::time::Instant::now();
                while begun.elapsed() < Duration::from_millis(100) {
                    std::hint::spin_loop();
                }
                std::future::pending::<Result<()>>().await
            }
        };
        let task = lanes.lanes().spawn(&pace, Arc::clone(&cpu), Metered::new(cpu, call));
        while !pace.is_slow() {
            std::thread::yield_now();
        }
        task.abort();
        assert!(lanes.fast.block_on(task).unwrap_err().is_cancelled());
        while Arc::strong_count(&held) > 1 {
            std::thread::yield_now();
        }
        lanes.stop();
    }
}
