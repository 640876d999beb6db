//! An adapter for the FLUX models of Black Forest Labs.
//!
//! The provider takes a request for one picture and answers with a task, which is polled until its picture lies somewhere
//! to be fetched. A request for n pictures is n tasks of one job. [`catalogue`] has the models as data, [`wire`] the
//! other side's words, [`convert`] and [`answer`] the mappings there and back, [`price`] what it costs, [`active`] how
//! many tasks run, [`server`] what is sent; this file is the walk. Webhooks are not used, and no task can be ended: the
//! provider has no call for that.

mod active;
mod answer;
mod catalogue;
mod config;
mod convert;
mod fields;
mod price;
mod server;
mod wire;

use std::time::{Duration, SystemTime};

use easel_sdk::health::{Condition, Depth};
use easel_sdk::{
    Adapter, Context, Error, ErrorKind, Health, Job, Jobs, Model, Money, Output, Picture, Progress, Request, Result,
};

use crate::answer::Stand;
use crate::catalogue::{Catalogue, Provider};
use crate::config::Config;
use crate::server::{Server, Trouble};
use crate::wire::{Finished, STATE_VERSION, State, Task};

/// How many rounds in a row may go wrong in a way that may pass: the pictures are paid for.
const MAX_STUMBLES: u32 = 5;

/// How often the provider may not know a task: right after it was taken, a sister host may not have heard of it.
const MAX_MISSING: u32 = 5;

/// The longest wait between two polls.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// The adapter.
#[derive(Debug)]
pub struct Bfl;

easel_sdk::adapter!(Bfl: Jobs, Catalogue, Health);

impl Adapter for Bfl {
    type Config = Config;

    fn models(config: &Config) -> Result<Vec<Model>> {
        config.models()
    }

    fn generate(context: &Context, config: &Config, request: &Request, progress: &Progress<'_>) -> Result<Output> {
        let (provider, catalogue) = (Provider::known()?, Catalogue::read(&config.models)?);
        let server = Server::new(context, config, &provider)?;
        let record = catalogue.record(request.model.as_deref().unwrap_or_default())?;
        server.check_key()?;
        let mut submission = convert::submission(&record, request)?;
        let started_ms = now_ms();
        active::check(config, &record, request.count, started_ms, |task| server.is_over(task))?;
        let mut state = State { started_ms, prompt: mark(&request.prompt), ..State::default() };

        let (mut micros, mut failure) = (Some(0_u64), None);
        for index in 0..request.count {
            let seed = convert::seed(&record, request, index);
            submission.body.extend(seed.map(|seed| ("seed".to_owned(), seed.into())));
            match progress.stage("submitting").and_then(|()| server.submit(&record, &submission)) {
                Ok((id, url, cost)) => {
                    state.tasks.push(Task { id, url, seed, ..Task::default() });
                    let cost = cost.and_then(|cost| price::told(&provider, cost));
                    micros = micros.zip(cost).map(|(sum, cost)| sum.saturating_add(cost));
                }
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        if !state.tasks.is_empty() {
            state.lease = active::hold(config, &record, &state.tasks, &context.request_id, started_ms);
        }
        let cost = micros.map(|micros| provider.money(micros));
        match (failure, cost) {
            (None, cost) => {
                let pending = Output::pending(job(&state, wait(config, 0))?);
                Ok(Output { cost, notes: submission.notes, ..pending })
            }
            // The tasks that were taken go on, and were paid for.
            (Some(error), Some(cost)) if !state.tasks.is_empty() => Err(error.with_billed(cost)),
            (Some(error), _) => Err(error),
        }
    }
}

impl Jobs for Bfl {
    fn poll(context: &Context, config: &Config, job: &Job, progress: &Progress<'_>) -> Result<Output> {
        let provider = Provider::known()?;
        let server = Server::new(context, config, &provider)?;
        let mut state = State::read(&job.state(STATE_VERSION)?)?;
        let error = match round(&server, &mut state, progress) {
            Ok(Some(pictures)) => {
                release(&state);
                return Ok(Output { pictures, ..Output::default() });
            }
            Ok(None) => {
                state.stumbles = 0;
                None
            }
            Err(Trouble::Passing(error)) if state.stumbles < MAX_STUMBLES => {
                state.stumbles += 1;
                Some(error)
            }
            Err(Trouble::Passing(error) | Trouble::Final(error)) => {
                if state.tasks.len() == 1 {
                    release(&state);
                }
                return Err(error);
            }
        };
        let taken = Duration::from_millis(now_ms().saturating_sub(state.started_ms));
        if taken >= Duration::from_secs(config.timeout_s) {
            let message = format!("the provider has not made it within {} s (see timeout_s)", config.timeout_s);
            return Err(Error::new(ErrorKind::Timeout, message));
        }
        let asked = error.and_then(|error| error.retry_after).unwrap_or_default();
        Ok(Output::pending(self::job(&state, wait(config, state.stumbles).max(asked).min(MAX_WAIT))?))
    }

    /// The tasks go on, and count as active until they are over or too old: there is no call to end one.
    fn cancel(_: &Context, _: &Config, _: &Job) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "the provider has no call to end a task; it goes on, and is charged"))
    }
}

/// Asks once for every task that is not finished; the pictures, once all are.
fn round(server: &Server<'_>, state: &mut State, progress: &Progress<'_>) -> Result<Option<Vec<Picture>>, Trouble> {
    let mut finished: Vec<Option<Finished>> = Vec::new();
    finished.resize_with(state.tasks.len(), || None);
    for is_again in [false, true] {
        for (index, task) in (0_u32..).zip(&mut state.tasks) {
            // Where a picture lies is not kept between polls, so the last round asks all of them.
            if task.is_ready != is_again || finished[index as usize].is_some() {
                continue;
            }
            progress.check()?;
            match server.poll(task)? {
                (Stand::Ready(result), _) => {
                    task.is_ready = true;
                    finished[index as usize] = Some(result);
                }
                (Stand::Going(stage), done) => {
                    task.is_ready = false;
                    progress.stage(stage)?;
                    if let Some(done) = done {
                        progress.step(index, done, 100)?;
                    }
                }
                (Stand::Missing, _) if task.missing < MAX_MISSING => {
                    task.is_ready = false;
                    task.missing += 1;
                }
                (Stand::Missing, _) => {
                    let message = format!("the provider does not know task {} any more", task.id);
                    return Err(Trouble::Final(Error::upstream(message)));
                }
                (Stand::Over(error), _) => return Err(Trouble::Final(error)),
            }
        }
        if state.tasks.iter().any(|task| !task.is_ready) {
            return Ok(None);
        }
    }
    progress.stage("downloading")?;
    let mut pictures = Vec::new();
    for (task, finished) in state.tasks.iter().zip(finished) {
        let finished = finished.unwrap_or_default();
        pictures.push(Picture {
            blob: server.download(finished.sample.as_deref().unwrap_or_default())?,
            seed: task.seed.map(|asked| finished.seed.unwrap_or(asked)),
            revised_prompt: finished.prompt.filter(|prompt| mark(prompt) != state.prompt),
        });
    }
    Ok(Some(pictures))
}

fn job(state: &State, wait: Duration) -> Result<Job> {
    let first = state.tasks.first().map(|task| task.id.as_str()).unwrap_or_default();
    Job::new(first, wait).with_state(STATE_VERSION, &state.write())
}

/// The wait before the next poll: longer after each that went wrong.
fn wait(config: &Config, stumbles: u32) -> Duration {
    Duration::from_millis(config.poll_ms) * 2_u32.saturating_pow(stumbles)
}

fn release(state: &State) {
    if let Some(key) = &state.lease {
        active::release(key);
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A mark by which a text is told from another (FNV-1a).
fn mark(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |mark, byte| (mark ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl easel_sdk::Catalogue for Bfl {
    fn estimate(_: &Context, config: &Config, request: &Request) -> Result<Option<Money>> {
        let catalogue = Catalogue::read(&config.models)?;
        let record = catalogue.record(request.model.as_deref().unwrap_or_default())?;
        Ok(price::estimate(&Provider::known()?, &record, request))
    }
}

impl Health for Bfl {
    fn check(context: &Context, config: &Config, depth: Depth) -> Result<Condition> {
        let provider = Provider::known()?;
        let server = Server::new(context, config, &provider)?;
        server.check_key()?;
        let credits = match depth {
            Depth::Shallow if server.is_own() => return Ok(Condition::new("the key is there")),
            Depth::Shallow => return Ok(Condition::new("another server than the provider's is named")),
            Depth::Deep => server.credits(),
        };
        match credits {
            Ok(credits) => {
                let mut condition =
                    Condition::new(format!("the key is valid; {} credits are left", fields::written(&credits)));
                condition.details.insert("credits".to_owned(), credits);
                Ok(condition)
            }
            // Another server need not count credits.
            Err(error) if error.provider_status == Some(404) && !server.is_own() => {
                Ok(Condition::new("the server answers"))
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
