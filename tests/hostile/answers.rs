//! What a plugin says is not taken on trust: error values, pictures, models.

use std::time::Duration;

use easel_core::{Context, Draft, ErrorKind, ImageFormat, Job, Money, Size, TraceParent};
use easel_runtime::PluginState;
use tempfile::TempDir;

use super::{Host, MANIFEST, configured, context, generate, install, limits, permit, request, status_of};

#[tokio::test]
async fn every_error_value_keeps_its_kind() {
    let host = Host::new().await;
    let rows = [
        ("invalid-request", ErrorKind::InvalidRequest),
        ("unsupported", ErrorKind::Unsupported),
        ("model-not-found", ErrorKind::ModelNotFound),
        ("content-policy", ErrorKind::ContentPolicy),
        ("auth", ErrorKind::Upstream),
        ("quota", ErrorKind::InsufficientFunds),
        ("rate-limited", ErrorKind::RateLimited),
        ("overloaded", ErrorKind::NotReady),
        ("timeout", ErrorKind::Timeout),
        ("cancelled", ErrorKind::Cancelled),
        ("upstream", ErrorKind::Upstream),
        ("network-denied", ErrorKind::PluginFault),
        ("limit-exceeded", ErrorKind::PluginFault),
        ("internal", ErrorKind::PluginFault),
    ];
    for (name, kind) in rows {
        let error = host.generate(&format!("error {name}")).await.unwrap_err();
        assert_eq!((error.kind(), error.message(), error.param()), (kind, "told to fail", Some("prompt")), "{name}");
        assert_eq!(error.retry_after(), Some(Duration::from_millis(2500)));
    }
}

#[tokio::test]
async fn message_of_an_error_is_one_short_line() {
    let host = Host::new().await;
    let error = host.generate("error upstream long").await.unwrap_err();
    assert!(error.message().starts_with("line  break xxx") && error.message().len() == 1000, "{error}");
}

#[tokio::test]
async fn picture_that_cannot_be_read_is_an_upstream_error() {
    let host = Host::new().await;
    let error = host.generate("picture text").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Upstream);
    assert_eq!(error.message(), "picture 0 of plugin hostile cannot be read: it is neither PNG nor JPEG nor WebP");
}

#[tokio::test]
async fn pictures_come_as_many_as_the_plugin_gave() {
    let host = Host::new().await;
    assert_eq!(host.generate("picture 3").await.unwrap().images.len(), 3);
    assert!(host.generate("picture none").await.unwrap().images.is_empty());
    let error = host.fault("picture 1000").await;
    assert!(error.message().contains("gave more than 64 pictures"), "{error}");
}

#[tokio::test]
async fn picture_is_brought_into_the_format_that_was_asked_for() {
    let host = Host::new().await;
    for format in ImageFormat::ALL {
        let draft = Draft { format: Some(format), size: Size::new(8, 8), ..Draft::new("picture") };
        let output = generate(&*host.backend(), draft).await.unwrap();
        let image = &output.images[0].image;
        assert_eq!((image.format, ImageFormat::sniff(&image.bytes)), (format, Some(format)));
        assert_eq!(image.size, Size::new(1, 1).unwrap());
        assert_eq!(output.notes[0].message, "the backend made 1x1, not 8x8");
    }
}

#[tokio::test]
async fn request_config_and_context_reach_the_plugin() {
    let host = Host::with(configured("models", "what is told"), limits()).await;
    assert_eq!(host.answer("config").await, r#"{"models":"what is told"}"#);
    let draft = Draft { size: Size::new(8, 4), format: Some(ImageFormat::Png), ..Draft::new("request") };
    let output = generate(&*host.backend(), draft).await.unwrap();
    assert_eq!(output.images[0].revised_prompt.as_deref(), Some(r#"Some("hostile") Some((8, 4)) Some("png")"#));
    let answer = host.answer("context").await;
    let words: Vec<_> = answer.split_whitespace().collect();
    let [id, deadline, "None"] = words.as_slice() else { panic!("{answer}") };
    assert_eq!(*id, "test-request");
    assert!((1..=60_000).contains(&deadline.parse::<u32>().unwrap()), "{deadline}");
}

#[tokio::test]
async fn trace_of_the_caller_reaches_the_plugin() {
    let host = Host::new().await;
    let backend = host.backend();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let traced = Context { trace_parent: TraceParent::new(parent), ..context() };
    let model = backend.models().remove(0);
    let job = Job { request: request(Draft::new("context")), model, permit: permit().1 };
    let output = backend.generate(&traced, job).await.unwrap();
    let answer = output.images[0].revised_prompt.clone().unwrap();
    assert!(answer.ends_with(&format!("Some({parent:?})")), "{answer}");
}

#[tokio::test]
async fn what_a_failed_attempt_cost_comes_through_where_it_is_an_amount() {
    let host = Host::new().await;
    let billed = async |prompt: &str| {
        let error = host.generate(prompt).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::ContentPolicy, "told to fail"));
        error.billed().cloned()
    };
    assert_eq!(billed("error content-policy").await, None, "not knowing is not zero");
    let cost = Money { micros: 1_500, currency: "EUR".into() };
    assert_eq!(billed("error content-policy billed=EUR").await, Some(cost));
    assert_eq!(billed("error content-policy billed=euros").await, None);
}

#[tokio::test]
async fn cost_usage_seed_and_notes_come_through() {
    let upstream = crate::harness::Upstream::start(|_| {
        crate::harness::Reply::bytes(200, "text/plain", super::egress::grey_pixel())
    })
    .await;
    let host = Host::granted(&[&upstream.origin()]).await;
    let output = host.generate(&format!("fetch-picture GET {}/x.png", upstream.origin())).await.unwrap();
    assert_eq!(output.cost, Some(Money { micros: 40_000, currency: "USD".into() }));
    assert_eq!((output.usage[0].unit.as_str(), output.usage[0].quantity), ("output_tokens", 12));
    assert_eq!((output.images[0].seed, output.images[0].image.format), (Some(7), ImageFormat::Png));
    assert_eq!(output.notes[0].param.as_deref(), Some("size"));
}

#[tokio::test]
async fn adapter_that_was_told_nothing_yet_is_not_ready_and_one_that_was_told_wrong_has_failed() {
    let manifest = MANIFEST.replace("models = \"\"", "models = \"error\"");
    assert_ne!(manifest, MANIFEST, "the guest lacks something by default");
    let folder = TempDir::new().unwrap();
    install(folder.path(), "hostile", env!("COMPONENT_HOSTILE_GUEST"), &manifest);
    let host = Host::start(folder, [].into(), limits()).await;
    let status = host.status("hostile");
    assert_eq!(status.state, PluginState::NotReady);
    assert_eq!(status.reason.as_deref(), Some("it names no models: there are no models today"));
    assert!(host.runtime.backends().is_empty());

    for (told, state) in [("error", PluginState::Failed), ("one", PluginState::Ready)] {
        host.runtime.reconfigure([("hostile".to_owned(), configured("models", told))].into());
        host.until(told, |runtime| status_of(runtime, "hostile").state == state).await;
    }
}

#[tokio::test]
async fn adapter_whose_models_cannot_be_had_is_refused_with_the_reason() {
    let rows = [
        ("trap", "plugin hostile trapped: unreachable"),
        ("loop", "plugin hostile ran past its CPU budget of 500 ms"),
        ("nonsense", "its models are not as wit/schema/models.json says: missing field"),
        ("error", "it names no models: there are no models today"),
        ("fetch", "there is no network while a plugin is asked for its models or for a shallow health check"),
    ];
    for (told, expected) in rows {
        let host = Host::with(configured("models", told), limits()).await;
        let status = host.status("hostile");
        let reason = status.reason.unwrap();
        assert_eq!(status.state, PluginState::Failed);
        assert!(reason.contains(expected), "{reason:?} should contain {expected:?}");
        assert!(host.runtime.backends().is_empty());
    }
}
