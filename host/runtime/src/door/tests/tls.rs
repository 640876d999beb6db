//! TLS through the door: who is believed, and who shares sessions.

use std::sync::Arc;

use rustls::HandshakeKind;

use super::super::DoorError;
use super::upstream::Upstream;
use super::{OPEN, Script, body, door};

fn url(upstream: &Upstream) -> String {
    format!("https://api.example.com:{}", upstream.address.port())
}

#[tokio::test]
async fn https_reaches_the_one_whom_the_certificate_names() {
    let upstream = Upstream::hello(Some("right")).await;
    let script = Script::default();
    script.leads_to([upstream.address]);
    let door = door(&script.network(), &[&url(&upstream)], OPEN, &[]);
    assert_eq!(body(&door, &url(&upstream)).await.unwrap(), "hello");
    assert!(upstream.came()[0].head.contains("host: api.example.com:"), "{:?}", upstream.came());
}

#[tokio::test]
async fn strangers_and_expired_certificates_are_refused_and_hear_nothing() {
    let rows = [("other", "not valid for name"), ("expired", "expired"), ("stranger", "UnknownIssuer")];
    for (certificate, expected) in rows {
        let upstream = Upstream::hello(Some(certificate)).await;
        let script = Script::default();
        script.leads_to([upstream.address]);
        let door = door(&script.network(), &[&url(&upstream)], OPEN, &[]);
        let error = body(&door, &url(&upstream)).await.unwrap_err();
        assert!(matches!(&error, DoorError::Connect { .. }), "{certificate}: {error}");
        assert!(error.to_string().contains(expected), "{certificate}: {error}");
        assert!(upstream.came().is_empty());
    }
}

#[tokio::test]
async fn sessions_are_resumed_by_their_own_door_and_by_no_other() {
    let closing = Arc::new(|_: &_| ("200 OK\r\nconnection: close".to_owned(), "hello".to_owned()));
    let upstream = Upstream::start(Some("right"), closing).await;
    let script = Script::default();
    script.leads_to([upstream.address]);
    let network = script.network();
    let granted = url(&upstream);
    let (one, other) = (door(&network, &[&granted], OPEN, &[]), door(&network, &[&granted], OPEN, &[]));
    for door in [&one, &one, &other, &other] {
        body(door, &granted).await.unwrap();
    }
    use HandshakeKind::{Full, Resumed};
    assert_eq!(upstream.handshakes(), [Full, Resumed, Full, Resumed]);
}
