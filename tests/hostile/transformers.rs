//! Transformers that misbehave, and one that does not.

use std::sync::Arc;
use std::time::Duration;

use easel_core::{Draft, Edit, ErrorKind, ImageFormat, ParamNames, Size, Transformer, Values, Verdict};
use easel_runtime::{HostLimits, PluginKind, PluginSettings, PluginState};
use tempfile::TempDir;

use super::{Host, context, install, limits, request};

/// The manifest of the hostile transformer, which imports all that one may.
pub(super) const MANIFEST: &str = r#"
[plugin]
id = "twist"
version = "0.1.0"
kind = "transformer"
contract = "0.3"

[network]
origins = ["operator"]

[limits]
wall_s = 5

[config]
check = ""

[needs]
"#;

/// The same with these needs, and a store unless they say otherwise.
pub(super) fn manifest(needs: &str) -> String {
    let store = if needs.contains("store") { "" } else { "store = true\n" };
    format!("{MANIFEST}{store}{needs}\n")
}

/// A runtime with the hostile transformer.
pub(super) struct Twist {
    pub(super) host: Host,
}

impl Twist {
    pub(super) async fn with(manifest: &str) -> Self {
        Self::set(manifest, PluginSettings::default()).await
    }

    pub(super) async fn set(manifest: &str, settings: PluginSettings) -> Self {
        Self::start(manifest, settings, limits(), None).await
    }

    pub(super) async fn start(
        manifest: &str,
        settings: PluginSettings,
        limits: HostLimits,
        values: Option<Arc<dyn Values>>,
    ) -> Self {
        let folder = TempDir::new().unwrap();
        install(folder.path(), "twist", env!("COMPONENT_HOSTILE_TRANSFORMER"), manifest);
        let limits = HostLimits { cpu: Duration::from_millis(200), ..limits };
        let host = Host::keeping(folder, [("twist".to_owned(), settings)].into(), limits, values).await;
        Self { host }
    }

    pub(super) fn transformer(&self) -> Arc<dyn Transformer> {
        let status = || format!("no transformer serves: {:#?}", self.host.runtime.status());
        self.host.runtime.transformers().into_iter().next().unwrap_or_else(|| panic!("{}", status()))
    }
}

async fn host() -> (Twist, Arc<dyn Transformer>) {
    let twist = Twist::with(&manifest("")).await;
    let transformer = twist.transformer();
    (twist, transformer)
}

#[tokio::test]
async fn changes_and_notes_come_through_and_the_last_change_wins() {
    let (_host, transformer) = host().await;
    let verdict = transformer.before(&context(), &request(Draft::new("change"))).await.unwrap();
    let Verdict::Next { edits, notes } = verdict else { panic!("{verdict:?}") };
    assert!(edits.contains(&Edit::Prompt("changed".into())) && !edits.contains(&Edit::Prompt("first".into())));
    let edited = request(Draft::new("change")).edit(edits).unwrap();
    assert_eq!((edited.prompt.as_str(), edited.count), ("changed", 2));
    assert_eq!((edited.size, edited.format), (Size::new(64, 32), Some(ImageFormat::Webp)));
    assert_eq!(edited.compression, Some(7));
    assert_eq!(edited.options["style"].json, "\"vivid\"");
    assert_eq!(notes[0].param.as_deref(), Some(ParamNames::OURS.negative_prompt));
}

#[tokio::test]
async fn request_passes_unchanged_when_nothing_is_asked() {
    let (_host, transformer) = host().await;
    let verdict = transformer.before(&context(), &request(Draft::new("nothing"))).await.unwrap();
    assert!(matches!(&verdict, Verdict::Next { edits, notes } if edits.is_empty() && notes.is_empty()), "{verdict:?}");
}

#[tokio::test]
async fn refusal_is_an_answer_and_a_trap_is_not() {
    let (_host, transformer) = host().await;
    let verdict = transformer.before(&context(), &request(Draft::new("reject"))).await.unwrap();
    let Verdict::Reject(error) = verdict else { panic!("{verdict:?}") };
    assert_eq!((error.kind(), error.message(), error.param()), (ErrorKind::ContentPolicy, "not that", Some("prompt")));
}

#[tokio::test]
async fn whatever_it_does_wrong_is_a_fault_of_the_plugin() {
    let (_host, transformer) = host().await;
    let rows = [
        ("trap", "plugin twist trapped: unreachable"),
        ("loop", "plugin twist ran past its CPU budget of 200 ms"),
        ("sleep", "plugin twist took longer than 5s"),
        ("size", "set the size 0x70000; a side is 1 to 16384"),
        ("format", "set the format \"gif\"; it is png, jpeg or webp"),
        ("option", "set option \"x\" to what is not JSON"),
        ("edits", "gave more than 64 changes"),
    ];
    for (prompt, expected) in rows {
        let error = transformer.before(&context(), &request(Draft::new(prompt))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PluginFault, "{prompt}: {error}");
        assert!(error.message().contains(expected), "{:?} should contain {expected:?}", error.message());
    }
}

#[tokio::test]
async fn picture_that_it_answers_with_is_looked_at() {
    let (_host, transformer) = host().await;
    let error = transformer.before(&context(), &request(Draft::new("respond no picture"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Upstream, "{error}");
}

#[tokio::test]
async fn plugin_is_only_what_its_manifest_says() {
    let folder = TempDir::new().unwrap();
    let as_transformer = super::MANIFEST.replace("\"adapter\"", "\"transformer\"");
    install(folder.path(), "hostile", env!("COMPONENT_HOSTILE_GUEST"), &as_transformer);
    let as_adapter = manifest("").replace("\"transformer\"", "\"adapter\"");
    install(folder.path(), "twist", env!("COMPONENT_HOSTILE_TRANSFORMER"), &as_adapter);
    let host = Host::start(folder, [].into(), limits()).await;
    let status = host.status("hostile");
    assert_eq!((status.state, status.kind), (PluginState::Failed, Some(PluginKind::Transformer)));
    let reason = status.reason.unwrap();
    assert!(reason.contains("does not export easel:plugin/transform@"), "{reason}");
    let reason = host.status("twist").reason.unwrap();
    assert!(reason.contains("which plugins of kind \"adapter\" do not get"), "{reason}");
}
