//! Answers that no honest upstream gives: bombs, trickles, smuggled lengths, other protocols.

use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use easel_core::ErrorKind;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::net::TcpListener;

use super::{Host, install, limits, settings};
use crate::harness::{Reply, Upstream, Wire};

/// An upstream that always answers so, and a host that may reach it.
async fn answering(answer: impl Into<Vec<u8>>) -> (Wire, Host, String) {
    let answer = answer.into();
    let upstream = Wire::start(move |_| answer.clone()).await;
    let mut limits = limits();
    limits.response_bytes = 1 << 20;
    limits.first_byte = Duration::from_millis(300);
    limits.between_bytes = Duration::from_millis(300);
    limits.exchange = Duration::from_secs(5);
    let origin = upstream.origin();
    let host = Host::with(settings(&[&origin]), limits).await;
    (upstream, host, format!("{origin}/"))
}

/// That both ways fail, and by `fetch` with these words.
async fn fails(answer: impl Into<Vec<u8>>, kind: ErrorKind, words: &str) {
    let (_upstream, host, url) = answering(answer).await;
    let error = host.generate(&format!("fetch GET {url}")).await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.message().contains(words), "{error} should contain {words:?}");
    let answer = host.answer(&format!("wasi-http GET {url}")).await;
    assert!(answer.starts_with("refused: ") || answer.starts_with("broken: "), "{words}: {answer}");
}

fn gzipped(length: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![b'0'; length]).unwrap();
    encoder.finish().unwrap()
}

fn packed(encoding: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[tokio::test]
async fn answers_are_asked_for_unpacked_and_gzip_is_unpacked_all_the_same() {
    let (upstream, host, url) = answering(packed("gzip", &gzipped(1000))).await;
    let expected = format!("200 [None, None, None, None] {}", "0".repeat(1000));
    assert_eq!(host.answer(&format!("fetch GET {url} accept-encoding:gzip,br")).await, expected);
    let answer = host.answer(&format!("wasi-http GET {url} accept-encoding:gzip")).await;
    assert!(answer.ends_with(&"0".repeat(1000)), "{answer}");
    for head in upstream.heads() {
        assert_eq!(head.matches("accept-encoding: identity").count(), 1, "{head}");
        assert_eq!(head.matches("accept-encoding").count(), 1, "{head}");
    }
}

#[tokio::test]
async fn decompression_bomb_is_stopped_at_the_limit_of_an_answer() {
    let bomb = gzipped(256 << 20);
    assert!(bomb.len() < 1 << 20, "it is small while packed");
    fails(packed("gzip", &bomb), ErrorKind::PluginFault, "answer is longer than 1048576 bytes").await;
}

#[tokio::test]
async fn last_byte_of_a_packed_answer_counts() {
    let (_upstream, host, url) = answering(packed("gzip", &gzipped(1 << 20))).await;
    assert!(host.answer(&format!("fetch GET {url}")).await.ends_with("000"));
    let over = gzipped((1 << 20) + 1);
    fails(packed("gzip", &over), ErrorKind::PluginFault, "answer is longer than 1048576 bytes").await;
}

#[tokio::test]
async fn gzip_that_unpacks_to_nothing_counts_as_it_comes() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n".to_vec();
    fails([head, gzipped(0).repeat(100_000)].concat(), ErrorKind::PluginFault, "answer is longer than 1048576 bytes")
        .await;
}

#[tokio::test]
async fn broken_gzip_and_other_encodings_are_refused() {
    let short = &gzipped(1000)[..20];
    fails(packed("gzip", short), ErrorKind::Upstream, "gzip is broken").await;
    for encoding in ["br", "zstd", "deflate", "gzip, gzip", "compress"] {
        fails(packed(encoding, b"whatever"), ErrorKind::Upstream, "which nobody asked for").await;
    }
}

#[tokio::test]
async fn other_protocols_are_refused() {
    let upgraded = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello";
    fails(upgraded, ErrorKind::Upstream, "switches to another protocol").await;
    fails("SSH-2.0-OpenSSH_9.6\r\n\r\n", ErrorKind::Upstream, "").await;
}

#[tokio::test]
async fn smuggled_lengths_are_refused() {
    let two = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 3\r\n\r\nhello";
    fails(two, ErrorKind::Upstream, "").await;
    fails("HTTP/1.1 200 OK\r\ncontent-length: 5, 3\r\n\r\nhello", ErrorKind::Upstream, "").await;
    fails("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nhello", ErrorKind::Upstream, "").await;
    fails("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", ErrorKind::Upstream, "").await;
}

#[tokio::test]
async fn answer_after_the_answer_is_for_nobody() {
    let next = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nsmuggled";
    let both = "HTTP/1.1 200 OK\r\ncontent-length: 900\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let (upstream, host, url) = answering(format!("{both}{next}")).await;
    for _ in 0..3 {
        let answer = host.answer(&format!("fetch GET {url}")).await;
        assert!(answer.ends_with(" hello"), "{answer}");
    }
    assert_eq!(upstream.connections(), 3, "a connection that said too much is not used again");
}

#[tokio::test]
async fn flood_of_headers_is_refused() {
    let flood: String = (0..100_000).map(|number| format!("x-{number}: {number}\r\n")).collect();
    fails(format!("HTTP/1.1 200 OK\r\n{flood}content-length: 2\r\n\r\nok"), ErrorKind::Upstream, "").await;
    let long = "x".repeat(4 << 20);
    fails(format!("HTTP/1.1 200 OK\r\nx-long: {long}\r\n\r\n"), ErrorKind::Upstream, "").await;
}

#[tokio::test]
async fn answer_that_stops_in_its_head_or_its_body_is_a_timeout() {
    fails("HTTP/1.1 200 OK\r\ncontent-", ErrorKind::Timeout, "did not answer within 300ms").await;
    let stops = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf";
    fails(stops, ErrorKind::Timeout, "did not go on with its answer within").await;
}

#[tokio::test]
async fn answer_that_trickles_is_ended_by_the_time_of_the_exchange() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let upstream = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 900000\r\n\r\n").await;
                let mut pace = tokio::time::interval(Duration::from_millis(20));
                while sent.is_ok() {
                    pace.tick().await;
                    sent = stream.write_all(b"x").await;
                }
            });
        }
    });
    let mut limits = limits();
    limits.between_bytes = Duration::from_secs(20);
    limits.exchange = Duration::from_millis(300);
    let host = Host::with(settings(&[&origin]), limits).await;
    let error = host.generate(&format!("fetch GET {origin}/")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.message().contains("did not finish its answer"), "{error}");
    let answer = host.answer(&format!("wasi-http GET {origin}/")).await;
    assert!(answer.starts_with("broken: "), "{answer}");
    upstream.abort();
}

#[tokio::test]
async fn every_outbound_request_is_a_span_of_the_requests_trace() {
    let upstream = Upstream::start(|received| match received.path.as_str() {
        "/first" => Reply::bytes(302, "text/plain", "".into()).with("location", "/second"),
        _ => Reply::bytes(200, "text/plain", "ok".into()),
    })
    .await;
    let host = Host::granted(&[&upstream.origin()]).await;
    let forged = "traceparent:00-11111111111111111111111111111111-2222222222222222-01";
    host.answer(&format!("fetch GET {}/first {forged}", upstream.origin())).await;
    host.answer(&format!("wasi-http GET {}/third {forged}", upstream.origin())).await;
    let sent: Vec<_> = upstream.received().iter().map(|received| received.header("traceparent").to_owned()).collect();
    let part = |text: &str, number: usize| text.split('-').nth(number).unwrap().to_owned();
    assert_eq!(sent.len(), 3);
    for text in &sent {
        assert_eq!((part(text, 0).as_str(), part(text, 3).as_str()), ("00", "01"), "{text}");
        assert_ne!(part(text, 1), "1".repeat(32));
        assert_eq!(part(text, 1), part(&sent[0], 1), "one request is one trace");
    }
    let spans: std::collections::BTreeSet<_> = sent.iter().map(|text| part(text, 2)).collect();
    assert_eq!(spans.len(), 3);
}

#[tokio::test]
async fn connections_are_shared_by_no_two_plugins_and_not_across_a_change_of_policy() {
    let upstream = Wire::start(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec()).await;
    let folder = tempfile::TempDir::new().unwrap();
    let manifest = super::MANIFEST;
    install(folder.path(), "hostile", env!("COMPONENT_HOSTILE_GUEST"), manifest);
    install(folder.path(), "other", env!("COMPONENT_HOSTILE_GUEST"), &manifest.replace("\"hostile\"", "\"other\""));
    let origin = upstream.origin();
    let granted = || settings(&[&origin]);
    let plugins = [("hostile".to_owned(), granted()), ("other".to_owned(), granted())];
    let host = Host::start(folder, plugins.into(), limits()).await;
    let prompt = format!("fetch GET {origin}/");
    let mut counts = Vec::new();
    for backend in host.runtime.backends() {
        for _ in 0..2 {
            super::generate(&*backend, easel_core::Draft::new(&prompt)).await.unwrap();
            counts.push(upstream.connections());
        }
    }
    assert_eq!(counts, [1, 1, 2, 2]);
    // The operator takes the origin back, and gives it again.
    host.runtime.reconfigure([("hostile".to_owned(), settings(&[]))].into());
    crate::harness::until("it is refused", async || host.generate(&prompt).await.is_err()).await;
    let denied = upstream.connections();
    host.runtime.reconfigure([("hostile".to_owned(), granted())].into());
    crate::harness::until("it is allowed", async || host.generate(&prompt).await.is_ok()).await;
    assert_eq!(upstream.connections(), denied + 1, "the connections of the old policy are not used again");
}

/// Set for the test below in a process of its own.
const CHILD: &str = "EASEL_TEST_WITH_PROXIES";

#[tokio::test(flavor = "multi_thread")]
async fn proxies_of_the_environment_are_not_used() {
    let upstream = Upstream::start(|_| Reply::bytes(200, "text/plain", "ok".into())).await;
    if std::env::var_os(CHILD).is_some() {
        let host = Host::granted(&[&upstream.origin()]).await;
        host.answer(&format!("fetch GET {}/", upstream.origin())).await;
        host.answer(&format!("wasi-http GET {}/", upstream.origin())).await;
        return;
    }
    let proxy = Wire::start(|_| b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new(program);
    child.args(["--exact", "hostile::wire::proxies_of_the_environment_are_not_used"]).env(CHILD, "1");
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, proxy.origin());
    }
    child.env_remove("NO_PROXY").env_remove("no_proxy");
    let output = tokio::task::spawn_blocking(move || child.output().unwrap()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert_eq!(proxy.connections(), 0);
}
