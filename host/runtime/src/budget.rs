//! What a call may use up: processor time and memory. Both are counted here, because what wasmtime reports when a limit
//! is hit (an unreachable instruction, an access out of bounds) does not say which.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmtime::ResourceLimiter;

/// The processor time of one call. Waiting does not count: time is taken only while the call is being polled.
#[derive(Debug)]
pub(crate) struct CpuBudget {
    limit: Duration,
    /// What earlier calls of the same request have used of the limit.
    earlier: Duration,
    /// Nanoseconds used up in finished polls.
    done: AtomicU64,
    /// The thread's clock when the current poll began; 0 between polls.
    began: AtomicU64,
}

impl CpuBudget {
    #[cfg(test)]
    pub(crate) fn new(limit: Duration) -> Arc<Self> {
        Self::after(limit, Duration::ZERO)
    }

    /// The budget of a call whose request has used some of it already.
    pub(crate) fn after(limit: Duration, earlier: Duration) -> Arc<Self> {
        Arc::new(Self { limit, earlier, done: AtomicU64::new(0), began: AtomicU64::new(0) })
    }

    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// Whether it is used up. Asked on the thread that polls the call.
    pub(crate) fn is_spent(&self) -> bool {
        self.earlier.saturating_add(self.used()) > self.limit
    }

    /// The time that this call has used so far. Exact on the thread that polls the call, and between polls.
    pub(crate) fn used(&self) -> Duration {
        let done = self.done.load(Ordering::Relaxed);
        let running = match self.began.load(Ordering::Relaxed) {
            0 => 0,
            began => thread_nanos().saturating_sub(began),
        };
        Duration::from_nanos(done.saturating_add(running))
    }
}

/// The processor time that the calls of one request have used together. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spent(Arc<AtomicU64>);

impl Spent {
    pub(crate) fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn add(&self, used: Duration) {
        self.0.fetch_add(u64::try_from(used.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// The processor time of this thread.
fn thread_nanos() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// Charges every poll of a future to a budget.
pub(crate) struct Metered<F> {
    budget: Arc<CpuBudget>,
    future: Pin<Box<F>>,
}

impl<F> Metered<F> {
    pub(crate) fn new(budget: Arc<CpuBudget>, future: F) -> Self {
        Self { budget, future: Box::pin(future) }
    }
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let began = thread_nanos().max(1);
        self.budget.began.store(began, Ordering::Relaxed);
        let result = self.future.as_mut().poll(context);
        self.budget.done.fetch_add(thread_nanos().saturating_sub(began), Ordering::Relaxed);
        self.budget.began.store(0, Ordering::Relaxed);
        result
    }
}

/// What all live instances have together of something that the machine has only once.
#[derive(Debug)]
pub(crate) struct Pool {
    most: usize,
    used: AtomicUsize,
}

impl Pool {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, used: AtomicUsize::new(0) })
    }

    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Takes so much, if it is there.
    pub(crate) fn take(&self, amount: usize) -> bool {
        let next = |used: usize| used.checked_add(amount).filter(|used| *used <= self.most);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    pub(crate) fn give_back(&self, amount: usize) {
        self.used.fetch_sub(amount, Ordering::Relaxed);
    }
}

/// Memory and tables of one store, each summed over all that it has.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    pool: Arc<Pool>,
    most_bytes: usize,
    most_elements: usize,
    bytes: usize,
    elements: usize,
    refused: Option<Refused>,
}

/// Which limit was hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Memory,
    Table,
    /// The memory of all instances together.
    Pool,
}

impl MemoryLimiter {
    pub(crate) fn new(pool: Arc<Pool>, most_bytes: usize, most_elements: usize) -> Self {
        Self { pool, most_bytes, most_elements, bytes: 0, elements: 0, refused: None }
    }

    /// The most that all instances may have together.
    pub(crate) fn pool_bytes(&self) -> usize {
        self.pool.most()
    }

    /// The memory that there is; it never shrinks.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The limit that was hit first, if any was.
    pub(crate) fn refused(&self) -> Option<Refused> {
        self.refused
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.bytes.saturating_sub(current).saturating_add(desired);
        if total > self.most_bytes {
            self.refused.get_or_insert(Refused::Memory);
            return Ok(false);
        }
        if !self.pool.take(total.saturating_sub(self.bytes)) {
            self.refused.get_or_insert(Refused::Pool);
            return Ok(false);
        }
        self.bytes = self.bytes.max(total);
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.elements.saturating_sub(current).saturating_add(desired);
        if total > self.most_elements {
            self.refused.get_or_insert(Refused::Table);
            return Ok(false);
        }
        self.elements = total;
        Ok(true)
    }
}

impl Drop for MemoryLimiter {
    fn drop(&mut self) {
        self.pool.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_summed_over_all_memories() {
        let mut limiter = MemoryLimiter::new(Pool::new(1000), 100, 10);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(!limiter.memory_growing(0, 60, None).unwrap());
        assert_eq!(limiter.refused(), Some(Refused::Memory));
        assert!(limiter.memory_growing(60, 100, None).unwrap());
        assert!(limiter.table_growing(0, 10, None).unwrap());
        assert!(!limiter.table_growing(0, 1, None).unwrap());
    }

    #[test]
    fn memory_of_all_instances_is_summed_and_given_back() {
        let pool = Pool::new(100);
        let mut one = MemoryLimiter::new(Arc::clone(&pool), 100, 10);
        let mut other = MemoryLimiter::new(Arc::clone(&pool), 100, 10);
        assert!(one.memory_growing(0, 60, None).unwrap() && other.memory_growing(0, 40, None).unwrap());
        assert!(!other.memory_growing(40, 41, None).unwrap());
        assert_eq!((one.refused(), other.refused()), (None, Some(Refused::Pool)));
        drop(one);
        assert!(other.memory_growing(40, 100, None).unwrap());
        drop(other);
        assert!(pool.take(100) && !pool.take(1));
    }

    #[test]
    fn calls_of_one_request_are_summed_and_each_is_told_by_itself() {
        let (limit, spent) = (Duration::from_secs(6), Spent::default());
        spent.add(Duration::from_secs(5));
        let second = CpuBudget::after(limit, spent.get());
        assert!(!second.is_spent());
        assert_eq!((second.used(), second.limit()), (Duration::ZERO, limit), "it is a short call so far");
        spent.add(Duration::from_secs(2));
        assert!(CpuBudget::after(limit, spent.get()).is_spent());
    }

    #[test]
    fn waiting_costs_no_processor_time_and_work_does() {
        let budget = CpuBudget::new(Duration::from_millis(5));
        // Another thread works for twice the budget, and this one waits for it.
        let other = || {
            let begun = thread_nanos();
            while thread_nanos() - begun < 10_000_000 {
                std::hint::spin_loop();
            }
        };
        let wait = async { std::thread::spawn(other).join().unwrap() };
        futures_util::FutureExt::now_or_never(Metered::new(Arc::clone(&budget), wait)).unwrap();
        assert!(!budget.is_spent(), "{:?}", budget.used());
        let work = async {
            while !budget.is_spent() {
                std::hint::spin_loop();
            }
        };
        futures_util::FutureExt::now_or_never(Metered::new(Arc::clone(&budget), work)).unwrap();
        assert!(budget.used() > budget.limit());
    }
}
