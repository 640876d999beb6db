//! `easel serve` and `easel dev`: the server, and the server with the plugins of a source checkout built around it.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{ConfigOptions, Failure, ListenOptions, runtime, tell_notices};
use crate::app::App;
use crate::config::{Config, ConfigError, LogFormat, Mode, Sources};
use crate::dev::Checkout;

/// Serve images over HTTP.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  easel serve
  easel serve --port 8080 --data /srv/easel
  EASEL_API_KEY=… easel serve --listen 0.0.0.0:7860
                                   for other machines, which then need the key
  easel serve --mode stub          test pictures, without any model")]
pub(super) struct Serve {
    #[command(flatten)]
    listen: ListenOptions,
    #[command(flatten)]
    options: ConfigOptions,
}

/// Build the plugins of this source checkout, serve them, and rebuild what changes.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  cargo run -- dev                 from anywhere in the checkout
  cargo run -- dev --port 8080")]
pub(super) struct Dev {
    #[command(flatten)]
    listen: ListenOptions,
    #[command(flatten)]
    options: ConfigOptions,
}

impl Serve {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        serve(self.sources()?, None)
    }

    pub(super) fn sources(&self) -> Result<Sources, ConfigError> {
        self.options.sources(&self.listen)
    }
}

impl Dev {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let mut sources = self.options.sources(&self.listen)?;
        let checkout = Checkout::find(&sources.environment)?;
        sources.flags.insert("plugins", checkout.plugins().to_string_lossy().into_owned());
        serve(sources, Some(checkout))
    }
}

fn serve(sources: Sources, checkout: Option<Checkout>) -> Result<ExitCode, Failure> {
    let loaded = sources.load()?;
    crate::logging::start(&loaded.config.log);
    tell_notices(&loaded);
    let runtime = runtime()?;
    let done = runtime.block_on(async {
        let stop = CancellationToken::new();
        // Before anything else: a signal that comes while the server starts must not be lost.
        let ended = ended(stop.clone())?;
        let app = App::start(loaded.config.clone()).await?.watching(sources);
        greet(app.local_addr(), &loaded.config);
        // Builds end with this handle, when serving ends.
        let _building = checkout.map(Checkout::build_and_follow);
        tokio::select! {
            served = app.serve(stop) => served.map(|()| ExitCode::SUCCESS).map_err(Failure::from),
            code = ended => Ok(code),
        }
    });
    // Work that cannot be interrupted, such as a step of the engine, is not waited for.
    runtime.shutdown_background();
    done
}

/// Tells where the server listens: to people with what they would ask next, to machines as an event like any other.
fn greet(address: SocketAddr, config: &Config) {
    let version = env!("CARGO_PKG_VERSION");
    match config.log.format {
        LogFormat::Json => tracing::info!(version, "listening on http://{address}"),
        LogFormat::Text => {
            let models = match config.mode {
                Mode::Engine => config.models_folder().display().to_string(),
                Mode::Stub => "none: mode = \"stub\" answers with a test picture".to_owned(),
            };
            let keys: Vec<_> = config.keys.iter().map(|key| &*key.name).collect();
            let keys = if keys.is_empty() {
                "none: whoever reaches this address may use it".to_owned()
            } else {
                keys.join(", ")
            };
            let (data, plugins) = (config.data.display(), config.plugins_folder.display());
            eprintln!("easel {version} is listening on http://{address}");
            eprintln!("  data     {data}\n  models   {models}\n  plugins  {plugins}\n  keys     {keys}");
        }
    }
}

/// Trips `stop` at the first signal; ends at the second, with the exit code for that.
fn ended(stop: CancellationToken) -> Result<impl Future<Output = ExitCode>, Failure> {
    let mut signals = Signals::new().map_err(|error| Failure::new(format!("signals cannot be received: {error}")))?;
    Ok(async move {
        signals.next().await;
        tracing::info!("stopping: running requests may finish; a second signal ends at once");
        stop.cancel();
        signals.next().await;
        ExitCode::from(130)
    })
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
