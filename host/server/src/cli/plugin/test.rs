//! `easel plugin test`: the tests of a plugin, played offline in the real runtime. Time goes on only by what is waited for,
//! random numbers are the same each time, and whatever would leave the machine meets the test's script.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use easel_core::{ErrorKind, Made};
use easel_runtime::workbench::{FixedTime, Prepared, Scene, Spent, Subject, Upstream, Workbench, picture};
use easel_runtime::{HostLimits, PluginSettings, Secret};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::case::{Case, Fill, Step};
use super::compare::{self, Compare};
use super::play::{Play, TIME_LIMIT, estimate, play};
use super::project::Built;
use super::script::{Script, stand_in};
use crate::cli::{Failure, runtime};

/// Run a plugin's tests, offline, in the runtime that serves.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  easel plugin test
  easel plugin test sources/my-adapter --only blue
  easel plugin test --bless        writes the golden pictures anew
  easel plugin test --keys         tells every key of a test")]
pub(super) struct Test {
    /// The plugin's folder; its component must be built
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// Only the tests whose name has this in it
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Take the pictures that come out for the golden ones
    #[arg(long)]
    bless: bool,
    /// Tell what can stand in a test, instead
    #[arg(long)]
    keys: bool,
}

/// What can stand in a test.
const KEYS: &str = include_str!("../../../../../sdk/TESTING.md");

impl Test {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        if self.keys {
            print!("{KEYS}");
            return Ok(ExitCode::SUCCESS);
        }
        let built = Built::read(&self.folder)?;
        let tests = self.folder.join("tests");
        let names = names(&tests, self.only.as_deref())?;
        runtime()?.block_on(async {
            let workbench = Workbench::new(HostLimits::default(), built.cache().as_deref())?;
            let plugin = workbench.prepare(&built.component, built.manifest.as_deref()).await?;
            let mut failed = 0;
            for name in &names {
                let table = Table { workbench: &workbench, plugin: &plugin, folder: &tests, is_blessing: self.bless };
                let (faults, spent) = table.run(name).await;
                tell(name, &faults, spent);
                failed += usize::from(!faults.is_empty());
            }
            println!("{} passed, {failed} failed", names.len() - failed);
            Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        })
    }
}

/// The tests, in order. A folder without any is a mistake: nothing would be tested and all would pass.
fn names(folder: &Path, only: Option<&str>) -> Result<Vec<String>, Failure> {
    let entries =
        fs::read_dir(folder).map_err(|error| Failure::new(format!("{} cannot be read: {error}", folder.display())))?;
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    let cases = paths.filter(|path| path.extension().is_some_and(|ending| ending == "toml"));
    let mut names: Vec<_> = cases.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.retain(|name| only.is_none_or(|only| name.contains(only)));
    names.sort();
    if names.is_empty() {
        let which = only.map(|only| format!(" with {only:?} in its name")).unwrap_or_default();
        let message = format!("{} has no test{which}", folder.display());
        return Err(Failure::new(message).with_hint("a test is a file NAME.toml with [request] and [expect]"));
    }
    Ok(names)
}

fn tell(name: &str, faults: &[String], spent: Spent) {
    let word = if faults.is_empty() { "ok" } else { "FAILED" };
    let cpu = spent.cpu.as_secs_f64() * 1000.0;
    println!("{word:7} {name:40} {cpu:8.1} ms CPU {:7} KiB memory", spent.memory_bytes.div_ceil(1024));
    for fault in faults {
        println!("        {fault}");
    }
}

/// What a test is played on.
struct Table<'a> {
    workbench: &'a Workbench,
    plugin: &'a Prepared,
    folder: &'a Path,
    is_blessing: bool,
}

impl Table<'_> {
    /// Plays one test; tells what is wrong and what it took.
    async fn run(&self, name: &str) -> (Vec<String>, Spent) {
        let text = fs::read_to_string(self.folder.join(format!("{name}.toml"))).map_err(|error| error.to_string());
        let faults = match text.and_then(|text| Case::parse(&text)) {
            Ok(case) => self.play(name, &case).await.unwrap_or_else(|fault| vec![fault]),
            Err(fault) => vec![fault],
        };
        (faults, self.workbench.take_spent())
    }

    async fn play(&self, name: &str, case: &Case) -> Result<Vec<String>, String> {
        let credentials = self.plugin.wanted_credentials();
        let supplied: Vec<_> =
            credentials.into_iter().filter(|name| !case.without_credentials.contains(name)).collect();
        let settings = PluginSettings {
            origins: self.plugin.wanted_origins().into_iter().chain(case.origins.iter().cloned()).collect(),
            config: match serde_json::to_value(&case.config) {
                Ok(Value::Object(config)) => config,
                Ok(_) | Err(_) => return Err("config is no table that JSON can hold".to_owned()),
            },
            credentials: supplied.iter().map(|name| (name.clone(), Secret::new(stand_in(name)))).collect(),
            ..PluginSettings::default()
        };
        let script = Arc::new(Script::new(self.folder, supplied));
        let time = FixedTime { start: Duration::from_secs(case.time), seed: case.randomness.into() };
        let scene = Scene { upstream: Arc::clone(&script) as Arc<dyn Upstream>, time: Some(time) };
        let subject = self.workbench.set_up(self.plugin, settings, Some(scene)).await;
        let subject = match subject {
            Ok(subject) => subject,
            // Every request meets that, and nothing leaves.
            Err(error) if error.kind() == ErrorKind::NotReady => {
                return Ok(case.step.iter().flat_map(|step| compare::error(&step.expect, &error)).collect());
            }
            Err(error) => return Err(error.message().to_owned()),
        };
        // Naming the models is no part of the test's figures.
        self.workbench.take_spent();

        let compare = Compare { folder: self.folder, name, is_blessing: self.is_blessing };
        let mut faults = Vec::new();
        for (number, step) in case.step.iter().enumerate() {
            let found = self.step(&subject, &script, step, (case.randomness, compare)).await?;
            let place = if case.step.len() > 1 { format!("step {}: ", number + 1) } else { String::new() };
            faults.extend(found.into_iter().map(|fault| format!("{place}{fault}")));
        }
        Ok(faults)
    }

    async fn step(
        &self,
        subject: &Subject,
        script: &Script,
        step: &Step,
        (randomness, compare): (u32, Compare<'_>),
    ) -> Result<Vec<String>, String> {
        let (expect, fill) = (&step.expect, Fill { folder: self.folder });
        let caller = CancellationToken::new();
        let asked = Play {
            request: step.request.request(fill)?,
            pictures: pictures(step, fill)?,
            seed: randomness.into(),
            deadline: step.deadline_s.map_or(TIME_LIMIT, Duration::from_secs_f64),
            is_watched: step.watched == Some(true),
            caller: caller.clone(),
        };
        let begin = subject.clock().now();
        script.begin(&step.upstream, begin, caller);
        let mut faults = Vec::new();
        if let Some(expected) = &expect.models {
            let backend = subject.backend();
            let models: Vec<_> = backend.iter().flat_map(|backend| backend.models()).collect();
            let models: Vec<_> = models.iter().map(|model| model.id.as_str()).collect();
            faults.extend((models != *expected).then(|| format!("the models are {models:?}, not {expected:?}")));
        }
        if let Some(expected) = &expect.estimate {
            match estimate(subject, &asked).await {
                Ok(cost) if compare::money(cost.as_ref()) == *expected => {}
                Ok(cost) => {
                    faults.push(format!("the estimate is {}, not {expected}", compare::money(cost.as_ref())));
                }
                Err(error) => faults.push(format!("there is no estimate: {}", error.message())),
            }
        }
        let (played, heard) = play(subject, asked).await;
        faults.extend(script.faults());
        faults.extend(match &played {
            Ok(played) => compare.played(expect, played),
            Err(error) => compare::error(expect, error),
        });
        faults.extend(compare.heard(expect, &heard));
        faults.extend(compare::spent(expect, self.workbench.spent(), subject.clock().now() - begin));
        Ok(faults)
    }
}

/// What a transformer is given after the backend.
fn pictures(step: &Step, fill: Fill<'_>) -> Result<Vec<Made>, String> {
    let files = step.picture.iter().flat_map(|files| files.names());
    let read = |(number, file): (u64, &String)| {
        let image = picture(fill.file(file)?.into()).map_err(|error| format!("picture {file}: {error}"))?;
        Ok(Made { image, seed: step.request.seed.map(|seed| seed + number), revised_prompt: None })
    };
    (0..).zip(files).map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_without_tests_does_not_pass() {
        let folder = tempfile::tempdir().unwrap();
        let told = |only| names(folder.path(), only).map_err(|failure| failure.message);
        assert!(told(None).unwrap_err().contains("has no test"));
        fs::write(folder.path().join("blue.toml"), "").unwrap();
        fs::write(folder.path().join("blue.png"), "").unwrap();
        assert_eq!(told(None).unwrap(), ["blue"]);
        assert!(told(Some("red")).unwrap_err().contains("\"red\""));
    }
}
