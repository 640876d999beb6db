//! What a plugin adds to a request upstream: P6 and P7.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use easel_core::{Context, Event, Progress};
use easel_runtime::HostLimits;
use futures_util::StreamExt as _;
use futures_util::future::join_all;

use crate::house::{ADAPTER, Host, Result, build, context, generate, generate_in, manifest, replace, show};

pub(crate) const PICTURE: &[u8] = include_bytes!("../../../examples/red-circle.png");
/// How many intermediate states the upstream streams.
const PARTIALS: usize = 200;

/// A client without any plugin between.
pub(crate) struct Native {
    client: reqwest::Client,
    address: String,
}

impl Native {
    pub(crate) fn new(origin: &str) -> Result<Self> {
        Ok(Self { client: reqwest::Client::builder().no_proxy().build()?, address: format!("{origin}/small") })
    }

    pub(crate) async fn post(&self) -> Result<()> {
        std::hint::black_box(self.client.post(&self.address).body("hello").send().await?.bytes().await?);
        Ok(())
    }

    /// What makes the guest send the same.
    pub(crate) fn as_prompt(&self) -> String {
        format!("fetch POST {} body=hello", self.address)
    }
}

/// Starts an upstream on a thread of its own, with a small answer and a picture of 20 MiB.
pub(crate) fn upstream_origin() -> Result<String> {
    let json = format!("{{\"id\":\"job\",\"text\":\"{}\"}}", "x".repeat(1000));
    // What follows the picture's end is not looked at.
    let mut large = PICTURE.to_vec();
    large.resize(20 << 20, 0);
    let large = bytes::Bytes::from(large);
    let router = axum::Router::new()
        .route("/small", axum::routing::post(move || std::future::ready(json.clone())))
        .route("/large", axum::routing::get(move || std::future::ready(large.clone())));
    serve(router)
}

/// Serves this on a thread of its own, and tells where.
pub(crate) fn serve(router: axum::Router) -> Result<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let origin = format!("http://{}", listener.local_addr()?);
    std::thread::spawn(move || -> Result<()> {
        let serving = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        serving.block_on(async { Ok(axum::serve(tokio::net::TcpListener::from_std(listener)?, router).await?) })
    });
    Ok(origin)
}

/// P6 and P7: what a plugin adds to a request upstream.
pub(crate) async fn upstream() -> Result<()> {
    let origin = upstream_origin()?;
    let host = Host::start(HostLimits::default(), |folder| {
        replace(&folder.join("a.wasm"), &build(ADAPTER, &manifest("adapter", "adapter", "0.1.0"), "")?)
    })
    .await?;
    host.grant(&origin).await;
    let (backend, native) = (host.backend(), Native::new(&origin)?);
    let fetch = native.as_prompt();
    let (mut natives, mut fetches, mut idle) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..3000 {
        let begun = Instant::now();
        native.post().await?;
        let first = begun.elapsed();
        generate(&*backend, &fetch).await?;
        let second = begun.elapsed();
        generate(&*backend, "count").await?;
        let third = begun.elapsed();
        if round >= 500 {
            natives.push(first);
            fetches.push(second.saturating_sub(first));
            idle.push(third.saturating_sub(second));
        }
    }
    let native_time = show("baseline: a POST by a native client", natives);
    let idle = show("a generation without a request: instance, picture read", idle);
    let fetch_time = show("a generation with that POST by fetch", fetches);
    println!(
        "  fetch adds {:.1} µs to the native POST, {:.1} µs without the generation",
        fetch_time - native_time,
        fetch_time - native_time - idle
    );
    for (what, is_native) in [("native", true), ("fetch", false)] {
        let begun = Instant::now();
        let made = AtomicU64::new(0);
        let workers = (0..64).map(|_| async {
            while begun.elapsed() < Duration::from_secs(3) {
                let done = if is_native { native.post().await } else { generate(&*backend, &fetch).await.map(drop) };
                made.fetch_add(u64::from(done.is_ok()), Ordering::Relaxed);
            }
        });
        join_all(workers).await;
        println!(
            "  64 at a time, {what}: {:.0} requests/s",
            made.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
        );
    }
    let (mut natives, mut plugins) = (Vec::new(), Vec::new());
    for _ in 0..30 {
        let begun = Instant::now();
        std::hint::black_box(native.client.get(format!("{origin}/large")).send().await?.bytes().await?);
        natives.push(begun.elapsed());
        let begun = Instant::now();
        generate(&*backend, &format!("fetch-picture GET {origin}/large")).await?;
        plugins.push(begun.elapsed());
    }
    show("baseline: 20 MiB by a native client", natives);
    show("20 MiB through an adapter", plugins);
    let status = host.runtime.status();
    let peak = status.iter().flat_map(|status| &status.figures).map(|(_, figures)| figures.memory_peak).max();
    println!("  the most memory of a guest, all calls above: {} KiB", peak.unwrap_or(0) >> 10);
    Ok(())
}

/// P7: when an intermediate state that the upstream has sent reaches whoever listens.
pub(crate) async fn partials() -> Result<()> {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&sent);
    let event = format!("event: partial\ndata: {{\"b64_json\":\"{}\"}}\n\n", STANDARD.encode(PICTURE));
    let stream = move || {
        let (told, event) = (Arc::clone(&told), event.clone());
        let events = futures_util::stream::unfold(0, move |number| {
            let (told, event) = (Arc::clone(&told), event.clone());
            async move {
                tokio::time::sleep(Duration::from_millis(3)).await;
                told.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
                (number < PARTIALS).then_some((Ok::<_, std::io::Error>(event), number + 1))
            }
        });
        let body = Body::from_stream(events);
        std::future::ready(([("content-type", "text/event-stream")], body))
    };
    let origin = serve(axum::Router::new().route("/events", axum::routing::get(stream)))?;
    let host = Host::start(HostLimits::default(), |folder| {
        replace(&folder.join("a.wasm"), &build(ADAPTER, &manifest("adapter", "adapter", "0.1.0"), "")?)
    })
    .await?;
    host.grant(&origin).await;
    let since = |arrived: Vec<Instant>| {
        let sent = std::mem::take(&mut *sent.lock().unwrap_or_else(PoisonError::into_inner));
        arrived.iter().zip(sent).map(|(arrived, sent)| arrived.saturating_duration_since(sent)).collect::<Vec<_>>()
    };
    let client = reqwest::Client::builder().no_proxy().build()?;
    let mut parts = client.get(format!("{origin}/events")).send().await?.bytes_stream();
    let mut arrived = Vec::new();
    while let Some(part) = parts.next().await {
        // An event comes in several parts.
        if part?.ends_with(b"\n\n") {
            arrived.push(Instant::now());
        }
    }
    show("baseline: an event by a native client, from sent to read", since(arrived));
    let progress = Progress::new();
    let mut reader = progress.listen();
    let listener = tokio::spawn(async move {
        let mut arrived = Vec::new();
        while let Some(event) = reader.next().await {
            if let Event::Partial { .. } = event {
                arrived.push(Instant::now());
            }
        }
        arrived
    });
    generate_in(
        Context { progress, ..context() },
        &*host.backend(),
        &format!("fetch-event-pictures GET {origin}/events"),
    )
    .await?;
    let arrived = listener.await?;
    println!("  {} of {PARTIALS} partial pictures arrived", arrived.len());
    show("a partial picture through an adapter, from sent to shown", since(arrived));
    Ok(())
}
