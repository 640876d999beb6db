//! What the host asks a plugin beside its work: what a request would cost, and how the plugin stands.

use std::time::Duration;

use easel_core::{Draft, Error, ErrorKind, Money, Result};
use easel_runtime::{Health, HealthDepth, HostLimits, PluginSettings};

use super::jobs::{fast, host, settings};
use super::{Host, context, request};
use crate::harness::{Reply, Upstream};

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
