//! Providers that answer with a job: the adapter leaves its result pending, and the host polls on its behalf until there
//! is a result, the deadline passes or the caller goes. In between no instance lives and no slot is taken.
//!
//! A job is a value, so each poll asks the generation that serves then: after a swap the new one goes on. Whatever ends the
//! polling other than a result, the plugin is asked to cancel the job, by a task of its own that holds the request's
//! permit until then: the work is not over before. That includes the end of the runtime, which waits for these tasks for as
//! long as one may take: nobody would ever ask for the picture, and the provider would charge for it. The job of a request
//! that outlives this process is written down before the wait; when the process ends it is left with the provider, and
//! another goes on with it.

use std::sync::Arc;
use std::time::Duration;

use easel_core::{Context, ParamNames, Permit, Record, Result};
use tokio_util::task::task_tracker::TaskTrackerToken;
use wasmtime::component::Resource;

use crate::bindings::easel::plugin::images::Job;
use crate::budget::Spent;
use crate::call::{Surroundings, past_deadline};
use crate::fault::{fault, of_value};
use crate::host::{CallProgress, ImageResult, PartialQuota};
use crate::lanes::stopping;
use crate::plugin::Plugin;

/// What all calls of one request share.
pub(crate) struct Polling {
    /// The generation that began.
    plugin: Arc<Plugin>,
    context: Context,
    names: &'static ParamNames,
    count: u32,
    permit: Permit,
    partials: PartialQuota,
    /// Counted over all calls of the request, so that polling is no way around the budget.
    pub(crate) spent: Spent,
    /// The job that would be left behind if nobody polled any more.
    open: Option<Open>,
    /// Writes down the job of a request that outlives this process.
    record: Option<Arc<dyn Record>>,
    /// The job that is written down.
    written: Option<Job>,
}

/// A job that goes on at the provider.
struct Open {
    job: Job,
    /// The runtime does not stop before this is dropped.
    _held: TaskTrackerToken,
}

impl Polling {
    pub(crate) fn new(
        plugin: &Arc<Plugin>,
        context: &Context,
        job: &easel_core::Job,
        record: Option<Arc<dyn Record>>,
    ) -> Self {
        let easel_core::Job { request, permit, .. } = job;
        Self {
            plugin: Arc::clone(plugin),
            context: context.clone(),
            names: request.names(),
            count: request.count,
            permit: permit.clone(),
            partials: PartialQuota::new(&plugin.limits),
            spent: Spent::default(),
            open: None,
            record,
            written: None,
        }
    }

    /// Writes the job down, where the request outlives this process.
    async fn write_down(&mut self, job: &Job, so_far: &ImageResult) -> Result<()> {
        let Some(record) = &self.record else { return Ok(()) };
        let is_it =
            |written: &Job| (&written.id, &written.state, written.version) == (&job.id, &job.state, job.version);
        if !self.written.as_ref().is_some_and(is_it) {
            record.pending(&so_far.ticket(job)).await?;
            self.written = Some(job.clone());
        }
        Ok(())
    }

    /// Where one call tells its progress.
    pub(crate) fn progress(&self) -> CallProgress {
        CallProgress::new(self.partials.clone(), self.count)
    }

    /// Polls until the result is no longer pending.
    pub(crate) async fn finish(&mut self, first: ImageResult) -> Result<ImageResult> {
        let mut result = first;
        while let Some(job) = result.pending.take() {
            let wait = Duration::from_millis(job.poll_after.into());
            self.open = Some(Open { job: job.clone(), _held: self.plugin.shared.open_jobs.token() });
            if self.plugin.compiled.linked.abilities.jobs.is_none() {
                return Err(fault(&self.plugin.id, "answered with a job and does not export easel:plugin/jobs"));
            }
            if !result.images.is_empty() {
                return Err(fault(&self.plugin.id, "answered with pictures and with a job"));
            }
            self.write_down(&job, &result).await?;
            let limits = &self.plugin.shared.limits;
            let clock = self.plugin.shared.clock();
            let next = clock.now() + wait.max(limits.poll_least).min(limits.poll_most);
            self.while_running(clock.sleep_until(next.min(self.context.deadline))).await?;
            if clock.now() >= self.context.deadline {
                return Err(past_deadline());
            }
            let answer = self.while_running(poller(&self.plugin).poll(self, job)).await?;
            // What a provider charged for a job that then failed is charged all the same.
            let answer = answer.map_err(|error| match (error.billed(), result.cost.take()) {
                (None, Some(cost)) => error.with_billed(cost),
                (_, _) => error,
            })?;
            result = answer.after(result);
            self.open = None;
        }
        Ok(result)
    }

    /// Waits for something, or for the runtime to stop.
    async fn while_running<T>(&self, wait: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.plugin.shared.stopping.cancelled() => Err(stopping()),
            result = wait => Ok(result),
        }
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        let Some(Open { job, _held }) = self.open.take() else { return };
        if self.record.as_ref().is_some_and(|record| record.is_left()) {
            return;
        }
        let plugin = poller(&self.plugin);
        if plugin.compiled.linked.abilities.jobs.is_none() {
            return;
        }
        let limit = plugin.shared.limits.question;
        // The request is over; its deadline and its caller no longer count.
        let context = Context {
            deadline: plugin.shared.clock().now() + limit,
            cancellation: tokio_util::sync::CancellationToken::new(),
            progress: easel_core::Progress::new(),
            ..self.context.clone()
        };
        let (permit, names) = (self.permit.clone(), self.names);
        let (open, guests) = (plugin.shared.open_jobs.clone(), plugin.shared.guests.clone());
        let cancelling = async move {
            let (id, request_id) = (plugin.id.as_ref(), context.id.as_str());
            match plugin.cancel(&context, job, permit, names).await {
                Ok(()) => tracing::debug!(plugin = id, request_id, "the provider's job was cancelled"),
                Err(error) => {
                    tracing::warn!(plugin = id, request_id, error = %error, "the provider's job may go on");
                }
            }
        };
        drop(open.spawn_on(cancelling, &guests));
    }
}

/// The generation to go on with: the one that serves now, where it can; else the one that began.
fn poller(began: &Arc<Plugin>) -> Arc<Plugin> {
    let current = began.shared.generations.current(&began.id);
    let can_go_on =
        |plugin: &Arc<Plugin>| plugin.compiled.linked.abilities.jobs.is_some() && plugin.not_ready().is_none();
    current.filter(can_go_on).unwrap_or_else(|| Arc::clone(began))
}

impl Plugin {
    async fn poll(self: &Arc<Self>, polling: &Polling, job: Job) -> Result<ImageResult> {
        let called = self.call_context(&polling.context, self.limits.wall);
        let (compiled, progress, names) = (Arc::clone(&self.compiled), polling.progress(), polling.names);
        let permit = Some(polling.permit.clone());
        let surroundings = Surroundings::later(&polling.context, permit, self.limits.wall).charging(&polling.spent);
        self.call(
            surroundings,
            Box::new(move |store, instance| {
                Box::pin(async move {
                    let guest = compiled.linked.abilities.jobs()?.load(&mut *store, instance)?;
                    let progress = store.data_mut().table.push(progress)?;
                    let progress = Resource::new_borrow(progress.rep());
                    Ok(match guest.call_poll(&mut *store, &called, &job, progress).await? {
                        Ok(result) => Ok(store.data_mut().table.delete(result)?),
                        Err(error) => Err(of_value(error, store.data(), names)),
                    })
                })
            }),
        )
        .await?
    }

    async fn cancel(
        self: &Arc<Self>,
        context: &Context,
        job: Job,
        permit: Permit,
        names: &'static ParamNames,
    ) -> Result<()> {
        let limit = self.shared.limits.question;
        let called = self.call_context(context, limit);
        let compiled = Arc::clone(&self.compiled);
        self.call(
            Surroundings::later(context, Some(permit), limit),
            Box::new(move |store, instance| {
                Box::pin(async move {
                    let guest = compiled.linked.abilities.jobs()?.load(&mut *store, instance)?;
                    let answer = guest.call_cancel(&mut *store, &called, &job).await?;
                    Ok(answer.map_err(|error| of_value(error, store.data(), names)))
                })
            }),
        )
        .await?
    }
}
