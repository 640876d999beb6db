//! Instances that are made ahead of their calls, so that a call need not wait for its own.
//!
//! An instance serves one call whether it was made ahead or not: what is kept here has seen nobody's request. It is made after
//! a call has ended, on the guests' threads, with a budget of its own, without network, store and credentials; what the guest
//! opened meanwhile, or more memory than little, and it is thrown away. Where none is ready, a call makes its own.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use wasmtime::Store;
use wasmtime::component::Instance;

use crate::account::Account;
use crate::budget::{CpuBudget, Metered};
use crate::plugin::Plugin;
use crate::state::State;

/// The longest time in which one is made.
const MAKING: Duration = Duration::from_secs(1);
/// The most memory that one may have. A guest that begins with more begins when it is called.
const MOST_BYTES: usize = 4 << 20;

/// The instances that one generation has ready.
pub(crate) struct Warm<R = Ready> {
    most: usize,
    ready: Mutex<Vec<R>>,
    making: AtomicUsize,
    /// Nothing more is made: the generation is not called any more, or its instances cannot be kept.
    is_closed: AtomicBool,
}

/// An instance and its store.
pub(crate) struct Ready {
    pub(crate) store: Store<State>,
    pub(crate) instance: Instance,
}

impl Ready {
    /// Whether it is as little as one that a call would make, and holds nothing of the host's.
    fn can_be_kept(&self) -> bool {
        let state = self.store.data();
        state.table.is_empty() && state.memory.bytes() <= MOST_BYTES
    }
}

impl<R> Warm<R> {
    /// Keeps as many as this.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, ready: Mutex::default(), making: AtomicUsize::new(0), is_closed: AtomicBool::new(false) }
    }

    /// One of them, if there is one.
    pub(crate) fn take(&self) -> Option<R> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Drops what is ready, and keeps nothing from now on.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        let ready = std::mem::take(&mut *self.ready.lock().unwrap_or_else(PoisonError::into_inner));
        drop(ready);
    }

    /// Takes a place for one that is to be made, if one is missing.
    fn begin(&self) -> bool {
        if self.is_closed.load(Ordering::Acquire) {
            return false;
        }
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner).len();
        let next = |making: usize| (ready + making < self.most).then_some(making + 1);
        self.making.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).is_ok()
    }

    /// Keeps what was made; where it cannot be kept, nothing more is made.
    fn end(&self, made: Option<R>) {
        match made {
            Some(made) => {
                let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
                // Looked at under the lock: what is closed stays empty.
                if !self.is_closed.load(Ordering::Acquire) && ready.len() < self.most {
                    ready.push(made);
                }
            }
            None => self.close(),
        }
        self.making.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Plugin {
    /// Makes the next instance in the background, if one is missing.
    pub(crate) fn warm_up(self: &Arc<Self>) {
        // On a workbench time is played from the call's beginning.
        if self.shared.stage.is_some() || !self.warm.begin() {
            return;
        }
        let plugin = Arc::clone(self);
        let cpu = CpuBudget::after(self.limits.cpu, Duration::ZERO);
        let charged = Arc::clone(&cpu);
        // Whoever stops the runtime ends it with the guests' threads; nobody waits for it.
        drop(self.shared.lanes.spawn(&self.pace, cpu, async move {
            let made = plugin.make(&charged).await;
            plugin.warm.end(made.filter(Ready::can_be_kept));
            Ok(())
        }));
    }

    async fn make(&self, cpu: &Arc<CpuBudget>) -> Option<Ready> {
        let until = Instant::now() + MAKING;
        let _ticking = self.shared.ticker.hold();
        let account = Account::open(Instant::now());
        let mut store = self.store_of(self.state_of(self.of_the_host(MAKING), account, until), cpu);
        let instance = {
            let (store, pre) = (&mut store, &self.compiled.linked.pre);
            timeout_at(until, Metered::new(Arc::clone(cpu), async move { pre.instantiate_async(store).await })).await
        };
        match instance {
            Ok(Ok(instance)) => Some(Ready { store, instance }),
            // The next call says what is wrong.
            Ok(Err(_)) | Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_made_or_kept_than_there_are_places() {
        let warm = Warm::new(2);
        assert!(warm.begin() && warm.begin() && !warm.begin(), "two are being made");
        warm.end(Some("one"));
        assert!(!warm.begin(), "one is ready, one is being made");
        warm.end(Some("two"));
        assert!(!warm.begin());
        warm.making.fetch_add(1, Ordering::AcqRel);
        warm.end(Some("three"));
        assert_eq!([warm.take(), warm.take(), warm.take()], [Some("two"), Some("one"), None]);
    }

    #[test]
    fn what_is_closed_stays_empty() {
        let warm = Warm::new(2);
        assert!(warm.begin() && warm.begin());
        warm.end(Some("one"));
        warm.close();
        warm.end(Some("two"));
        assert!(warm.take().is_none() && !warm.begin());
    }

    #[test]
    fn instances_that_cannot_be_kept_are_made_once() {
        let warm = Warm::<()>::new(2);
        assert!(warm.begin());
        warm.end(None);
        assert!(!warm.begin());
    }
}
