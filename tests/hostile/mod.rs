//! Plugins that misbehave: `guest/` does what its prompt says, `guest/transformer/` as well. Every limit and every
//! denial of the runtime has its test here, and each test asks the same: one call fails, and nothing else changes.
//!
//! These tests hold the runtime itself, without a server around it.

mod answers;
mod compiled;
mod contract;
mod crashes;
mod egress;
mod environment;
mod exhaustion;
mod figures;
mod grants;
mod jobs;
mod life;
mod lifecycle;
mod parts;
mod pixels;
mod places;
mod questions;
mod results;
mod secrets;
mod set_aside;
mod store;
mod streams;
mod traces;
mod transformers;
mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use easel_core::{
    Admission, Backend, Context, Draft, Error, GenerationRequest, Job, Output, ParamNames, Permit, Principal, Progress,
    RequestId, Result, Values,
};
use easel_runtime::{HostLimits, LifeRules, PluginSettings, PluginState, PluginStatus, Runtime, RuntimeConfig, Secret};
use serde_json::{Map, Value};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::harness::PATIENCE;

/// The manifest of the hostile adapter: it reaches whatever the operator names.
const MANIFEST: &str = r#"
[plugin]
id = "hostile"
version = "0.1.0"
kind = "adapter"
contract = "0.3"

[network]
origins = ["operator"]

[[credential]]
name = "key"
header = "x-secret"
prefix = "Bearer "

[config]
models = ""
"#;

/// A key that must turn up nowhere but at the upstream.
const KEY: &str = "sk-hostile-0123456789";

/// A runtime with plugins in a folder of its own.
struct Host {
    runtime: Runtime,
    changed: Arc<Notify>,
    folder: TempDir,
}

impl Host {
    /// The hostile adapter with its defaults.
    async fn new() -> Self {
        Self::with(PluginSettings::default(), limits()).await
    }

    /// The hostile adapter, granted these origins and the key.
    async fn granted(origins: &[&str]) -> Self {
        Self::with(settings(origins), limits()).await
    }

    /// The hostile adapter with other limits of the host.
    async fn limited(change: impl FnOnce(&mut HostLimits)) -> Self {
        let mut limits = limits();
        change(&mut limits);
        Self::with(PluginSettings::default(), limits).await
    }

    async fn with(settings: PluginSettings, limits: HostLimits) -> Self {
        let folder = TempDir::new().expect("there is a temporary folder");
        install(folder.path(), "hostile", env!("COMPONENT_HOSTILE_GUEST"), MANIFEST);
        Self::start(folder, [("hostile".to_owned(), settings)].into(), limits).await
    }

    async fn start(folder: TempDir, plugins: BTreeMap<String, PluginSettings>, limits: HostLimits) -> Self {
        Self::start_with_cache(folder, None, plugins, limits).await
    }

    async fn start_with_cache(
        folder: TempDir,
        cache: Option<PathBuf>,
        plugins: BTreeMap<String, PluginSettings>,
        limits: HostLimits,
    ) -> Self {
        let config = RuntimeConfig { cache, ..config(&folder, plugins, limits) };
        Self::of(folder, config).await
    }

    /// The same by other rules; what is switched off is kept beside the plugins.
    async fn living(
        folder: TempDir,
        plugins: BTreeMap<String, PluginSettings>,
        limits: HostLimits,
        life: LifeRules,
    ) -> Self {
        let config = RuntimeConfig { life, ..config(&folder, plugins, limits) };
        Self::of(folder, config).await
    }

    /// The same with something that keeps the plugins' values.
    async fn keeping(
        folder: TempDir,
        plugins: BTreeMap<String, PluginSettings>,
        limits: HostLimits,
        values: Option<Arc<dyn Values>>,
    ) -> Self {
        let config = RuntimeConfig { values, ..config(&folder, plugins, limits) };
        Self::of(folder, config).await
    }

    async fn of(folder: TempDir, config: RuntimeConfig) -> Self {
        let changed = Arc::new(Notify::new());
        let told = Arc::clone(&changed);
        let runtime = Runtime::start(config, move || told.notify_one()).await.expect("the runtime starts");
        Self { runtime, changed, folder }
    }

    /// Waits until the plugins stand as they should.
    async fn until(&self, what: &str, holds: impl Fn(&Runtime) -> bool) {
        let wait = async {
            while !holds(&self.runtime) {
                self.changed.notified().await;
            }
        };
        let status = || format!("{what} never came true: {:#?}", self.runtime.status());
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{}", status()));
    }

    fn backend(&self) -> Arc<dyn Backend> {
        self.runtime.backends().into_iter().next().expect("an adapter serves")
    }

    fn status(&self, id: &str) -> PluginStatus {
        status_of(&self.runtime, id)
    }

    /// Asks the adapter for one picture.
    async fn generate(&self, prompt: &str) -> Result<Output> {
        generate(&*self.backend(), Draft::new(prompt)).await
    }

    /// What the guest answers to a prompt.
    async fn answer(&self, prompt: &str) -> String {
        let output = self.generate(prompt).await.unwrap_or_else(|error| panic!("{prompt}: {error}"));
        output.images[0].revised_prompt.clone().expect("the guest answered")
    }

    /// The fault that a prompt leads to; afterwards the plugin still serves.
    async fn fault(&self, prompt: &str) -> Error {
        let error = self.generate(prompt).await.expect_err(prompt);
        assert_eq!(self.answer("count").await, "1", "after {prompt}");
        error
    }
}

/// No cache of compiled code; what is switched off is kept beside the plugins.
fn config(folder: &TempDir, plugins: BTreeMap<String, PluginSettings>, limits: HostLimits) -> RuntimeConfig {
    RuntimeConfig {
        folder: folder.path().to_owned(),
        cache: None,
        values: None,
        limits,
        plugins,
        life: LifeRules::default(),
        switches: Some(folder.path().join("off.toml")),
        builds: None,
    }
}

/// The default limits, small enough for tests.
fn limits() -> HostLimits {
    HostLimits { memory_bytes: 32 << 20, cpu: Duration::from_millis(500), calls: 16, ..HostLimits::default() }
}

fn settings(origins: &[&str]) -> PluginSettings {
    PluginSettings {
        origins: origins.iter().map(|origin| (*origin).to_owned()).collect(),
        credentials: [("key".to_owned(), Secret::new(KEY))].into(),
        ..PluginSettings::default()
    }
}

fn configured(key: &str, value: &str) -> PluginSettings {
    let config: Map<String, Value> = [(key.to_owned(), value.into())].into_iter().collect();
    PluginSettings { config, ..PluginSettings::default() }
}

/// Puts a component and its manifest into a folder of the plugins folder.
fn install(plugins: &Path, name: &str, component: &str, manifest: &str) {
    let folder = plugins.join(name);
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    std::fs::write(folder.join("plugin.toml"), manifest).expect("the manifest can be written");
    std::fs::copy(component, folder.join("plugin.wasm")).expect("the component can be copied");
}

fn status_of(runtime: &Runtime, id: &str) -> PluginStatus {
    let status = runtime.status();
    status.iter().find(|status| status.id == id).cloned().unwrap_or_else(|| panic!("no {id} among {status:#?}"))
}

fn is_ready(runtime: &Runtime, id: &str) -> bool {
    runtime.status().iter().any(|status| status.id == id && status.state == PluginState::Ready)
}

fn context() -> Context {
    Context {
        id: RequestId::new("test-request").expect("a plain name"),
        principal: Principal::local(),
        deadline: Instant::now() + PATIENCE,
        cancellation: CancellationToken::new(),
        progress: Progress::new(),
        fallback_seed: 1,
        trace_parent: None,
    }
}

/// A request that is well-formed.
fn request(draft: Draft) -> GenerationRequest {
    draft.check(&ParamNames::OURS).expect("the test's request is well-formed")
}

fn permit() -> (Admission, Permit) {
    let admission = Admission::new(100, BTreeMap::new());
    let permit = admission.admit("hostile").expect("nothing else runs");
    (admission, permit)
}

async fn generate(backend: &dyn Backend, draft: Draft) -> Result<Output> {
    let model = backend.models().into_iter().next().expect("the guest has a model");
    backend.generate(&context(), Job { request: request(draft), model, permit: permit().1 }).await
}
