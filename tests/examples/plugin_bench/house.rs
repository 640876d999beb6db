//! A runtime with plugins in it, requests for them, and how figures are printed.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use easel_core::{
    Admission, Backend, Context, Draft, GenerationRequest, Job, ParamNames, Principal, Progress, RequestId,
    Transformer, Values,
};
use easel_runtime::{HostLimits, LifeRules, PluginSettings, PluginState, Runtime, RuntimeConfig};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

pub(crate) const ADAPTER: &str = env!("COMPONENT_HOSTILE_GUEST");
pub(crate) const TRANSFORMER: &str = env!("COMPONENT_HOSTILE_TRANSFORMER");

/// A runtime with plugins in a folder, and a cache.
pub(crate) struct Host {
    pub(crate) runtime: Runtime,
    changed: Arc<Notify>,
    pub(crate) folders: TempDir,
}

impl Host {
    /// Starts with what `fill` puts into the plugins folder.
    pub(crate) async fn start(limits: HostLimits, fill: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        let folders = TempDir::new()?;
        fs::create_dir_all(folders.path().join("plugins"))?;
        fill(&folders.path().join("plugins"))?;
        Self::again(folders, limits).await
    }

    pub(crate) async fn again(folders: TempDir, limits: HostLimits) -> Result<Self> {
        let settings = PluginSettings { origins: vec!["http://127.0.0.1".to_owned()], ..PluginSettings::default() };
        Self::with(folders, limits, BTreeMap::from([("adapter".to_owned(), settings)]), None).await
    }

    /// Starts with these settings of plugins, and what keeps their values.
    pub(crate) async fn with(
        folders: TempDir,
        limits: HostLimits,
        plugins: BTreeMap<String, PluginSettings>,
        values: Option<Arc<dyn Values>>,
    ) -> Result<Self> {
        let changed = Arc::new(Notify::new());
        let told = Arc::clone(&changed);
        let config = RuntimeConfig {
            folder: folders.path().join("plugins"),
            cache: Some(folders.path().join("compiled")),
            limits,
            values,
            plugins,
            // Guests that never end are measured too.
            life: LifeRules { traps: 0, ..LifeRules::default() },
            switches: None,
            builds: None,
        };
        let runtime = Runtime::start(config, move || told.notify_one()).await?;
        Ok(Self { runtime, changed, folders })
    }

    pub(crate) async fn grant(&self, origin: &str) {
        let settings = PluginSettings { origins: vec![origin.to_owned()], ..PluginSettings::default() };
        let old = self.backend();
        self.runtime.reconfigure(BTreeMap::from([("adapter".to_owned(), settings)]));
        self.until(|runtime| runtime.backends().iter().any(|backend| !Arc::ptr_eq(backend, &old))).await;
    }

    pub(crate) async fn until(&self, holds: impl Fn(&Runtime) -> bool) {
        while !holds(&self.runtime) {
            self.changed.notified().await;
        }
    }

    pub(crate) fn backend(&self) -> Arc<dyn Backend> {
        self.runtime.backends().into_iter().next().expect("an adapter serves")
    }

    pub(crate) fn transformer(&self) -> Arc<dyn Transformer> {
        self.runtime.transformers().into_iter().next().expect("a transformer serves")
    }

    /// How many plugins serve in this version.
    pub(crate) fn serving(runtime: &Runtime, version: &str) -> usize {
        let serves = |status: &&easel_runtime::PluginStatus| {
            status.state == PluginState::Ready && status.version.as_deref() == Some(version)
        };
        runtime.status().iter().filter(serves).count()
    }
}

pub(crate) fn manifest(id: &str, kind: &str, version: &str) -> String {
    let config = if kind == "adapter" {
        format!("[network]\norigins = [\"operator\"]\n[config]\nmodels = \"\"\nmark = \"{version}\"\n")
    } else {
        // It imports all that a transformer may.
        "[network]\norigins = [\"operator\"]\n[needs]\nstore = true\n".to_owned()
    };
    let contract = include_str!("../../../wit/host.wit");
    let contract = contract.split("easel:plugin@").nth(1).and_then(|rest| rest.split(';').next()).unwrap_or_default();
    let contract = contract.rsplit_once('.').map_or(contract, |(minor, _)| minor);
    format!("[plugin]\nid = \"{id}\"\nversion = \"{version}\"\nkind = \"{kind}\"\ncontract = \"{contract}\"\n{config}")
}

/// A component with its manifest inside.
pub(crate) fn build(component: &str, manifest: &str, mark: &str) -> Result<Vec<u8>> {
    let mut bytes = fs::read(component)?;
    for (name, text) in [("easel:manifest", manifest), ("mark", mark)] {
        let mut section = leb(name.len());
        section.extend(name.bytes().chain(text.bytes()));
        bytes.push(0);
        bytes.extend(leb(section.len()));
        bytes.extend(section);
    }
    Ok(bytes)
}

/// A length as WebAssembly writes it.
pub(crate) fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// Puts a file in place at once.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let aside = path.with_extension("part");
    fs::write(&aside, bytes)?;
    Ok(fs::rename(aside, path)?)
}

pub(crate) fn context() -> Context {
    Context {
        id: RequestId::new("bench").expect("a plain name"),
        principal: Principal::local(),
        deadline: tokio::time::Instant::now() + Duration::from_secs(60),
        cancellation: CancellationToken::new(),
        progress: Progress::new(),
        fallback_seed: 1,
        trace_parent: None,
    }
}

pub(crate) fn request(prompt: &str) -> GenerationRequest {
    Draft::new(prompt).check(&ParamNames::OURS).expect("the request is well-formed")
}

pub(crate) async fn generate(backend: &dyn Backend, prompt: &str) -> Result<String> {
    generate_in(context(), backend, prompt).await
}

pub(crate) async fn generate_in(context: Context, backend: &dyn Backend, prompt: &str) -> Result<String> {
    let admission = Admission::new(1000, BTreeMap::new());
    let permit = admission.admit("bench")?;
    let model = backend.models().into_iter().next().ok_or("no model")?;
    let output = backend.generate(&context, Job { request: request(prompt), model, permit }).await?;
    Ok(output.images.into_iter().next().and_then(|made| made.revised_prompt).unwrap_or_default())
}

/// Prints percentiles of times, and gives the middle one in microseconds.
pub(crate) fn show(what: &str, mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    let at = |part: f64| {
        let place = ((times.len().saturating_sub(1)) as f64 * part) as usize;
        times.get(place).map_or(0.0, Duration::as_secs_f64) * 1e6
    };
    println!("  {what:<58} p50 {:>10.1}  p95 {:>10.1}  p99 {:>10.1} µs", at(0.5), at(0.95), at(0.99));
    at(0.5)
}

pub(crate) fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or_default()
}
