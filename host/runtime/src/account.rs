//! What one call came to: where its time went, whether the plugin's answer was an error, and which functions of the host
//! it asked last. Counted while it runs, and added to its plugin's figures at its end. What it waits for upstreams is counted
//! at the door (`door/visits.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::budget::CpuBudget;
use crate::door::Visits;
use crate::record::{Counters, PluginTimes};

/// How many of the last calls into the host are remembered; a call that is repeated at once counts as one.
const MAX_TRAIL: usize = 16;

/// One call's.
#[derive(Debug)]
pub(crate) struct Account {
    asked: Instant,
    queue: AtomicU64,
    instantiation: AtomicU64,
    is_refusal: AtomicBool,
}

impl Account {
    /// Opens it when the call is asked for.
    pub(crate) fn open(asked: Instant) -> Self {
        Self {
            asked,
            queue: AtomicU64::new(nanos(asked.elapsed())),
            instantiation: AtomicU64::new(0),
            is_refusal: AtomicBool::new(false),
        }
    }

    /// The instance was made, in so long.
    pub(crate) fn instantiated(&self, took: Duration) {
        self.instantiation.store(nanos(took), Ordering::Relaxed);
    }

    /// The plugin answered with an error value.
    pub(crate) fn refuse(&self) {
        self.is_refusal.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_refusal(&self) -> bool {
        self.is_refusal.load(Ordering::Relaxed)
    }

    /// Where its time went. `cpu` is what the guest used, its instantiation included; `waited` what it waited for upstreams.
    pub(crate) fn times(&self, cpu: Duration, waited: Duration) -> PluginTimes {
        let time = |part: &AtomicU64| Duration::from_nanos(part.load(Ordering::Relaxed));
        let (queue, instantiation) = (time(&self.queue), time(&self.instantiation));
        let guest_cpu = cpu.saturating_sub(instantiation);
        // A plugin may compute while it waits for an upstream.
        let ran = self.asked.elapsed().saturating_sub(queue + instantiation + guest_cpu);
        let upstream = waited.min(ran);
        PluginTimes { queue, instantiation, guest_cpu, upstream, host_wait: ran - upstream }
    }
}

/// Adds what a call came to to the figures of its plugin when it ends, however it ends: a caller who goes takes nothing of
/// what was used so far with him.
pub(crate) struct Tab {
    pub(crate) account: Arc<Account>,
    pub(crate) visits: Arc<Visits>,
    pub(crate) cpu: Arc<CpuBudget>,
    pub(crate) counters: Arc<Counters>,
}

impl Drop for Tab {
    fn drop(&mut self) {
        self.counters.add_times(&self.account.times(self.cpu.used(), self.visits.waited()));
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The last calls into the host, by name, as in `image-request.prompt` or `wasi:io/streams`. Arguments and answers are not
/// remembered: they may hold prompts, pictures and keys.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    /// A ring, so that a call costs no allocation.
    steps: [(&'static str, u32); MAX_TRAIL],
    /// How many there were, repetitions left out; the last stands at this number less one.
    count: usize,
}

impl Trail {
    /// Remembers a call; the same one again is counted.
    pub(crate) fn step(&mut self, function: &'static str) {
        let last = &mut self.steps[self.count.wrapping_sub(1) % MAX_TRAIL];
        if self.count > 0 && last.0 == function {
            last.1 = last.1.saturating_add(1);
            return;
        }
        self.steps[self.count % MAX_TRAIL] = (function, 1);
        self.count += 1;
    }

    /// The calls in their order, as in `image-request.prompt, blob-writer.write ×3, fetch.send`; empty when there was none.
    pub(crate) fn told(&self) -> String {
        let step = |number: usize| match self.steps[number % MAX_TRAIL] {
            (function, 1) => function.to_owned(),
            (function, times) => format!("{function} ×{times}"),
        };
        (self.count.saturating_sub(MAX_TRAIL)..self.count).map(step).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_calls_into_the_host_are_told() {
        let mut trail = Trail::default();
        assert_eq!(trail.told(), "");
        for name in ["a", "a", "b"] {
            trail.step(name);
        }
        assert_eq!(trail.told(), "a ×2, b");
        let names = ["c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "q", "r"];
        names.into_iter().for_each(|name| trail.step(name));
        assert_eq!(trail.told(), "c, d, e, f, g, h, i, j, k, l, m, n, o, p, q ×2, r");
    }

    #[tokio::test(start_paused = true)]
    async fn parts_of_the_time_are_the_whole() {
        let [micros, millis] = [Duration::from_micros, Duration::from_millis];
        let asked = Instant::now();
        tokio::time::advance(millis(1)).await;
        let account = Account::open(asked);
        account.instantiated(micros(10));
        tokio::time::advance(millis(2)).await;
        let (queue, instantiation, guest_cpu) = (millis(1), micros(10), micros(90));
        // The rest of the two milliseconds, which an upstream cannot have taken more of.
        for (waited, upstream, host_wait) in [(millis(1), 1000, 900), (millis(9000), 1900, 0)] {
            let (upstream, host_wait) = (micros(upstream), micros(host_wait));
            let expected = PluginTimes { queue, instantiation, guest_cpu, upstream, host_wait };
            assert_eq!(account.times(micros(100), waited), expected);
        }
    }
}
