//! The house by itself; the server around it is tested from outside, in `tests/`.

use std::sync::Arc;
use std::time::Duration;

use easel_core::{Draft, ErrorKind, Generation, OnFailure, ParamNames, Result};

use tokio_util::sync::CancellationToken;

use super::{App, House, StartError};
use crate::config::{Config, Exposure, Mode, Sources, TransformerSettings};

fn config(transformers: Vec<TransformerSettings>) -> Config {
    let nowhere = std::env::temp_dir().join("easel-no-such-folder");
    Config { mode: Mode::Stub, plugins_folder: nowhere, transformers, ..Config::default() }
}

async fn house(config: Config) -> Arc<House> {
    let house = House::without_store(config);
    house.furnish().await.unwrap();
    house
}

async fn generate(house: &House) -> Result<Generation> {
    let request = Draft::new("a cat").check(&ParamNames::OURS).unwrap();
    house.pipeline().run(&house.local_context(), request).await
}

fn transformer(on_failure: OnFailure) -> TransformerSettings {
    TransformerSettings { id: "filter".to_owned(), time_limit: Duration::from_secs(1), on_failure }
}

#[tokio::test]
async fn stub_makes_pictures_and_no_folders() {
    let house = house(config(Vec::new())).await;
    let generation = generate(&house).await.unwrap();
    assert_eq!((generation.backend.as_str(), generation.images.len()), ("stub", 1));
    assert!(generation.kept.is_empty() && !std::env::temp_dir().join("easel-no-such-folder").exists());
}

#[tokio::test]
async fn a_transformer_that_is_not_loaded_is_not_skipped() {
    let house = house(config(vec![transformer(OnFailure::Closed)])).await;
    let error = generate(&house).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady);
    assert_eq!(error.message(), "transformer filter is configured but not loaded");
}

#[tokio::test]
async fn a_transformer_that_may_fail_is_left_out_with_a_note() {
    let house = house(config(vec![transformer(OnFailure::Open)])).await;
    let generation = generate(&house).await.unwrap();
    assert!(generation.notes.iter().any(|note| note.message.contains("filter")), "{:?}", generation.notes);
}

#[tokio::test]
async fn another_config_counts_from_the_next_request_on() {
    let house = house(config(Vec::new())).await;
    let mut next = config(vec![transformer(OnFailure::Closed)]);
    next.admission.default = 7;
    house.reconfigure(next);
    assert_eq!(house.pipeline().admission().lane("stub").limit, 7);
    assert!(generate(&house).await.is_err());
}

#[tokio::test]
async fn a_running_server_is_not_opened_to_everybody_by_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let plugins_folder = folder.path().join("plugins");
    let listen = "0.0.0.0:0".parse().unwrap();
    let guarded = Config { listen, data, plugins_folder, ..config(Vec::new()) };
    assert!(matches!(App::start(guarded.clone()).await, Err(StartError::Config(_))));
    let app = App::start(Config { exposure: Exposure::Open, ..guarded.clone() }).await.unwrap();
    // Not even where the new config names an address that would be safe: it still listens on this one.
    let tame = Config { listen: "127.0.0.1:0".parse().unwrap(), ..guarded };
    assert!(app.reloader().apply(tame).is_err());
}

#[tokio::test]
async fn a_default_model_that_cannot_come_is_refused_at_the_start_and_by_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let (data, plugins_folder) = (folder.path().join("data"), folder.path().join("plugins"));
    let listen = "127.0.0.1:0".parse().unwrap();
    let with = |default: &str| {
        let mut config =
            Config { listen, data: data.clone(), plugins_folder: plugins_folder.clone(), ..config(vec![]) };
        config.models.default = Some(default.to_owned());
        config.models.aliases = [("fast", "stub/shapes"), ("test", "stub/stub")]
            .map(|(alias, model)| (alias.to_owned(), model.to_owned()))
            .into();
        config
    };
    for wrong in ["stub/shapes", "fast"] {
        let mut app = App::start(with(wrong)).await.unwrap();
        let error = app.furnished().await.unwrap_err();
        assert_eq!(error.to_string(), "models.default names \"stub/shapes\", which is not here", "{wrong}");
        assert_eq!(error.hint().as_deref(), Some("it can be stub/stub"));
    }
    let mut app = App::start(with("test")).await.unwrap();
    app.furnished().await.unwrap();
    assert_eq!(app.house().world().snapshot().missing_default(), None);
    assert!(app.reloader().apply(with("stub/shapes")).is_err());
    assert_eq!(app.house().world().snapshot().default_model.as_deref(), Some("test"), "nothing has changed");

    // A plugin may still bring this one.
    app.reloader().apply(with("some-adapter/some-model")).unwrap();
    assert_eq!(app.house().world().snapshot().missing_default(), Some("some-adapter/some-model"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_config_file_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("easel.toml");
    std::fs::write(&path, "mode = \"stub\"").unwrap();
    let text = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let flags = [("listen", "127.0.0.1:0".to_owned()), ("data", text("data")), ("plugins", text("plugins"))];
    let sources = Sources { file: Some(path.clone()), flags: flags.into(), ..Sources::default() };
    let mut app = App::start(sources.load().unwrap().config).await.unwrap().watching(sources);
    app.furnished().await.unwrap();
    let (house, stop) = (Arc::clone(app.house()), CancellationToken::new());
    let serving = tokio::spawn(app.serve(stop.clone()));

    for limit in [9, 4] {
        std::fs::write(&path, format!("mode = \"stub\"\nadmission.limit = {limit}")).unwrap();
        let changed = async {
            while house.pipeline().admission().lane("stub").limit != limit {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), changed)
            .await
            .unwrap_or_else(|_| panic!("limit {limit} never held"));
    }
    stop.cancel();
    serving.await.unwrap().unwrap();
    assert!(!house.pipeline().admission().is_open());
}
