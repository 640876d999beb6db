//! Transformers that misbehave, and one that does not.

use std::sync::Arc;
use std::time::Duration;

use easel_core::{Draft, Edit, ErrorKind, ImageFormat, ParamNames, Size, Transformer, Verdict};
use easel_runtime::{PluginKind, PluginState};
use tempfile::TempDir;

use super::{Host, context, install, limits, request};

const MANIFEST: &str =
    "[plugin]\nid = \"twist\"\nversion = \"0.1.0\"\nkind = \"transformer\"\ncontract = \"0.2\"\n[limits]\nwall_s = 1\n";

async fn host() -> (Host, Arc<dyn Transformer>) {
    let folder = TempDir::new().unwrap();
    install(folder.path(), "twist", env!("COMPONENT_HOSTILE_TRANSFORMER"), MANIFEST);
    let mut limits = limits();
    limits.cpu = Duration::from_millis(200);
    let host = Host::start(folder, [].into(), limits).await;
    let transformer = host.runtime.transformers().remove(0);
    (host, transformer)
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
        ("sleep", "plugin twist took longer than 1s"),
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
async fn transformer_gets_no_network() {
    let folder = TempDir::new().unwrap();
    let manifest = super::MANIFEST.replace("\"adapter\"", "\"transformer\"");
    install(folder.path(), "hostile", env!("COMPONENT_HOSTILE_GUEST"), &manifest);
    install(
        folder.path(),
        "twist",
        env!("COMPONENT_HOSTILE_TRANSFORMER"),
        &MANIFEST.replace("\"transformer\"", "\"adapter\""),
    );
    let host = Host::start(folder, [].into(), limits()).await;
    let status = host.status("hostile");
    let reason = status.reason.unwrap();
    assert_eq!((status.state, status.kind), (PluginState::Failed, Some(PluginKind::Transformer)));
    assert!(reason.contains("which plugins of kind \"transformer\" do not get"), "{reason}");
    let reason = host.status("twist").reason.unwrap();
    assert!(reason.contains("which plugins of kind \"adapter\" do not get"), "{reason}");
}
