//! How many connections one plugin has: each exchange that is under way holds one of so many permits until its answer was
//! read or given up, and connections lie idle for so many origins only that they cannot be more either.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::DoorError;

/// How many connections to one origin lie idle at most.
pub(super) const IDLE_PER_ORIGIN: usize = 16;

/// For how long they do.
pub(super) const IDLE: Duration = Duration::from_secs(60);

/// The connections of one generation of a plugin.
#[derive(Debug)]
pub(super) struct Connections {
    most: usize,
    free: Arc<Semaphore>,
    /// The origins whose connections may lie idle, and when each was asked last.
    kept: Mutex<BTreeMap<String, Instant>>,
}

impl Connections {
    pub(super) fn new(most: usize) -> Self {
        Self { most, free: Arc::new(Semaphore::new(most)), kept: Mutex::default() }
    }

    /// Takes one for an exchange.
    pub(super) fn take(&self) -> Result<OwnedSemaphorePermit, DoorError> {
        Arc::clone(&self.free).try_acquire_owned().map_err(|_| DoorError::Connections(self.most))
    }

    /// Whether a connection to this origin may lie idle afterwards.
    pub(super) fn keeps(&self, origin: &str) -> bool {
        let now = Instant::now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.contains_key(origin) {
            // A connection may go idle long after the request, so what was asked is kept for twice as long.
            kept.retain(|_, asked| now.duration_since(*asked) < 2 * IDLE);
            if kept.len() >= (self.most / IDLE_PER_ORIGIN).max(1) {
                return false;
            }
        }
        kept.insert(origin.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_given_back() {
        let connections = Connections::new(2);
        let (one, _two) = (connections.take().unwrap(), connections.take().unwrap());
        assert!(matches!(connections.take(), Err(DoorError::Connections(2))));
        drop(one);
        assert!(connections.take().is_ok());
    }

    #[test]
    fn connections_lie_idle_for_a_few_origins_only() {
        let connections = Connections::new(3 * IDLE_PER_ORIGIN);
        let kept =
            |range: std::ops::Range<u32>| range.filter(|n| connections.keeps(&format!("https://{n}.test"))).count();
        assert_eq!(kept(0..100), 3);
        assert_eq!(kept(0..3), 3, "those that were kept are kept on");
        assert!(Connections::new(1).keeps("https://a.test"));
    }

    #[tokio::test(start_paused = true)]
    async fn origin_that_was_not_asked_for_long_gives_its_place_up() {
        let connections = Connections::new(1);
        assert!(connections.keeps("https://a.test") && !connections.keeps("https://b.test"));
        tokio::time::advance(2 * IDLE - Duration::from_millis(1)).await;
        assert!(!connections.keeps("https://b.test"), "its connection may still lie idle");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(connections.keeps("https://b.test") && !connections.keeps("https://a.test"));
    }
}
