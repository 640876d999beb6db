//! Answers that are read while they come, and intermediate states of pictures: what they give, and what they may use up.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use easel_core::{Context, Draft, Event, Job, Progress, Result};

use super::egress::grey_pixel;
use super::{Host, context, limits, permit, request, settings};
use crate::harness::{Reply, Upstream};

/// An upstream that answers with this, and a host that may reach it.
async fn streaming(reply: Reply) -> (Host, Upstream, String) {
    let upstream = Upstream::start(move |_| reply.clone()).await;
    let host = Host::granted(&[&upstream.origin()]).await;
    let url = format!("GET {}/", upstream.origin());
    (host, upstream, url)
}

fn events(stream: impl Into<Bytes>) -> Reply {
    Reply::bytes(200, "text/event-stream", stream.into())
}

/// What a prompt gives, and the intermediate states that were told meanwhile to whoever listened from the start.
async fn watched(host: &Host, prompt: &str) -> (Result<String>, Vec<(u32, usize)>) {
    let progress = Progress::new();
    let mut reader = progress.listen();
    let context = Context { progress, ..context() };
    let backend = host.backend();
    let job = Job { request: request(Draft::new(prompt)), model: backend.models().remove(0), permit: permit().1 };
    let made = backend.generate(&context, job).await;
    drop(context);
    let mut partials = Vec::new();
    while let Some(event) = reader.next().await {
        if let Event::Partial { image, picture } = event {
            partials.push((image, picture.bytes.len()));
        }
    }
    (made.map(|output| output.images[0].revised_prompt.clone().unwrap_or_default()), partials)
}

#[tokio::test]
async fn events_are_parsed_wherever_the_stream_is_cut() {
    let stream = "\u{feff}: a comment\r\nevent: step\r\nid: 7\r\ndata: one\r\ndata: two\r\n\r\ndata: é\n\ndata: lost";
    for bytes in [1, 2, 3, 7, 1000] {
        let (host, _upstream, url) = streaming(events(stream).in_parts(bytes)).await;
        let answer = host.answer(&format!("fetch-events {url}")).await;
        assert_eq!(answer, r#"step "one\ntwo" Some("7")|message "é" Some("7")"#, "in parts of {bytes}");
    }
}

#[tokio::test]
async fn picture_in_an_event_is_shown_without_entering_the_plugin() {
    let picture = grey_pixel();
    let data = format!("event: partial\ndata: {{\"b64_json\":\"{}\"}}\n\n", STANDARD.encode(&picture));
    let (host, _upstream, url) = streaming(events(format!("{data}{data}data: [DONE]\n\n")).in_parts(100)).await;
    let (answer, partials) = watched(&host, &format!("fetch-event-pictures {url}")).await;
    let one = format!("partial {} Some(\"{{\\\"b64_json\\\":\\\"\\\"}}\")", picture.len());
    assert_eq!(answer.unwrap(), format!("{one}|{one}|message [DONE]"));
    assert_eq!(partials, [(0, picture.len()), (0, picture.len())]);
}

#[tokio::test]
async fn large_event_stays_in_the_host_and_one_that_is_to_enter_the_plugin_is_skipped() {
    // Nine times what of one event enters a plugin.
    let large = format!("data: {{\"b64_json\":\"{}\"}}\n\n", "A".repeat(9 << 20));
    let (host, _upstream, url) = streaming(events(format!("{large}data: [DONE]\n\n"))).await;
    let answer = host.answer(&format!("fetch-event-pictures {url}")).await;
    assert!(answer.starts_with(&format!("message {} ", 9 * (1 << 20) / 4 * 3)), "{answer}");
    let answer = host.answer(&format!("fetch-events {url}")).await;
    let (refused, next) = answer.split_once('|').unwrap();
    assert!(refused.contains("does not enter a plugin, at most 1048576 do"), "{answer}");
    assert_eq!(next, "message \"[DONE]\" None");
}

#[tokio::test]
async fn event_that_never_ends_is_given_up() {
    for part in ["data: and so on\n", "data", ": a comment without an end ", "event: x\ndata: y\r"] {
        let upstream = Upstream::start(move |_| events(part).endless()).await;
        let mut small = limits();
        small.event_bytes = 100_000;
        let host = Host::with(settings(&[&upstream.origin()]), small).await;
        let error = host.fault(&format!("fetch-events GET {}/", upstream.origin())).await;
        assert_eq!(error.message(), "the answer has an event of more than 100000 bytes", "{part}");
    }
}

#[tokio::test]
async fn events_that_never_end_are_ended_with_the_length_of_the_answer() {
    let upstream = Upstream::start(|_| events(": nothing\n\n".repeat(100)).endless()).await;
    let mut small = limits();
    small.response_bytes = 1 << 20;
    let host = Host::with(settings(&[&upstream.origin()]), small).await;
    let error = host.fault(&format!("fetch-events GET {}/", upstream.origin())).await;
    assert_eq!(error.message(), "the body of the answer is longer than 1048576 bytes");
}

#[tokio::test]
async fn body_is_read_in_chunks_of_at_most_64_kib_and_the_rest_as_bytes() {
    let (host, _upstream, url) = streaming(Reply::bytes(200, "text/plain", vec![7; 200_000].into())).await;
    let read = async |words: &str| {
        let answer = host.answer(&format!("fetch-chunks {url} {words}")).await;
        let numbers: Vec<usize> = answer.split_whitespace().map(|word| word.parse().unwrap()).collect();
        (numbers[0], numbers[1], numbers[2])
    };
    let (read_bytes, longest, left) = read("").await;
    assert!(read_bytes == 200_000 && longest <= 65_536 && left == 0, "{read_bytes} {longest} {left}");
    assert_eq!(read("max=1000 until=5000").await, (5_000, 1_000, 195_000));
    assert_eq!(read("max=1000 until=5000 rest=195000").await, (5_000, 1_000, 195_000));
    let error = host.generate(&format!("fetch-chunks {url} max=1000 until=5000 rest=194999")).await.unwrap_err();
    assert_eq!(error.message(), "the answer is longer than the 194999 bytes that were asked for");
}

#[tokio::test]
async fn what_the_host_holds_of_an_answer_counts_as_a_blob() {
    let text = format!("data: {{\"a\":\"{}\"}}\n\n", "x".repeat(200_000));
    let upstream = Upstream::start(move |received| match received.path.as_str() {
        "/events" => events(text.clone()),
        _ => Reply::bytes(200, "application/json", format!("\"{}\"", "x".repeat(200_000)).into()),
    })
    .await;
    let mut small = limits();
    small.blob_bytes = 100_000;
    let host = Host::with(settings(&[&upstream.origin()]), small).await;
    for prompt in ["fetch-document GET {}/json", "fetch-chunks GET {}/json until=1", "fetch-events GET {}/events"] {
        let error = host.fault(&prompt.replace("{}", &upstream.origin())).await;
        assert_eq!(error.message(), "a call may hold at most 100000 bytes in blobs", "{prompt}");
    }
}

#[tokio::test]
async fn intermediate_states_are_told_to_whoever_listens_and_nobody_else() {
    let host = Host::new().await;
    let (answer, partials) = watched(&host, "partials 3").await;
    assert_eq!((answer.unwrap().as_str(), partials.len()), ("true", 3));
    assert_eq!(host.answer("partials 3").await, "false", "nobody listens");
}

#[tokio::test]
async fn what_is_no_picture_or_was_not_asked_for_is_not_told() {
    let host = Host::new().await;
    for prompt in ["partials 2 text", "partials 2 far"] {
        let (answer, partials) = watched(&host, prompt).await;
        assert_eq!((answer.unwrap().as_str(), partials.len()), ("true", 0), "{prompt}");
    }
}

#[tokio::test]
async fn intermediate_states_are_bounded_by_number_and_by_bytes() {
    let host = Host::limited(|limits| limits.partial_images = 5).await;
    let (answer, partials) = watched(&host, "partials 50").await;
    assert_eq!((answer.unwrap().as_str(), partials.len()), ("true", 5));
    let one = partials[0].1 as u64;
    let host = Host::limited(|limits| limits.partial_bytes = 7 * one + one / 2).await;
    assert_eq!(watched(&host, "partials 50").await.1.len(), 7);
}
