//! What is sent to the provider, and with which key. The door looks after that as well; here a key is not even named for
//! an address that is not to have it.

use std::time::Duration;

use easel_sdk::http::{Request as HttpRequest, Response};
use easel_sdk::{Blob, Context, Error, ErrorKind, Problem, Result, host};
use serde_json::Value;

use crate::answer::{self, Stand};
use crate::catalogue::{Provider, Record};
use crate::config::{Config, Owner, is_under, origin};
use crate::convert::Submission;
use crate::wire::{MAX_TEXT, Standing, Task};

/// The longest wait for a task to be taken, and for a picture: well below the time of a whole call, so that silence is a
/// timeout of the provider and not a fault of the plugin.
const EXCHANGE_TIME: Duration = Duration::from_secs(120);

/// The longest wait for the answer to a poll.
const POLL_TIME: Duration = Duration::from_secs(30);

/// The longest body of a poll that was refused.
const MAX_REFUSAL_BYTES: u32 = 64 * 1024;

/// The server of one call.
pub struct Server<'a> {
    context: &'a Context,
    config: &'a Config,
    provider: &'a Provider,
    owner: Owner,
}

/// Why a poll came to nothing.
#[derive(Debug)]
pub enum Trouble {
    /// It may go well the next time.
    Passing(Error),
    /// It will not.
    Final(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match error.kind {
            ErrorKind::Upstream | ErrorKind::Timeout | ErrorKind::Overloaded | ErrorKind::RateLimited => {
                Self::Passing(error)
            }
            _ => Self::Final(error),
        }
    }
}

impl<'a> Server<'a> {
    /// The server that the config names.
    ///
    /// # Errors
    /// `Internal` when it names none.
    pub fn new(context: &'a Context, config: &'a Config, provider: &'a Provider) -> Result<Self> {
        Ok(Self { context, config, provider, owner: config.owner(provider)? })
    }

    /// Whether it is the provider's own.
    pub fn is_own(&self) -> bool {
        self.owner == Owner::Provider
    }

    /// Looks for the key before a request is lost without it.
    ///
    /// # Errors
    /// `Auth` naming the provider and where a key comes from.
    pub fn check_key(&self) -> Result<()> {
        if !self.is_own() || host::has_credential(self.owner.credential()) {
            return Ok(());
        }
        let message = "API key not found for Black Forest Labs: set BFL_API_KEY, and write in easel.toml under [plugin.bfl]: \
                       environment = [\"BFL_*\"]";
        Err(Error::new(ErrorKind::Auth, message))
    }

    /// Asks for one picture: the task's id, where to ask for it, and what it costs in credits.
    ///
    /// # Errors
    /// Whatever the provider refuses.
    pub fn submit(&self, record: &Record, submission: &Submission) -> Result<(String, String, Option<f64>)> {
        let url = format!("{}{}", self.config.base(), record.endpoint);
        let request = HttpRequest::post_json_with_blobs(url, &submission.body, submission.blobs.clone())?;
        let request = request.credential(self.owner.credential()).total_timeout(self.limit());
        let answer = request.send()?.success().map_err(|problem| self.named(answer::refusal(problem, record)))?;
        let submitted = answer.into_document()?.get_cut::<Value>("", MAX_TEXT)?.unwrap_or_default().into();
        let (id, url) = answer::taken(&submitted, self.config, self.provider)?;
        Ok((id, url, submitted.cost))
    }

    /// An empty account is somebody's: says whose.
    fn named(&self, mut error: Error) -> Error {
        if error.kind == ErrorKind::Quota {
            let whose = if self.is_own() { "Black Forest Labs" } else { self.config.base() };
            error.message.push_str(&format!(" (the account at {whose} is out of credits)"));
        }
        error
    }

    /// Asks how a task stands, and how much of a hundred is done.
    ///
    /// # Errors
    /// [`Trouble`] of either kind.
    pub fn poll(&self, task: &Task) -> Result<(Stand, Option<u32>), Trouble> {
        let request = HttpRequest::get(&task.url).total_timeout(POLL_TIME.min(self.context.deadline));
        let request = match self.credential(&task.url) {
            Some(name) => request.credential(name),
            None => request,
        };
        let answer = request.send()?;
        let standing = if answer.status() < 300 {
            answer.into_document()?.get_cut::<Value>("", MAX_TEXT)?.unwrap_or_default().into()
        } else {
            refused(answer)?
        };
        let done = standing.progress.filter(|part| (0.0..=1.0).contains(part)).map(|part| (part * 100.0) as u32);
        Ok((answer::stand(standing)?, done))
    }

    /// Whether a task is known to be over.
    pub fn is_over(&self, task: &Task) -> bool {
        matches!(self.poll(task), Ok((Stand::Ready(_) | Stand::Over(_), _)))
    }

    /// Fetches a picture, without any key.
    ///
    /// # Errors
    /// [`Trouble`] of either kind.
    pub fn download(&self, url: &str) -> Result<Blob, Trouble> {
        let url = answer::sample(url, self.config).map_err(Trouble::Final)?;
        let answer = HttpRequest::get(url).total_timeout(self.limit()).send()?;
        match answer.status() {
            ..300 => Ok(answer.into_blob()?),
            status => {
                let error = Error::upstream(format!("the picture's address answered {status}"));
                Err(if matches!(status, 408 | 429 | 500..) { Trouble::Passing(error) } else { Trouble::Final(error) })
            }
        }
    }

    /// The credits that are left.
    ///
    /// # Errors
    /// Whatever the provider refuses.
    pub fn credits(&self) -> Result<Value> {
        let request = HttpRequest::get(format!("{}/v1/credits", self.config.base()));
        let request = request.credential(self.owner.credential()).total_timeout(self.limit());
        let answer = request.send()?.success().map_err(|problem| self.named(answer::poll_refusal(problem)))?;
        let credits: Option<Value> = answer.into_document()?.get("/credits")?;
        credits
            .filter(Value::is_number)
            .ok_or_else(|| Error::upstream("the provider's answer has no number of credits"))
    }

    /// The key that an address may have.
    fn credential(&self, url: &str) -> Option<&'static str> {
        let at = origin(url)?;
        if is_under(at, &self.provider.domain) {
            return Some(Owner::Provider.credential());
        }
        let is_base = origin(self.config.base()).is_some_and(|base| base.eq_ignore_ascii_case(at));
        is_base.then_some(self.owner.credential())
    }

    fn limit(&self) -> Duration {
        self.context.deadline.min(Duration::from_secs(self.config.timeout_s)).min(EXCHANGE_TIME)
    }
}

/// A task that failed may be told with a status of 503, so the body counts first.
fn refused(answer: Response) -> Result<Standing, Trouble> {
    let status = answer.status();
    let wait = answer.header("retry-after").and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs);
    let body = answer.bytes(MAX_REFUSAL_BYTES).unwrap_or_default();
    let standing: Standing = serde_json::from_slice::<Value>(&body).unwrap_or_default().into();
    match standing {
        standing if standing.status.is_some() => Ok(standing),
        // In one of its forms the answer to an id that is not known.
        _ if status == 404 => Ok(Standing { status: Some("Task not found".to_owned()), ..Standing::default() }),
        _ => Err(answer::poll_refusal(Problem::read(status, wait, &body)).into()),
    }
}
