//! What the host asks a plugin beside its work: what a request would cost, and how the plugin stands.

use std::sync::Arc;
use std::time::Duration;

use easel_core::{Draft, Error, ErrorKind, Money, Result};
use easel_runtime::{Health, HealthDepth, HostLimits, LifeRules, PluginAction, PluginSettings, PluginState, Secret};
use tempfile::TempDir;
use tokio::sync::Semaphore;

use super::jobs::{fast, host, settings};
use super::{Host, KEY, context, install, request};
use crate::harness::{PATIENCE, Reply, Upstream, until};

async fn estimate(host: &Host, prompt: &str) -> Result<Option<Money>> {
    let backend = host.backend();
    let request = request(Draft { count: 3, ..Draft::new(prompt) });
    backend.estimate(&context(), &request, &backend.models()[0]).await
}

#[tokio::test]
async fn estimate_of_an_adapter_counts_and_where_it_has_none_the_price_of_its_model() {
    let host = host(PluginSettings::default(), fast()).await;
    let euros = Money { micros: 33, currency: "EUR".into() };
    assert_eq!(estimate(&host, "known").await.unwrap(), Some(euros));
    assert_eq!(estimate(&host, "unknown").await.unwrap(), None);
    assert_eq!(estimate(&Host::new().await, "anything").await.unwrap(), None, "that adapter names no price");
}

#[tokio::test]
async fn estimate_that_goes_wrong_is_an_error_or_a_fault_in_short_time() {
    let host = host(PluginSettings::default(), fast()).await;
    let rows = [
        ("error", ErrorKind::ContentPolicy, "not at any price"),
        ("wrong", ErrorKind::PluginFault, "a currency is three capitals"),
        ("trap", ErrorKind::PluginFault, "trapped: "),
        ("hang", ErrorKind::PluginFault, "took longer than 500ms"),
    ];
    for (prompt, kind, expected) in rows {
        let error = estimate(&host, prompt).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{prompt}: {error}");
        assert!(error.message().contains(expected), "{:?} should contain {expected:?}", error.message());
    }
}

#[tokio::test]
async fn question_waits_for_a_place_among_the_calls_as_long_as_it_may_take() {
    let host = host(PluginSettings::default(), HostLimits { calls: 0, ..fast() }).await;
    let asked = tokio::time::timeout(PATIENCE, estimate(&host, "known"));
    let error = asked.await.expect("it waits no longer").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

/// How the adapter stands that is told this by its config.
async fn health(told: &str, origins: &[String], depth: HealthDepth) -> Result<Option<Health>> {
    let limits = HostLimits { question: Duration::from_millis(300), ..fast() };
    let host = host(settings(origins, &[("health", told)]), limits).await;
    host.runtime.health("hostile-jobs", depth).await
}

async fn unwell(told: &str, origins: &[String], depth: HealthDepth) -> Error {
    health(told, origins, depth).await.expect_err("it is not well")
}

#[tokio::test]
async fn plugin_says_how_it_stands_where_it_can() {
    let health = health("", &[], HealthDepth::Shallow).await.unwrap().unwrap();
    assert_eq!(health.summary.as_deref(), Some("Shallow and well"));
    let host = Host::new().await;
    assert_eq!(host.runtime.health("hostile", HealthDepth::Deep).await.unwrap(), None, "it does not tell");
    let error = host.runtime.health("nobody", HealthDepth::Deep).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn deep_check_has_the_network_as_granted_and_a_shallow_one_has_none() {
    let upstream = Upstream::start(|_| Reply::bytes(200, "text/plain", "up and running".into())).await;
    let (origins, url) = ([upstream.origin()], format!("{}/", upstream.origin()));
    let health = health(&url, &origins, HealthDepth::Deep).await.unwrap().unwrap();
    assert_eq!(health.details["upstream"], "up and running");
    for (origins, depth) in [(&origins[..], HealthDepth::Shallow), (&[], HealthDepth::Deep)] {
        let error = unwell(&url, origins, depth).await;
        assert_eq!(error.kind(), ErrorKind::PluginFault, "{depth:?}: {error}");
    }
    assert_eq!(upstream.received().len(), 1);
}

#[tokio::test]
async fn check_that_goes_wrong_is_an_error_or_a_fault_in_short_time() {
    let rows = [
        ("error", ErrorKind::Upstream, "the key is not taken"),
        ("trap", ErrorKind::PluginFault, "trapped: "),
        ("hang", ErrorKind::PluginFault, "took longer than 300ms"),
        ("long", ErrorKind::PluginFault, "does not say how it stands: 20"),
    ];
    for (told, kind, expected) in rows {
        let error = unwell(told, &[], HealthDepth::Shallow).await;
        assert_eq!(error.kind(), kind, "{told}: {error}");
        assert!(error.message().contains(expected), "{:?} should contain {expected:?}", error.message());
    }
}

#[tokio::test]
async fn those_who_look_again_get_the_answer_of_a_moment_ago_and_one_check_serves_them_all() {
    let upstream = Upstream::start(|_| Reply::bytes(200, "text/plain", "up and running".into())).await;
    let (origins, url) = ([upstream.origin()], format!("{}/", upstream.origin()));
    let host = host(settings(&origins, &[("health", &url)]), fast()).await;
    let look = || host.runtime.checkup("hostile-jobs", HealthDepth::Deep);

    let (one, other) = tokio::join!(look(), look());
    let (one, again) = (one.unwrap(), look().await.unwrap());

    assert_eq!(upstream.received().len(), 1, "it was asked more than once");
    assert_eq!((one.at, other.unwrap().at), (again.at, again.at));
    assert_eq!(again.health.unwrap().unwrap().details["upstream"], "up and running");
    let shallow = host.runtime.checkup("hostile-jobs", HealthDepth::Shallow).await.unwrap();
    assert!(shallow.health.is_err(), "without network it says something else");
    let error = host.runtime.checkup("nobody", HealthDepth::Shallow).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn who_goes_before_the_answer_leaves_it_to_the_next_one() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let upstream = Upstream::start(move |_| Reply::bytes(200, "text/plain", "up".into()).behind(&held)).await;
    let (origins, url) = ([upstream.origin()], format!("{}/", upstream.origin()));
    let limits = HostLimits { question: PATIENCE, ..fast() };
    let host = host(settings(&origins, &[("health", &url)]), limits).await;
    let look = || host.runtime.checkup("hostile-jobs", HealthDepth::Deep);
    tokio::select! {
        _ = look() => panic!("the upstream does not answer yet"),
        () = until("it asks its upstream", async || upstream.received().len() == 1) => {}
    }
    gate.add_permits(1);
    let checkup = look().await.unwrap();
    assert_eq!(checkup.health.unwrap().unwrap().details["upstream"], "up");
    assert_eq!(upstream.received().len(), 1, "the check went on");
}

#[tokio::test]
async fn check_that_keeps_trapping_sets_no_build_aside() {
    let rules = LifeRules::default();
    let host = host(settings(&[], &[("health", "trap")]), fast()).await;
    for _ in 0..=rules.traps {
        let error = host.runtime.health("hostile-jobs", HealthDepth::Deep).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PluginFault);
    }
    // The loader has looked at it when this is done.
    let status = host.runtime.operate("hostile-jobs", PluginAction::Enable).await.unwrap();
    assert_eq!(status.state, PluginState::Ready, "{status:#?}");
    assert_eq!(host.answer("at-once").await, "at once");
}

#[tokio::test]
async fn what_a_plugin_says_about_itself_is_scrubbed_of_its_keys() {
    let folder = TempDir::new().unwrap();
    let manifest =
        format!("{}\n[[credential]]\nname = \"key\"\nheader = \"x-secret\"\n", include_str!("guest/jobs/plugin.toml"));
    install(folder.path(), "hostile-jobs", env!("COMPONENT_HOSTILE_JOBS"), &manifest);
    let mut given = settings(&[], &[("health", &format!("say {KEY}"))]);
    given.credentials.insert("key".to_owned(), Secret::new(KEY));
    let host = Host::start(folder, [("hostile-jobs".to_owned(), given)].into(), fast()).await;
    let health = host.runtime.checkup("hostile-jobs", HealthDepth::Shallow).await.unwrap().health.unwrap().unwrap();
    assert_eq!(health.summary, Some(format!("say {}", "*".repeat(KEY.len()))));
    assert_eq!(health.details["said"], format!("say {}", "*".repeat(KEY.len())));
}
