//! What one call does at the door: how often it leaves, what it is refused, and how long it waits for upstreams. Both
//! ways out share it (`host/fetch.rs`, `wasi.rs`), so that neither is counted otherwise than the other.
//!
//! Refusals go to the figures of the plugin at once, the time is asked for at the end of the call (`account.rs`).

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use easel_core::TraceParent;
use tokio::time::Instant;

use super::trace::Trace;
use super::{Denial, DoorError};
use crate::record::Counters;

/// What one call has done at the door.
#[derive(Debug)]
pub(crate) struct Visits {
    requests: AtomicU32,
    denial: Mutex<Option<Denial>>,
    pub(super) trace: Trace,
    waiting: Mutex<Waiting>,
    counters: Arc<Counters>,
}

/// The time in which at least one upstream was waited for.
#[derive(Debug, Default)]
struct Waiting {
    /// The waits that go on.
    now: u32,
    since: Option<Instant>,
    /// The ones that are over.
    sum: Duration,
}

/// A wait for an upstream; it ends when this is dropped.
pub(super) struct Wait(Arc<Visits>);

impl Visits {
    /// Those of the call that serves this request, for the figures of its plugin.
    pub(crate) fn new(request_id: &str, caller: Option<&TraceParent>, counters: Arc<Counters>) -> Self {
        Self {
            requests: AtomicU32::new(0),
            denial: Mutex::default(),
            trace: Trace::of(request_id, caller),
            waiting: Mutex::default(),
            counters,
        }
    }

    /// The last refusal, with the line that would lift it.
    pub(crate) fn last_denial(&self) -> Option<Denial> {
        lock(&self.denial).clone()
    }

    /// How long upstreams were waited for. Waits at the same time count once.
    pub(crate) fn waited(&self) -> Duration {
        let waiting = lock(&self.waiting);
        waiting.sum + waiting.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// One more request leaves; gives how many did before it.
    pub(super) fn leave(&self) -> u32 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    /// Keeps what the grant refused, to be told with the line that would lift it.
    pub(super) fn denied(&self, denial: Denial) -> DoorError {
        *lock(&self.denial) = Some(denial.clone());
        DoorError::Denied(denial)
    }

    /// Counts what the door refused; what an upstream did is not its business.
    pub(super) fn note(&self, error: &DoorError) {
        if let Some(rule) = error.rule() {
            self.counters.denied(rule);
        }
    }

    /// Begins to wait for an upstream.
    pub(super) fn wait(self: &Arc<Self>) -> Wait {
        let mut waiting = lock(&self.waiting);
        waiting.now += 1;
        waiting.since.get_or_insert_with(Instant::now);
        drop(waiting);
        Wait(Arc::clone(self))
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut waiting = lock(&self.0.waiting);
        waiting.now = waiting.now.saturating_sub(1);
        if waiting.now == 0
            && let Some(since) = waiting.since.take()
        {
            waiting.sum += since.elapsed();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is whole at every point.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_at_the_same_time_count_once_and_one_that_goes_on_counts_too() {
        let visits = Arc::new(Visits::new("test", None, Arc::default()));
        let waited_after = async |millis: u64| {
            tokio::time::advance(Duration::from_millis(millis)).await;
            visits.waited().as_millis()
        };
        assert_eq!(waited_after(1).await, 0);
        let (one, other) = (visits.wait(), visits.wait());
        assert_eq!(waited_after(2).await, 2);
        drop(one);
        assert_eq!(waited_after(3).await, 5, "the other goes on");
        drop(other);
        assert_eq!(waited_after(4).await, 5, "nothing is waited for");
        let _third = visits.wait();
        assert_eq!(waited_after(5).await, 10);
    }

    #[test]
    fn refusals_are_counted_by_rule_and_failures_of_upstreams_are_not() {
        let counters = Arc::new(Counters::default());
        let visits = Visits::new("test", None, Arc::clone(&counters));
        visits.note(&DoorError::Requests(1));
        visits.note(&DoorError::Requests(1));
        visits.note(&DoorError::Header("host".to_owned()));
        visits.note(&DoorError::Redirects { host: "a".to_owned() });
        assert_eq!(counters.figures().denials, [("header", 1), ("requests", 2)]);
    }
}
