//! What one exchange is given: hops, time, and a connection until its answer was read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use wasmtime_wasi_http::{Error, RequestOptions};

use super::upstream::{Came, Upstream};
use super::{OPEN, Script, body, door, get, limited_door, send};
use crate::HostLimits;
use crate::door::{DoorError, Outgoing, Visits, wasi};

/// A connection until it answers: what it says, and where it is.
async fn saying(status: &str, body: &str) -> (Upstream, String) {
    let answer = (status.to_owned(), body.to_owned());
    let upstream = Upstream::start(None, Arc::new(move |_: &Came| answer.clone())).await;
    let origin = format!("http://{}", upstream.address);
    (upstream, origin)
}

/// How an exchange ends that must not go on for ever.
async fn ended<T>(asked: impl Future<Output = Result<T, DoorError>>) -> Result<T, DoorError> {
    tokio::time::timeout(Duration::from_secs(30), asked).await.expect("the door ends it")
}

#[tokio::test]
async fn redirects_that_go_round_end_after_a_few() {
    let (upstream, origin) = saying("302 Found\r\nlocation: /again", "").await;
    let door = door(&Script::default().network(), &[&origin], OPEN, &[]);
    let error = ended(send(&door, get(&origin, None))).await.err().unwrap();
    assert!(matches!(error, DoorError::Redirects { .. }), "{error}");
    assert_eq!(upstream.came().len(), 6);
}

#[tokio::test]
async fn plugin_cannot_ask_for_more_time_than_the_host_gives() {
    // It takes connections, and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", silent.local_addr().unwrap());
    let (short, hour) = (Duration::from_millis(100), Some(Duration::from_secs(3600)));
    for limits in [
        HostLimits { first_byte: short, ..HostLimits::default() },
        HostLimits { exchange: short, ..HostLimits::default() },
    ] {
        let door = limited_door(&Script::default().network(), &[&origin], (OPEN, &[]), limits);
        let outgoing = Outgoing { first_byte: hour, total: hour, ..get(&origin, None) };
        let error = ended(send(&door, outgoing)).await.err().unwrap();
        assert!(matches!(error, DoorError::Timeout { what: "answer", .. }), "{error}");
    }
}

#[tokio::test]
async fn answer_that_does_not_go_on_is_told_from_one_that_does_not_end() {
    let (_upstream, origin) = saying("200 OK\r\ncontent-length: 10", "hello").await;
    let short = Duration::from_millis(100);
    for (limits, expected) in [
        (HostLimits { between_bytes: short, ..HostLimits::default() }, "go on with its answer"),
        (HostLimits { exchange: Duration::from_secs(2), ..HostLimits::default() }, "finish its answer"),
    ] {
        let door = limited_door(&Script::default().network(), &[&origin], (OPEN, &[]), limits);
        let error = ended(body(&door, &origin)).await.unwrap_err();
        assert!(matches!(error, DoorError::Timeout { what, .. } if what == expected), "{error}");
    }
}

#[tokio::test]
async fn connection_is_held_until_the_answer_was_read_or_given_up() {
    let (_upstream, origin) = saying("200 OK", "hello").await;
    let limits = HostLimits { connections: 1, ..HostLimits::default() };
    let door = limited_door(&Script::default().network(), &[&origin], (OPEN, &[]), limits);
    let mut incoming = send(&door, get(&origin, None)).await.unwrap();
    let error = send(&door, get(&origin, None)).await.err().unwrap();
    assert!(matches!(error, DoorError::Connections(1)), "{error}");
    while incoming.chunk(&door).await.unwrap().is_some() {}
    let given_up = send(&door, get(&origin, None)).await.unwrap();
    drop(given_up);
    assert_eq!(body(&door, &origin).await.unwrap(), "hello");
}

const KEY: &str = "[[credential]]\nname = \"key\"\nheader = \"x-key\"\n";

#[tokio::test]
async fn end_of_an_answer_that_begins_like_a_key_comes_through() {
    let (_upstream, origin) = saying("200 OK", "it says sesame").await;
    let keyed = format!("{OPEN}{KEY}");
    let door = door(&Script::default().network(), &[&origin], &keyed, &[("key", "sesame-open")]);
    assert_eq!(body(&door, &origin).await.unwrap(), "it says sesame");
}

#[tokio::test]
async fn credential_that_there_is_not_is_told_as_that() {
    let (upstream, origin) = saying("200 OK", "hello").await;
    let door = door(&Script::default().network(), &[&origin], OPEN, &[]);
    let error = send(&door, get(&origin, Some("key"))).await.err().unwrap();
    assert!(matches!(&error, DoorError::Credential(name) if name == "key"), "{error}");
    assert!(upstream.came().is_empty());
}

#[tokio::test]
async fn connections_that_do_not_lie_idle_end_where_the_others_may() {
    let (inside, origin) = saying("200 OK", "hello").await;
    let script = Script::default();
    script.leads_to([inside.address]);
    let public = format!("http://api.example.com:{}", inside.address.port());
    let wants = format!("[network]\norigins = [\"operator\", {public:?}]\n");
    let limits = HostLimits { connections: 2, ..HostLimits::default() };
    let door = limited_door(&script.network(), &[&origin, &public], (&wants, &[]), limits);
    // The only origin whose connections lie idle; the next one's are of the other kind.
    for _ in 0..2 {
        assert_eq!(body(&door, &origin).await.unwrap(), "hello");
    }
    let error = body(&door, &public).await.unwrap_err();
    assert!(matches!(error, DoorError::Address(_)), "a public name leads inside: {error}");
    let other = format!("http://comfy.lan:{}", inside.address.port());
    let limits = HostLimits { connections: 2, ..HostLimits::default() };
    let door = limited_door(&script.network(), &[&origin, &other], (OPEN, &[]), limits);
    for url in [&origin, &other, &origin, &other] {
        assert_eq!(body(&door, url).await.unwrap(), "hello");
    }
    let connections: Vec<_> = inside.came().iter().map(|came| came.connection).collect();
    assert_eq!(connections, [0, 0, 1, 2, 1, 3], "one is kept for the first, none for the second");
}

#[tokio::test]
async fn body_that_is_declared_too_long_is_refused_before_anything_leaves() {
    let origin = "http://comfy.lan";
    let limits = HostLimits { request_bytes: 1000, ..HostLimits::default() };
    let door = limited_door(&Script::default().network(), &[origin], (OPEN, &[]), limits);
    let visits = Visits::new("test", None, Arc::default());
    let declaring = |length: u64| {
        let body = Full::new(Bytes::from_static(b"hello")).map_err(|never| match never {}).boxed_unsync();
        let request = http::Request::post(origin).header("content-length", length).header("host", "elsewhere");
        wasi::outgoing(&door, &visits, request.body(body).unwrap(), RequestOptions::default())
    };
    assert!(declaring(1000).is_ok_and(|outgoing| outgoing.headers.is_empty()));
    assert!(matches!(declaring(1001), Err(Error::HttpRequestBodySize(Some(1001)))));
}
