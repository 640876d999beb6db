//! One call into a plugin: a fresh instance, its limits, and its end.
//!
//! The call runs as a task of its own on the guests' threads (`lanes.rs`). Whoever waits for it may go at any time; the task is then
//! ended at the guest's next tick or wait, and what it holds (permit, slot, store) is given back in that order, reversed.

use std::sync::Arc;
use std::time::Duration;

use easel_core::{Context, Error, ErrorKind, Permit, Progress, Result, TraceParent};
use futures_util::future::BoxFuture;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, TryAcquireError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use wasmtime::Store;
use wasmtime::component::Instance;

use crate::account::{Account, Tab};
use crate::bindings::easel::plugin::types::CallContext;
use crate::budget::{CpuBudget, Metered, Spent};
use crate::clock::Elapsed;
use crate::door::Visits;
use crate::fault::{Breach, of_trap};
use crate::host::{BlobQuota, PixelWork, StoreAccess};
use crate::lanes::{joined, stopping};
use crate::log::CallLog;
use crate::plugin::Plugin;
use crate::record::Outcome;
use crate::state::{CallState, State, begin_call, new_store};
use crate::warm::Ready;

/// What surrounds a call.
pub(crate) struct Surroundings {
    request_id: String,
    deadline: Instant,
    cancellation: CancellationToken,
    progress: Progress,
    trace_parent: Option<TraceParent>,
    asker: Asker,
    permit: Option<Permit>,
    /// What earlier calls of the same request have used.
    spent: Spent,
}

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asker {
    /// A request. It takes one of the slots, and has the network as granted.
    Request,
    /// A request that goes on, or the host on its behalf, for so long. It waits for a slot, and has the network as
    /// granted.
    Later(Duration),
    /// Somebody who only looks, for so long. It waits for a slot and has the network as granted, and how it ends says
    /// nothing about the generation: looking changes nothing.
    Aside(Duration),
    /// The host itself, for so long. It needs no slot and gives no network.
    Host(Duration),
}

impl Surroundings {
    /// Those of a request. The permit, if there is one, is held until the call has really ended.
    pub(crate) fn of(context: &Context, permit: Option<Permit>) -> Self {
        Self {
            request_id: context.id.as_str().to_owned(),
            deadline: context.deadline,
            cancellation: context.cancellation.clone(),
            progress: context.progress.clone(),
            trace_parent: context.trace_parent.clone(),
            asker: Asker::Request,
            permit,
            spent: Spent::default(),
        }
    }

    /// The same for what goes on after a first call. It has begun already, so it waits for a slot as long as `limit` and
    /// the deadline let it.
    pub(crate) fn later(context: &Context, permit: Option<Permit>, limit: Duration) -> Self {
        Self { asker: Asker::Later(limit), ..Self::of(context, permit) }
    }

    /// Those of a look at how the plugin stands.
    pub(crate) fn aside(context: &Context, limit: Duration) -> Self {
        Self { asker: Asker::Aside(limit), ..Self::of(context, None) }
    }

    /// Counts the call together with others of the same request.
    pub(crate) fn charging(self, spent: &Spent) -> Self {
        Self { spent: spent.clone(), ..self }
    }
}

/// What is done with an instance. `wasmtime::Error` is a trap; what the plugin answered, errors included, is `T`.
pub(crate) type Work<T> =
    Box<dyn for<'a> FnOnce(&'a mut Store<State>, &'a Instance) -> BoxFuture<'a, wasmtime::Result<T>> + Send>;

impl Plugin {
    /// The surroundings of a question that the host asks by itself, without network.
    pub(crate) fn of_the_host(&self, limit: Duration) -> Surroundings {
        Surroundings {
            request_id: "load".to_owned(),
            deadline: self.shared.clock().now() + limit * 2,
            cancellation: CancellationToken::new(),
            progress: Progress::new(),
            trace_parent: None,
            asker: Asker::Host(limit),
            permit: None,
            spent: Spent::default(),
        }
    }

    /// What it is told about its call.
    pub(crate) fn call_context(&self, context: &Context, wall: Duration) -> CallContext {
        let left = context.deadline.saturating_duration_since(self.shared.clock().now()).min(wall);
        CallContext {
            request_id: context.id.as_str().to_owned(),
            deadline: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
            trace_parent: context.trace_parent.as_ref().map(ToString::to_string),
        }
    }

    /// Calls into a fresh instance.
    ///
    /// # Errors
    /// `PluginFault` for whatever the plugin did wrong, `Overloaded` when too many calls run, `NotReady` once the
    /// runtime stops.
    pub(crate) async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        surroundings: Surroundings,
        work: Work<T>,
    ) -> Result<T> {
        let asked = Instant::now();
        let mut running = match surroundings.asker {
            Asker::Request | Asker::Later(_) => Some(self.vitals.enter()),
            Asker::Aside(_) => Some(self.vitals.enter().unjudged()),
            Asker::Host(_) => None,
        };
        let slot = match surroundings.asker {
            Asker::Request => Some(self.slot()),
            Asker::Later(limit) | Asker::Aside(limit) => {
                Some(self.slot_by(surroundings.deadline.min(self.shared.clock().now() + limit)).await)
            }
            Asker::Host(_) => None,
        };
        let slot = match (slot.transpose(), &mut running) {
            (Ok(slot), _) => slot,
            (Err(error), Some(running)) => {
                running.ends(Outcome::Overloaded);
                return Err(error);
            }
            (Err(error), None) => return Err(error),
        };
        let plugin = Arc::clone(self);
        let spent = surroundings.spent.clone();
        let cpu = CpuBudget::after(self.limits.cpu, spent.get());
        let (charged, used) = (Arc::clone(&cpu), Arc::clone(&cpu));
        let task = self.shared.lanes.spawn(&self.pace, cpu, async move {
            // In this order, so that the store is dropped first and the permit last.
            let _permit = surroundings.permit.clone();
            let _slot = slot;
            let (outcome, result) = plugin.run(surroundings, (charged, Account::open(asked)), work).await;
            if let Some(running) = &mut running {
                running.ends(outcome);
            }
            plugin.warm_up();
            result
        });
        let result = tokio::select! {
            biased;
            () = self.vitals.ended() => Err(self.replaced()),
            ended = AbortOnDropHandle::new(task) => joined(ended),
        };
        spent.add(used.used());
        result
    }

    /// One of the slots for calls, of all and of this plugin's, if one is free.
    fn slot(&self) -> Result<[OwnedSemaphorePermit; 2]> {
        if self.shared.stopping.is_cancelled() {
            return Err(stopping());
        }
        let own = Arc::clone(&self.calls).try_acquire_owned().map_err(|error| {
            no_slot(&error, || format!("{} calls of plugin {} run", self.limits.calls_per_plugin, self.id))
        })?;
        let any = Arc::clone(&self.shared.calls).try_acquire_owned();
        let any = any.map_err(|error| no_slot(&error, || format!("{} plugin calls run", self.shared.limits.calls)))?;
        Ok([any, own])
    }

    /// The same, as soon as they are free.
    async fn slot_by(&self, deadline: Instant) -> Result<[OwnedSemaphorePermit; 2]> {
        let both = async {
            let own = Arc::clone(&self.calls).acquire_owned().await?;
            Ok([Arc::clone(&self.shared.calls).acquire_owned().await?, own])
        };
        match self.shared.clock().timeout_at(deadline, both).await {
            Ok(slots) => slots.map_err(|_: AcquireError| stopping()),
            Err(_) => Err(past_deadline()),
        }
    }

    /// What a call is told that a drain ends.
    fn replaced(&self) -> Error {
        let (id, version) = (&self.id, &self.vitals.version);
        let message = format!("plugin {id} {version} was replaced, and the time of its last calls is over");
        Error::new(ErrorKind::NotReady, message).with_retry_after(Duration::from_secs(1))
    }

    async fn run<T>(
        &self,
        surroundings: Surroundings,
        (cpu, account): (Arc<CpuBudget>, Account),
        work: Work<T>,
    ) -> (Outcome, Result<T>) {
        let wall = match surroundings.asker {
            Asker::Request => self.limits.wall,
            Asker::Later(limit) | Asker::Aside(limit) | Asker::Host(limit) => self.limits.wall.min(limit),
        };
        let (deadline, asker) = (surroundings.deadline, surroundings.asker);
        let clock = self.shared.clock();
        let until = deadline.min(clock.now() + wall);
        let _ticking = self.shared.ticker.hold();
        let call = self.state_of(surroundings, account, until);
        let tab = (!matches!(asker, Asker::Host(_))).then(|| Tab {
            account: Arc::clone(&call.account),
            visits: Arc::clone(&call.visits),
            cpu: Arc::clone(&cpu),
            counters: Arc::clone(&self.vitals.counters),
        });
        let (mut store, ready) = match self.warm.take() {
            Some(Ready { mut store, instance }) => {
                begin_call(&mut store, call, &cpu, Arc::clone(&self.hidden));
                (store, Some(instance))
            }
            None => (self.store_of(call, &cpu), None),
        };
        let pre = &self.compiled.linked.pre;
        let result = {
            let store = &mut store;
            let call = async move {
                // Instantiation runs code of the guest too.
                let begun = std::time::Instant::now();
                let instance = match ready {
                    Some(instance) => instance,
                    None => pre.instantiate_async(&mut *store).await?,
                };
                store.data().call.account.instantiated(begun.elapsed());
                work(store, &instance).await
            };
            clock.timeout_at(until, Metered::new(Arc::clone(&cpu), call)).await
        };
        if let Some(stage) = &self.shared.stage {
            stage.note(cpu.used(), store.data().memory.bytes());
        }
        if tab.is_some() {
            self.vitals.counters.saw_memory(store.data().memory.bytes());
        }
        drop(tab);
        match result {
            Ok(Ok(value)) if store.data().call.account.is_refusal() => (Outcome::Refused, Ok(value)),
            Ok(Ok(value)) => (Outcome::Answered, Ok(value)),
            Ok(Err(error)) => (Outcome::Trapped, Err(of_trap(&self.id, &error, store.data()))),
            Err(Elapsed) if clock.now() >= deadline => (Outcome::TimedOut, Err(past_deadline())),
            // An upstream may have been slow, so it is no sign of a sick plugin.
            Err(Elapsed) => (Outcome::TimedOut, Err(of_trap(&self.id, &Breach::Wall(wall).into(), store.data()))),
        }
    }

    /// The store of a call that makes its own instance.
    pub(crate) fn store_of(&self, call: CallState, cpu: &Arc<CpuBudget>) -> Store<State> {
        new_store(&self.shared.engine, call, cpu, Arc::clone(&self.hidden), Arc::clone(&self.shared.memory))
    }

    pub(crate) fn state_of(&self, surroundings: Surroundings, account: Account, deadline: Instant) -> CallState {
        let Surroundings { request_id, cancellation, progress, trace_parent, asker, .. } = surroundings;
        CallState {
            plugin: Arc::clone(&self.id),
            config: Arc::clone(&self.config),
            door: self.door.clone().filter(|_| !matches!(asker, Asker::Host(_))),
            credentials: Arc::clone(&self.credentials),
            visits: Arc::new(Visits::new(&request_id, trace_parent.as_ref(), Arc::clone(&self.vitals.counters))),
            stage: self.shared.stage.clone(),
            clock: self.shared.clock(),
            account: Arc::new(account),
            vitals: Arc::clone(&self.vitals),
            blobs: BlobQuota::new(self.limits.blob_bytes).within(&self.shared.blobs),
            store: StoreAccess::new(
                self.shared.values.clone().filter(|_| !matches!(asker, Asker::Host(_))),
                &self.limits,
            ),
            pixels: PixelWork::new(
                self.limits.picture_pixels,
                self.limits.pixel_work,
                Arc::clone(&self.shared.pixel_workers),
            ),
            log: CallLog::new(Arc::clone(&self.id), request_id, &self.limits, Arc::clone(&self.vault)),
            limits: Arc::clone(&self.limits),
            deadline,
            cancellation,
            progress,
        }
    }
}

/// Time is up.
pub(crate) fn past_deadline() -> Error {
    Error::new(ErrorKind::Timeout, "the deadline of the request passed")
}

fn no_slot(error: &TryAcquireError, what: impl Fn() -> String) -> Error {
    match error {
        TryAcquireError::Closed => stopping(),
        TryAcquireError::NoPermits => Error::new(ErrorKind::Overloaded, format!("{}, as many as may", what()))
            .with_retry_after(Duration::from_secs(1)),
    }
}

/// Waits for a call, or for the caller to go; the call is then dropped with all that it holds.
pub(crate) async fn while_wanted<T>(context: &Context, call: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        () = context.cancellation.cancelled() => Err(Error::new(ErrorKind::Cancelled, "the caller has gone")),
        result = call => result,
    }
}
