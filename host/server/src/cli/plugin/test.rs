//! `easel plugin test`: the tests of a plugin, played offline in the real runtime. Time stands still, random numbers are
//! the same each time, and whatever would leave the machine meets the test's script.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use easel_core::{Error, Made};
use easel_runtime::workbench::{FixedTime, Prepared, Scene, Spent, Upstream, Workbench, picture};
use easel_runtime::{HostLimits, PluginSettings, Secret};
use serde_json::Value;

use super::case::{Asked, Case, Expected};
use super::play::{Played, play};
use super::project::Built;
use super::script::{Script, stand_in};
use crate::cli::{Failure, runtime};

/// Run a plugin's tests, offline, in the runtime that serves.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  easel plugin test
  easel plugin test sources/my-adapter --only blue
  easel plugin test --bless        writes the golden pictures anew")]
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
}

impl Test {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
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
        let script = Arc::new(Script::new(self.folder, supplied, &case.upstream));
        let time = FixedTime { start: Duration::from_secs(case.time), seed: case.randomness.into() };
        let scene = Scene { upstream: Arc::clone(&script) as Arc<dyn Upstream>, time: Some(time) };
        let subject = self.workbench.set_up(self.plugin, settings, Some(scene)).await;
        let subject = subject.map_err(|error| error.message().to_owned())?;
        // Naming the models is no part of the test's figures.
        self.workbench.take_spent();

        let pictures = self.pictures(case)?;
        let played = play(&subject, case.request.request()?, pictures, case.randomness.into()).await;
        let mut faults = script.faults();
        faults.extend(match &played {
            Ok(played) => self.compare(name, &case.expect, played),
            Err(error) => compare_error(&case.expect, error),
        });
        faults.extend(compare_spent(&case.expect, self.workbench.spent()));
        Ok(faults)
    }

    /// What a transformer is given after the backend.
    fn pictures(&self, case: &Case) -> Result<Vec<Made>, String> {
        let read = |file: &String| {
            let bytes = fs::read(self.folder.join(file)).map_err(|error| format!("picture {file}: {error}"))?;
            let image = picture(bytes.into()).map_err(|error| format!("picture {file}: {error}"))?;
            Ok(Made { image, seed: case.request.seed, revised_prompt: None })
        };
        case.picture.iter().map(read).collect()
    }

    fn compare(&self, name: &str, expect: &Expected, played: &Played) -> Vec<String> {
        if let Some(error) = &expect.error {
            return vec![format!("it succeeded, where status {} was expected", error.status)];
        }
        let mut faults = Vec::new();
        let pictures = &played.pictures;
        let mut must = |holds: bool, fault: String| faults.extend((!holds).then_some(fault));
        if let Some(expected) = expect.pictures {
            must(pictures.len() == expected, format!("{} pictures, not {expected}", pictures.len()));
        }
        for (number, made) in pictures.iter().enumerate() {
            let (size, format) = (made.image.size.to_string(), made.image.format.name());
            let is_size = expect.size.as_ref().is_none_or(|expected| *expected == size);
            must(is_size, format!("picture {number} is {size}, not {:?}", expect.size));
            let is_format = expect.format.as_ref().is_none_or(|expected| expected == format);
            must(is_format, format!("picture {number} is {format}, not {:?}", expect.format));
        }
        if let Some(expected) = &expect.seeds {
            let seeds: Vec<_> = pictures.iter().filter_map(|made| made.seed).collect();
            must(seeds == *expected, format!("the seeds are {seeds:?}, not {expected:?}"));
        }
        let notes: Vec<_> = played.notes.iter().map(|note| note.message.as_str()).collect();
        for expected in &expect.notes {
            must(notes.iter().any(|note| note.contains(expected)), format!("no note says {expected:?}: {notes:?}"));
        }
        if let Some(expected) = &expect.cost {
            let cost = played.cost.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string);
            must(cost == *expected, format!("the cost is {cost}, not {expected}"));
        }
        if let Some(expected) = &expect.request {
            match &played.request {
                Some(request) => faults.extend(expected.differences(&Asked::of(request))),
                None => faults.push("no request goes on".to_owned()),
            }
        }
        faults.extend(self.compare_golden(name, expect, pictures));
        faults
    }

    fn compare_golden(&self, name: &str, expect: &Expected, pictures: &[Made]) -> Vec<String> {
        let mut faults = Vec::new();
        if !expect.golden.is_empty() && expect.golden.len() != pictures.len() {
            faults.push(format!("{} golden pictures for {}", expect.golden.len(), pictures.len()));
        }
        for (number, (file, made)) in expect.golden.iter().zip(pictures).enumerate() {
            let path = self.folder.join(file);
            let bytes = &made.image.bytes;
            if self.is_blessing {
                faults.extend(fs::write(&path, bytes).err().map(|error| format!("{file} cannot be written: {error}")));
                continue;
            }
            match fs::read(&path) {
                Ok(golden) if golden == **bytes => {}
                Ok(_) => {
                    let kept = self.keep(&format!("{name}-{number}.{}", made.image.format.extension()), bytes);
                    faults.push(format!("picture {number} is not {file}; what came out is in {kept}"));
                }
                Err(error) => faults.push(format!("golden picture {file}: {error}; --bless writes it")),
            }
        }
        faults
    }

    /// Keeps a picture to look at.
    fn keep(&self, name: &str, bytes: &[u8]) -> String {
        let folder = self.folder.with_file_name("target").join("easel");
        let path = folder.join(name);
        match fs::create_dir_all(&folder).and_then(|()| fs::write(&path, bytes)) {
            Ok(()) => path.display().to_string(),
            Err(error) => format!("nothing: {} cannot be written: {error}", path.display()),
        }
    }
}

fn compare_error(expect: &Expected, error: &Error) -> Vec<String> {
    let status = crate::error::status(error.kind()).as_u16();
    let told = format!("it failed with status {status}: {}", error.message());
    let Some(expected) = &expect.error else { return vec![told] };
    let mut faults = Vec::new();
    if expected.status != status {
        faults.push(format!("{told}; status {} was expected", expected.status));
    }
    if let Some(message) = expected.message.as_ref().filter(|message| !error.message().contains(*message)) {
        faults.push(format!("{told}; {message:?} was expected in it"));
    }
    if expected.param.is_some() && expected.param.as_deref() != error.param() {
        faults.push(format!("the parameter at fault is {:?}, not {:?}", error.param(), expected.param));
    }
    faults
}

fn compare_spent(expect: &Expected, spent: Spent) -> Vec<String> {
    let mut faults = Vec::new();
    if let Some(most) = expect.most_cpu_ms.filter(|most| spent.cpu > Duration::from_millis(*most)) {
        faults.push(format!("it took {:?} of processor time, at most {most} ms are expected", spent.cpu));
    }
    if let Some(most) = expect.most_memory_kib.filter(|most| spent.memory_bytes > most * 1024) {
        faults.push(format!("it took {} KiB of memory, at most {most} are expected", spent.memory_bytes / 1024));
    }
    faults
}

#[cfg(test)]
mod tests {
    use easel_core::ErrorKind;

    use super::super::case::Failed;
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

    #[test]
    fn error_is_compared_by_status_message_and_parameter() {
        let error = Error::invalid("prompt", "prompt must not name foxes");
        let expect = |status, message: &str, param: &str| Expected {
            error: Some(Failed { status, message: Some(message.to_owned()), param: Some(param.to_owned()) }),
            ..Expected::default()
        };
        assert_eq!(compare_error(&expect(400, "foxes", "prompt"), &error), [""; 0]);
        assert_eq!(compare_error(&expect(429, "cats", "size"), &error).len(), 3);
        let timeout = Error::new(ErrorKind::Timeout, "too long");
        assert_eq!(compare_error(&Expected::default(), &timeout), ["it failed with status 504: too long"]);
    }
}
