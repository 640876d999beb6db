//! Time that is played: it begins where a test says, goes on by a microsecond each time it is looked at, and jumps over
//! what a guest waits for. A wait takes a thousandth of its time in truth, so that what is ready sooner still comes first.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::clocks::{HostMonotonicClock, HostWallClock};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use crate::state::State;

/// The interface whose waiting is played.
const INTERFACE: &str = "wasi:clocks/monotonic-clock@0.2.12";

/// The time of one call, in nanoseconds since its begin. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Played(Arc<AtomicU64>);

impl Played {
    /// Looks at the clock, which goes on by that: whoever measures never measures nothing.
    fn look(&self) -> u64 {
        self.0.fetch_add(1000, Ordering::Relaxed)
    }

    fn jump_to(&self, nanos: u64) {
        self.0.fetch_max(nanos, Ordering::Relaxed);
    }
}

/// A clock that begins at a time of the day, or at nothing.
pub(super) struct Clock {
    pub(super) start: Duration,
    pub(super) played: Played,
}

impl HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        Duration::from_micros(1)
    }

    fn now(&self) -> Duration {
        self.start + Duration::from_nanos(self.played.look())
    }
}

impl HostMonotonicClock for Clock {
    fn resolution(&self) -> u64 {
        1000
    }

    fn now(&self) -> u64 {
        self.played.look()
    }
}

/// Has a linker's waiting played where the call's time is.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut clock = linker.instance(INTERFACE)?;
    clock.func_wrap("subscribe-duration", |mut store: StoreContextMut<'_, State>, (nanos,): (u64,)| {
        let state = store.data_mut();
        let until = state.call.time.as_ref().map_or(0, Played::look).saturating_add(nanos);
        wait(state, nanos, until)
    })?;
    clock.func_wrap("subscribe-instant", |mut store: StoreContextMut<'_, State>, (until,): (u64,)| {
        let state = store.data_mut();
        let now = match &state.call.time {
            Some(played) => played.look(),
            None => wasmtime_wasi::p2::bindings::clocks::monotonic_clock::Host::now(
                &mut wasmtime_wasi::clocks::WasiClocksView::clocks(state),
            )?,
        };
        wait(state, until.saturating_sub(now), until)
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

fn wait(state: &mut State, nanos: u64, until: u64) -> wasmtime::Result<(Resource<DynPollable>,)> {
    let wait = match &state.call.time {
        Some(played) => Wait { rest: Duration::from_nanos(nanos / 1000), then: Some((played.clone(), until)) },
        None => Wait { rest: Duration::from_nanos(nanos), then: None },
    };
    let wait = state.table.push(wait)?;
    Ok((subscribe(&mut state.table, wait)?,))
}

/// What a guest waits for.
struct Wait {
    rest: Duration,
    then: Option<(Played, u64)>,
}

#[wasmtime_wasi::async_trait]
impl Pollable for Wait {
    async fn ready(&mut self) {
        tokio::time::sleep(self.rest).await;
        self.rest = Duration::ZERO;
        if let Some((played, until)) = &self.then {
            played.jump_to(*until);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_when_it_is_looked_at_and_begins_where_it_was_told() {
        let clock = Clock { start: Duration::from_secs(100), played: Played::default() };
        let (first, second) = (HostWallClock::now(&clock), HostWallClock::now(&clock));
        assert_eq!(first, Duration::from_secs(100));
        assert_eq!(second - first, Duration::from_micros(1));
    }

    #[tokio::test]
    async fn wait_ends_soon_and_time_has_jumped_over_it() {
        let played = Played::default();
        let until = 30_000_000_000;
        let mut wait = Wait { rest: Duration::from_nanos(until / 1000), then: Some((played.clone(), until)) };
        wait.ready().await;
        assert!(played.look() >= until);
    }
}
