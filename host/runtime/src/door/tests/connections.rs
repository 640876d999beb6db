//! Where connections end, and who shares them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::Resolve as _;
use tokio::net::TcpListener;

use super::super::resolver::CheckedResolver;
use super::super::{DoorError, Network, Outgoing, Reach};
use super::upstream::Upstream;
use super::{OPEN, Script, body, door, get, limited_door, send};
use crate::HostLimits;

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

/// Answers and closes.
async fn closing() -> Upstream {
    Upstream::start(None, Arc::new(|_| ("200 OK\r\nconnection: close".to_owned(), "hello".to_owned()))).await
}

#[tokio::test]
async fn name_that_turns_inside_is_refused_at_its_next_resolution() {
    let script = Script::default();
    let resolver = CheckedResolver { names: script.names(), reach: Reach::Public };
    let resolved = |name: &str| resolver.resolve(name.parse().unwrap());
    script.leads_to([at("8.8.8.8:0")]);
    assert_eq!(resolved("api.example.com").await.ok().unwrap().collect::<Vec<_>>(), [at("8.8.8.8:0")]);
    for inside in ["127.0.0.1:0", "10.0.0.1:0", "[::1]:0", "[::ffff:192.168.0.1]:0", "169.254.169.254:0"] {
        script.leads_to([at(inside)]);
        let error = resolved("api.example.com").await.err().unwrap().to_string();
        assert!(error.starts_with("api.example.com leads to "), "{error}");
    }
}

#[tokio::test]
async fn mixed_answers_lead_only_to_what_passed() {
    let script = Script::default();
    let resolver = CheckedResolver { names: script.names(), reach: Reach::Public };
    script.leads_to([at("10.0.0.1:0"), at("8.8.8.8:0"), at("169.254.169.254:0")]);
    let kept = resolver.resolve("api.example.com".parse().unwrap()).await.ok().unwrap();
    assert_eq!(kept.collect::<Vec<_>>(), [at("8.8.8.8:0")]);
}

#[tokio::test]
async fn every_connection_is_resolved_once_and_checked_again() {
    let upstream = closing().await;
    let script = Script::default();
    let network = script.network();
    let url = format!("http://comfy.lan:{}/", upstream.address.port());
    let door = door(&network, &[url.trim_end_matches('/')], OPEN, &[]);

    script.leads_to([upstream.address]);
    assert_eq!(body(&door, &url).await.unwrap(), "hello");
    assert_eq!(script.asked(), 1, "what was checked is what was connected to");

    script.leads_to([at("169.254.169.254:80")]);
    let error = body(&door, &url).await.unwrap_err();
    assert!(matches!(&error, DoorError::Address(_)), "{error}");
    assert!(error.to_string().contains("a cloud's metadata address"), "{error}");

    script.leads_to([at("169.254.169.254:80"), upstream.address]);
    assert_eq!(body(&door, &url).await.unwrap(), "hello", "the good one of two is used");
    assert_eq!((script.asked(), upstream.came().len()), (3, 2));
}

#[tokio::test]
async fn connection_is_used_again_by_its_own_door_and_by_no_other() {
    let upstream = Upstream::hello(None).await;
    let script = Script::default();
    script.leads_to([upstream.address]);
    let network = script.network();
    let url = format!("http://comfy.lan:{}/", upstream.address.port());
    let granted = [url.trim_end_matches('/')];
    // Two plugins, or one before and after its policy changed: each has a door of its own.
    let (one, other) = (door(&network, &granted, OPEN, &[]), door(&network, &granted, OPEN, &[]));
    for door in [&one, &one, &other, &other, &one] {
        body(door, &url).await.unwrap();
    }
    let connections: Vec<_> = upstream.came().iter().map(|came| came.connection).collect();
    assert_eq!(connections, [0, 0, 1, 1, 0]);
}

#[tokio::test]
async fn connection_that_does_not_come_about_is_a_timeout_its_name_included() {
    let network = Network::scripted(super::roots(), Arc::new(|_| Box::pin(std::future::pending())));
    let limits = HostLimits { connect: Duration::from_millis(100), ..HostLimits::default() };
    let door = limited_door(&network, &["http://comfy.lan"], (OPEN, &[]), limits);
    let asked = tokio::time::timeout(Duration::from_secs(30), body(&door, "http://comfy.lan/"));
    let error = asked.await.expect("the door ends it").unwrap_err();
    assert!(matches!(&error, DoorError::Timeout { what: "accept a connection", .. }), "{error}");
}

#[tokio::test]
async fn total_time_that_a_plugin_asks_for_counts_before_the_answer_as_well() {
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let script = Script::default();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let door = door(&script.network(), &[url.trim_end_matches('/')], OPEN, &[]);
    let outgoing = Outgoing { total: Some(Duration::from_millis(100)), ..get(&url, None) };
    let asked = tokio::time::timeout(Duration::from_secs(30), send(&door, outgoing));
    let error = asked.await.expect("the door ends it").err().unwrap();
    assert!(matches!(&error, DoorError::Timeout { what: "answer", .. }), "{error}");
}
