//! `easel models pull`: fetches a model from a hub into the folder of models.
//!
//! Files gather under a hidden name beside the models and stay there when the command ends early, so that the same command
//! goes on where it stopped. A model gets its name when every file is whole and it can be used; never before.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use easel_engine::inventory::look;
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use super::add::discard;
use super::hub::{ENDPOINT, Hub, Missed, Repository};
use super::{checked_name, failed, folder, must_be_free};
use crate::cli::{ConfigOptions, Failure, runtime};
use crate::config::Environment;

/// The variables that may hold the token, the first one first.
const TOKENS: [&str; 3] = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "SD_HUGGINGFACE_TOKEN"];
/// How often a file is begun again without a byte more than before.
const ATTEMPTS: usize = 5;
/// The file that says which commit the gathered files are of.
const COMMIT: &str = ".commit";
/// The file by which two commands do not gather at once.
const LOCK: &str = ".lock";

/// Fetch a model from a hub: a repository in the diffusers layout, or one file of a repository.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  easel models pull stabilityai/sd-turbo
  easel models pull stabilityai/sdxl-turbo --variant fp16
  easel models pull someone/painter@v2 --file painter.safetensors --name painter

The token is read from HF_TOKEN; HF_ENDPOINT names another hub.")]
pub(super) struct Pull {
    /// The repository, as OWNER/NAME or OWNER/NAME@REVISION
    repository: String,
    /// One file of weights of the repository
    #[arg(long)]
    file: Option<String>,
    /// Which weights, where there are several, such as fp16
    #[arg(long)]
    variant: Option<String>,
    /// The name that it gets [default: the repository's, or the file's]
    #[arg(long)]
    name: Option<String>,
    /// Touch no network: only tell whether the model is here
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    options: ConfigOptions,
}

impl Pull {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let folder = folder(&self.options)?;
        let environment = Environment::of_process(Path::new("."))?;
        let wish = Wish::new(&self.repository, self.file, self.variant, self.name.as_deref())?;
        if self.offline || environment.get("HF_HUB_OFFLINE").is_some_and(|value| value != "0") {
            return wish.must_be_in(&folder).map(|()| ExitCode::SUCCESS);
        }
        let token = TOKENS.iter().find_map(|name| environment.get(name));
        let hub = Hub::new(environment.get("HF_ENDPOINT").unwrap_or(ENDPOINT), token)?;
        let pulled = runtime()?.block_on(pull(&hub, &wish, &folder))?;
        println!("pulled {pulled}");
        Ok(ExitCode::SUCCESS)
    }
}

/// What is to be fetched.
#[derive(Debug)]
struct Wish {
    repository: String,
    revision: String,
    file: Option<String>,
    variant: Option<String>,
    id: String,
}

impl Wish {
    fn new(
        repository: &str,
        file: Option<String>,
        variant: Option<String>,
        name: Option<&str>,
    ) -> Result<Self, Failure> {
        let (repository, revision) = repository.split_once('@').unwrap_or((repository, "main"));
        let is_plain = |part: &str| {
            !part.is_empty() && !part.starts_with('.') && part.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c))
        };
        let parts: Vec<_> = repository.split('/').collect();
        let ([_, last], true) = (parts.as_slice(), parts.iter().all(|part| is_plain(part)) && is_plain(revision))
        else {
            let message = format!("{repository}@{revision} is not the name of a repository");
            return Err(Failure::new(message).with_hint("write it as OWNER/NAME, or OWNER/NAME@REVISION"));
        };
        let stem = file.as_ref().and_then(|file| Path::new(file).file_stem()?.to_str());
        let id = checked_name(name.or(stem).unwrap_or(last))?.to_owned();
        Ok(Self { repository: repository.to_owned(), revision: revision.to_owned(), file, variant, id })
    }

    fn must_be_in(&self, folder: &Path) -> Result<(), Failure> {
        let listed = easel_engine::inventory::inventory(folder).map_err(easel_core::Error::from)?;
        match listed.iter().find(|listed| listed.id == self.id) {
            Some(found) if found.problem.is_none() => {
                println!("{} is here", self.id);
                Ok(())
            }
            Some(found) => Err(Failure::new(format!(
                "{} is here and cannot be used: {}",
                self.id,
                found.problem.as_deref().unwrap_or_default()
            ))),
            None => Err(Failure::new(format!("{} is not here, and nothing is fetched offline", self.id))),
        }
    }
}

/// Fetches a model and tells its id.
async fn pull(hub: &Hub, wish: &Wish, folder: &Path) -> Result<String, Failure> {
    let id = &wish.id;
    must_be_free(folder, id)?;
    let repository = hub.repository(&wish.repository, &wish.revision).await?;
    let files = wanted(&repository.files, wish.file.as_deref(), wish.variant.as_deref())?;
    let hidden = folder.join(format!(".pulling-{id}"));
    let _lock = gathering(&hidden, &repository, wish)?;
    let source = Source { hub, repository: &wish.repository, commit: &repository.commit };
    for file in &files {
        fetch(&source, file, &hidden).await?;
    }
    // One file becomes a model by itself, several become its folder.
    let is_single = !files.iter().any(|file| file == "model_index.json");
    let gathered = match files.first().filter(|_| is_single) {
        Some(file) => hidden.join(file),
        None => hidden.clone(),
    };
    let target = match gathered.extension().filter(|_| is_single) {
        Some(extension) => folder.join(format!("{id}.{}", extension.to_string_lossy())),
        None => folder.join(id),
    };
    look(&gathered, folder).map_err(easel_core::Error::from)?;
    must_be_free(folder, id)?;
    if !is_single {
        [COMMIT, LOCK].iter().for_each(|file| drop(fs::remove_file(hidden.join(file))));
    }
    fs::rename(&gathered, &target).map_err(|error| failed("named", &gathered, &error))?;
    if is_single {
        drop(discard(&hidden));
    }
    Ok(id.clone())
}

/// Makes the folder in which files gather, with what came before if it is of the same commit, and keeps others out of it.
fn gathering(hidden: &Path, repository: &Repository, wish: &Wish) -> Result<File, Failure> {
    fs::create_dir_all(hidden).map_err(|error| failed("made", hidden, &error))?;
    let lock = File::create(hidden.join(LOCK)).map_err(|error| failed("made", hidden, &error))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(Failure::new(format!("{} is being pulled by another command", wish.id)));
        }
        Err(TryLockError::Error(error)) => return Err(failed("locked", hidden, &error)),
    }
    let mark = format!("{}@{}\n", wish.repository, repository.commit);
    let path = hidden.join(COMMIT);
    if fs::read_to_string(&path).is_ok_and(|old| old == mark) {
        return Ok(lock);
    }
    // Parts of another commit would make a file that never was.
    let items = fs::read_dir(hidden).map_err(|error| failed("read", hidden, &error))?;
    for item in items.flatten().filter(|item| item.file_name() != LOCK) {
        discard(&item.path()).map_err(|error| failed("removed", &item.path(), &error))?;
    }
    fs::write(&path, mark).map_err(|error| failed("written", &path, &error))?;
    Ok(lock)
}

/// Which files of a repository make the model.
fn wanted(files: &[String], file: Option<&str>, variant: Option<&str>) -> Result<Vec<String>, Failure> {
    let is_weights = |file: &str| file.ends_with(".safetensors") || file.ends_with(".gguf");
    if let Some(file) = file {
        return match files.iter().any(|known| known == file) && is_weights(file) {
            true => Ok(vec![file.to_owned()]),
            false => Err(among("the repository has no such file of weights", files, is_weights)),
        };
    }
    if !files.iter().any(|file| file == "model_index.json") {
        let weights: Vec<_> = files.iter().filter(|file| is_weights(file)).collect();
        return match weights.as_slice() {
            [only] => Ok(vec![(*only).clone()]),
            _ => Err(among(
                "the repository is not in the diffusers layout; say which file with --file",
                files,
                is_weights,
            )),
        };
    }
    let mut wanted = Vec::new();
    for file in files {
        let Some((folder, name)) = file.split_once('/') else {
            wanted.extend((file == "model_index.json").then(|| file.clone()));
            continue;
        };
        let is_text = [".json", ".txt", ".model", ".jinja"].iter().any(|end| name.ends_with(end));
        let is_index = name.contains(".safetensors.index.");
        let keep = match name.contains('/') {
            true => false,
            false if is_index || name.ends_with(".safetensors") => {
                let beside = || files.iter().filter_map(|file| file.strip_prefix(folder)?.strip_prefix('/'));
                let chosen = variant.filter(|chosen| beside().any(|name| variant_of(name) == Some(*chosen)));
                // Some repositories have one variant only.
                let chosen =
                    chosen.or_else(|| match beside().any(|name| variant_of(name).is_none() && is_weights(name)) {
                        true => None,
                        false => beside().filter(|name| is_weights(name)).find_map(variant_of),
                    });
                variant_of(name) == chosen
            }
            false => is_text && !name.contains(".index."),
        };
        if keep {
            wanted.push(file.clone());
        }
    }
    match wanted.iter().any(|file| is_weights(file)) {
        true => Ok(wanted),
        false => Err(Failure::new("the repository holds no weights as safetensors")),
    }
}

/// The variant in a file's name: `fp16` of `model.fp16.safetensors` and of `model.fp16-00001-of-00002.safetensors`.
fn variant_of(name: &str) -> Option<&str> {
    let (stem, _) = name.split_once(".safetensors")?;
    if let Some((_, index)) = name.split_once(".safetensors.index.") {
        return index.strip_suffix(".json").filter(|variant| !variant.is_empty());
    }
    let (_, variant) = stem.split_once('.')?;
    Some(variant.split_once('-').map_or(variant, |(variant, _)| variant))
}

fn among(what: &str, files: &[String], is_weights: impl Fn(&str) -> bool) -> Failure {
    let known: Vec<_> = files.iter().filter(|file| is_weights(file)).take(20).map(String::as_str).collect();
    match known.as_slice() {
        [] => Failure::new("the repository holds no weights as safetensors or GGUF"),
        known => Failure::new(what).with_hint(format!("it can be {}", known.join(", "))),
    }
}

/// Where the files of a model come from.
struct Source<'a> {
    hub: &'a Hub,
    repository: &'a str,
    commit: &'a str,
}

/// Fetches one file, from where it stopped before.
async fn fetch(source: &Source<'_>, file: &str, hidden: &Path) -> Result<(), Failure> {
    let whole = hidden.join(file);
    if whole.is_file() {
        return Ok(());
    }
    let part = PathBuf::from(format!("{}.part", whole.display()));
    if let Some(folder) = whole.parent() {
        fs::create_dir_all(folder).map_err(|error| failed("made", folder, &error))?;
    }
    let bar = bar(file);
    let mut failures = 0;
    loop {
        let before = fs::metadata(&part).map_or(0, |part| part.len());
        match attempt(source, file, &part, &bar).await {
            Ok(()) => break,
            Err(Outcome::Broken(failure)) => {
                let came = fs::metadata(&part).map_or(0, |part| part.len()) > before;
                failures = if came { 0 } else { failures + 1 };
                if failures >= ATTEMPTS {
                    return Err(failure);
                }
            }
            Err(Outcome::Wrong(failure)) => {
                // A part that came out wrong would come out wrong again.
                drop(fs::remove_file(&part));
                return Err(failure);
            }
            Err(Outcome::Refused(failure)) => return Err(failure),
        }
    }
    bar.finish_and_clear();
    fs::rename(&part, &whole).map_err(|error| failed("named", &part, &error))
}

/// Why a file did not come.
enum Outcome {
    /// It broke off on the way; what came is kept.
    Broken(Failure),
    /// It came, and is not what it should be.
    Wrong(Failure),
    /// It will not come however often it is asked for.
    Refused(Failure),
}

async fn attempt(source: &Source<'_>, file: &str, part: &Path, bar: &ProgressBar) -> Result<(), Outcome> {
    let disk = |error: std::io::Error| Outcome::Refused(failed("written", part, &error));
    let mut kept = File::options().create(true).truncate(false).read(true).write(true).open(part).map_err(disk)?;
    let have = kept.seek(SeekFrom::End(0)).map_err(disk)?;
    let coming = source.hub.download(source.repository, source.commit, file, have).await;
    let mut download = coming.map_err(|missed| match missed {
        Missed::Way(failure) => Outcome::Broken(failure),
        Missed::Answer(failure) => Outcome::Refused(failure),
    })?;
    let mut hash = Sha256::new();
    let mut length = 0;
    if download.from == have {
        kept.seek(SeekFrom::Start(0)).map_err(disk)?;
        length = read_into(&mut kept, &mut hash).map_err(disk)?;
    } else {
        // The hub begins anew.
        kept.set_len(0).map_err(disk)?;
        kept.seek(SeekFrom::Start(0)).map_err(disk)?;
    }
    bar.set_length(download.length.unwrap_or(0));
    while let Some(bytes) = download.next().await.map_err(Outcome::Broken)? {
        kept.write_all(&bytes).map_err(disk)?;
        hash.update(&bytes);
        length += bytes.len() as u64;
        bar.set_position(length);
        if download.length.is_some_and(|whole| length > whole) {
            return Err(Outcome::Wrong(Failure::new(format!("{file} is longer than the hub said"))));
        }
    }
    if let Some(whole) = download.length.filter(|whole| *whole != length) {
        let message = format!("{file} broke off after {length} of {whole} bytes");
        return Err(Outcome::Broken(Failure::new(message)));
    }
    kept.sync_all().map_err(disk)?;
    let got = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match download.sha256.filter(|sha256| !sha256.eq_ignore_ascii_case(&got)) {
        Some(sha256) => {
            let message = format!("{file} has the checksum {got}, and the hub says {sha256}");
            Err(Outcome::Wrong(Failure::new(message).with_hint("the same command fetches it again")))
        }
        None => Ok(()),
    }
}

fn read_into(file: &mut File, hash: &mut Sha256) -> std::io::Result<u64> {
    let (mut buffer, mut length) = (vec![0; 1 << 20], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(length),
            count => {
                hash.update(buffer.get(..count).unwrap_or_default());
                length += count as u64;
            }
        }
    }
}

/// A bar on a terminal, and nothing elsewhere.
fn bar(file: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_message(file.to_owned())
}

#[cfg(test)]
mod tests;
