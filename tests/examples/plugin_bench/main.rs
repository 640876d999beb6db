//! The figures of the plugin platform, each beside a baseline of the same run, since machines differ and drift.
//!
//! `cargo run --example plugin_bench [-- NAME ...]`, where a name is one of those in [`MEASUREMENTS`]; or, for counting instructions
//! from outside, [`COUNTED`] with a number: `calls-500`.
//! It prints figures and judges nothing. The plugins are those of `tests/hostile/guest/`, which do as their prompt
//! says, and for `adapters` those of `plugins/`.

mod adapters;
mod calls;
mod house;
mod life;
mod upstream;

use futures_util::future::BoxFuture;

use house::Result;

type Measurement = fn() -> BoxFuture<'static, Result<()>>;

/// What can be measured, by the number of its goal.
const MEASUREMENTS: [(&str, Measurement); 9] = [
    ("swaps", || Box::pin(life::swaps())),
    ("compiling", || Box::pin(life::compiling())),
    ("reloads", || Box::pin(life::reloads())),
    ("transformer", || Box::pin(calls::transformer())),
    ("upstream", || Box::pin(upstream::upstream())),
    ("adapters", || Box::pin(adapters::adapters())),
    ("partials", || Box::pin(upstream::partials())),
    ("start", || Box::pin(life::start())),
    ("runaway", || Box::pin(calls::runaway())),
];

/// What can be done N times and nothing else, so that the difference of two counts of instructions is that of the work: calls of
/// a transformer, generations without a request upstream, with one by `fetch`, and that request by a native client.
const COUNTED: [&str; 4] = ["calls", "generations", "posts", "natives"];

#[tokio::main]
async fn main() -> Result<()> {
    // Somebody may have installed one already.
    drop(rustls::crypto::ring::default_provider().install_default());
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for name in &wanted {
        match name.rsplit_once('-').and_then(|(what, rounds)| Some((what, rounds.parse().ok()?))) {
            Some((what, rounds)) if COUNTED.contains(&what) => calls::counted(what, rounds).await?,
            _ if MEASUREMENTS.iter().any(|(known, _)| known == name) => {}
            _ => {
                let known = MEASUREMENTS.map(|(name, _)| name);
                return Err(format!("{name:?} is not measured; what is: {known:?}, and {COUNTED:?} with -N").into());
            }
        }
    }
    for (name, measure) in MEASUREMENTS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            println!("\n{name}");
            measure().await?;
        }
    }
    Ok(())
}
