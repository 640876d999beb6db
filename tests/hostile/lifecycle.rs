//! A plugin's life: dropped in, replaced, broken, taken away, configured. Whatever fails leaves what serves.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use easel_core::{Draft, ErrorKind, Readiness};
use easel_runtime::{PluginSettings, PluginState, Runtime};
use tempfile::TempDir;

use super::{Host, MANIFEST, configured, generate, install, is_ready, limits, status_of};
pub(super) use crate::harness::components::leb;
use crate::harness::components::section;

/// The hostile adapter as one file with its manifest inside; every `mark` is another file.
pub(super) fn component(manifest: &str, mark: &str) -> Vec<u8> {
    let guest = fs::read(env!("COMPONENT_HOSTILE_GUEST")).unwrap();
    [guest, section("easel:manifest", manifest.as_bytes()), section("mark", mark.as_bytes())].concat()
}

/// A component that has a manifest, and nothing else.
pub(super) fn hollow(manifest: &str) -> Vec<u8> {
    let whole = component(manifest, "");
    let guest = fs::read(env!("COMPONENT_HOSTILE_GUEST")).unwrap().len();
    [&whole[..8], &whole[guest..]].concat()
}

pub(super) fn version(number: u32) -> String {
    MANIFEST.replace("0.1.0", &format!("0.{number}.0"))
}

pub(super) async fn empty() -> Host {
    Host::start(TempDir::new().unwrap(), [].into(), limits()).await
}

pub(super) fn has_version(host: &Host, number: u32) -> impl Fn(&Runtime) -> bool + use<> {
    let _ = host;
    let version = format!("0.{number}.0");
    move |runtime| is_ready(runtime, "hostile") && status_of(runtime, "hostile").version.as_deref() == Some(&version)
}

pub(super) fn replace(path: &Path, bytes: &[u8]) {
    let aside = path.with_extension("part");
    fs::write(&aside, bytes).unwrap();
    fs::rename(aside, path).unwrap();
}

#[tokio::test]
async fn file_that_is_dropped_in_serves_and_is_replaced_and_is_taken_away() {
    let host = empty().await;
    assert!(host.runtime.backends().is_empty() && host.runtime.status().is_empty());
    let path = host.folder.path().join("hostile.wasm");
    fs::write(&path, component(&version(1), "")).unwrap();
    host.until("the first serves", has_version(&host, 1)).await;
    let first = host.backend();
    replace(&path, &component(&version(2), ""));
    host.until("the second serves", has_version(&host, 2)).await;
    assert_eq!(host.runtime.backends().len(), 1);
    fs::remove_file(&path).unwrap();
    host.until("it is gone", |runtime| runtime.backends().is_empty() && runtime.status().is_empty()).await;
    // Whoever holds a generation goes on with it.
    assert_eq!(generate(&*first, Draft::new("count")).await.unwrap().images.len(), 1);
}

#[tokio::test]
async fn broken_file_changes_nothing_that_serves_and_the_status_says_why() {
    let host = empty().await;
    let path = host.folder.path().join("hostile.wasm");
    fs::write(&path, component(&version(1), "")).unwrap();
    host.until("it serves", has_version(&host, 1)).await;
    let digest = host.status("hostile").digest;
    let whole = component(&version(2), "");
    let broken: [(&str, Vec<u8>); 7] = [
        ("does not export easel:plugin/backend", hollow(&version(2))),
        ("not WebAssembly", b"hello".to_vec()),
        ("a core module", b"\0asm\x01\0\0\0".to_vec()),
        ("not a whole component", whole[..whole.len() / 2].to_vec()),
        ("it has no manifest", fs::read(env!("COMPONENT_HOSTILE_GUEST")).unwrap()),
        ("this host speaks \"0.3\"", component(&MANIFEST.replace("contract = \"0.3\"", "contract = \"0.4\""), "")),
        ("unknown field", component(&format!("{MANIFEST}\n[oops]\n"), "")),
    ];
    for (expected, bytes) in broken {
        replace(&path, &bytes);
        let says =
            |runtime: &Runtime| status_of(runtime, "hostile").reason.is_some_and(|reason| reason.contains(expected));
        host.until(expected, says).await;
        let status = host.status("hostile");
        assert_eq!((status.state, &status.digest), (PluginState::Ready, &digest), "{expected}");
        assert_eq!(host.answer("count").await, "1");
    }
    replace(&path, &whole);
    host.until("the good one serves", has_version(&host, 2)).await;
    assert_eq!(host.status("hostile").reason, None);
}

#[tokio::test]
async fn half_written_file_is_waited_for_and_then_refused() {
    let host = Host::new().await;
    let path = host.folder.path().join("other.wasm");
    let whole = component(&MANIFEST.replace("\"hostile\"", "\"other\""), "");
    let half = &whole[..whole.len() / 2];
    let (begun, mut looks) = (Instant::now(), 0);
    fs::write(&path, half).unwrap();
    // Each swap of the other plugin is a look at the folder as well.
    while begun.elapsed() < Duration::from_millis(400) {
        looks += 1;
        swap(&host, looks).await;
        let other = host.runtime.status().into_iter().find(|status| status.id == "other.wasm");
        let state = other.map(|status| status.state);
        let is_early = begun.elapsed() < Duration::from_millis(900);
        assert!(!is_early || matches!(state, None | Some(PluginState::Loading)), "{state:?} after {looks} looks");
    }
    let refused = |runtime: &Runtime| runtime.status().iter().any(|status| status.state == PluginState::Failed);
    host.until("half a file is refused", refused).await;
    assert!(host.status("other.wasm").reason.unwrap().contains("not a whole component"));
    fs::write(&path, whole).unwrap();
    host.until("the whole one serves", |runtime| is_ready(runtime, "other")).await;
}

/// Makes the next generation of the hostile adapter.
async fn swap(host: &Host, number: u32) {
    let since = host.status("hostile").since;
    let settings = configured("models", &number.to_string());
    host.runtime.reconfigure([("hostile".to_owned(), settings)].into());
    host.until("the next generation serves", |runtime| status_of(runtime, "hostile").since != since).await;
}

#[tokio::test]
async fn two_hundred_swaps_under_load_fail_no_call() {
    // The same component with another mark costs a compilation each; settings go the same way without one.
    let host = Host::with(configured("models", "0"), limits()).await;
    let load = async {
        let mut calls = 0_u32;
        loop {
            assert_eq!(host.answer("count").await, "1");
            calls += 1;
            if host.answer("config").await == r#"{"models":"200"}"# {
                return calls;
            }
        }
    };
    let swaps = async {
        for number in 1..=200 {
            swap(&host, number).await;
        }
    };
    let (calls, ()) = tokio::join!(load, swaps);
    assert!(calls > 10, "{calls}");
}

#[tokio::test]
async fn first_by_path_keeps_an_id() {
    let host = empty().await;
    let (one, two) = (host.folder.path().join("a.wasm"), host.folder.path().join("b.wasm"));
    fs::write(&two, component(&version(2), "")).unwrap();
    host.until("the second serves", has_version(&host, 2)).await;
    fs::write(&one, component(&version(1), "")).unwrap();
    let is_taken = |runtime: &Runtime| {
        let status = runtime.status();
        status.len() == 2 && status[1].reason.as_ref().is_some_and(|reason| reason.contains("is taken by"))
    };
    host.until("the second gives way", is_taken).await;
    host.until("the first serves", has_version(&host, 1)).await;
    assert_eq!(host.runtime.backends().len(), 1);
    assert_eq!(host.status("hostile").version.as_deref(), Some("0.1.0"));
    fs::remove_file(&one).unwrap();
    host.until("the second is back", has_version(&host, 2)).await;
}

#[tokio::test]
async fn settings_take_the_same_path_as_files() {
    let host = Host::with(configured("models", "one"), limits()).await;
    assert_eq!(host.answer("config").await, r#"{"models":"one"}"#);
    let reconfigure = |settings: PluginSettings| host.runtime.reconfigure([("hostile".to_owned(), settings)].into());

    reconfigure(configured("model", "wrong"));
    host.until("the reason is told", |runtime| status_of(runtime, "hostile").reason.is_some()).await;
    assert_eq!(host.answer("config").await, r#"{"models":"one"}"#);

    reconfigure(configured("models", "trap"));
    let traps =
        |runtime: &Runtime| status_of(runtime, "hostile").reason.is_some_and(|reason| reason.contains("trapped"));
    host.until("it does not even name its models", traps).await;
    assert_eq!(host.answer("config").await, r#"{"models":"one"}"#);

    reconfigure(PluginSettings { is_enabled: false, ..PluginSettings::default() });
    host.until("it is off", |runtime| status_of(runtime, "hostile").state == PluginState::Disabled).await;
    assert!(host.runtime.backends().is_empty());

    reconfigure(configured("models", "two"));
    host.until("it is on again", |runtime| is_ready(runtime, "hostile")).await;
    assert_eq!(host.answer("config").await, r#"{"models":"two"}"#);
}

#[tokio::test]
async fn adapter_without_its_key_is_there_and_not_ready() {
    let folder = TempDir::new().unwrap();
    let manifest = MANIFEST.replace("prefix = \"Bearer \"", "prefix = \"Bearer \"\nrequired = true");
    install(folder.path(), "hostile", env!("COMPONENT_HOSTILE_GUEST"), &manifest);
    let host = Host::start(folder, [].into(), limits()).await;
    assert_eq!(host.status("hostile").state, PluginState::NotReady);
    let Readiness::NotReady(reason) = host.backend().readiness() else { panic!("it lacks its key") };
    let expected =
        "missing credentials: key; say where they come from under [plugin.hostile.credentials] in easel.toml";
    assert_eq!(reason, expected);
    host.runtime.reconfigure([("hostile".to_owned(), super::settings(&[]))].into());
    host.until("it has its key", |runtime| is_ready(runtime, "hostile")).await;
    assert_eq!(host.backend().readiness(), Readiness::Ready);
}

#[tokio::test]
async fn adapter_that_needs_one_of_two_keys_is_ready_once_either_is_there() {
    let folder = TempDir::new().unwrap();
    let other = "\n[[credential]]\nname = \"other\"\nquery = \"key\"\nrequired = \"any\"\n\
                 [[environment]]\nvariable = \"OTHER_KEY\"\ncredential = \"other\"\n";
    let manifest = MANIFEST.replace("prefix = \"Bearer \"", "prefix = \"Bearer \"\nrequired = \"any\"") + other;
    install(folder.path(), "hostile", env!("COMPONENT_HOSTILE_GUEST"), &manifest);
    let host = Host::start(folder, [].into(), limits()).await;
    assert_eq!(host.status("hostile").state, PluginState::NotReady);
    let expected = "missing credentials: one of key, other; say where they come from under [plugin.hostile.credentials] in easel.toml, \
                    or set a variable that environment = [\"OTHER_KEY\"] under [plugin.hostile] grants";
    assert_eq!(host.backend().readiness(), Readiness::NotReady(expected.to_owned()));
    let mut settings = super::settings(&[]);
    host.runtime.reconfigure([("hostile".to_owned(), settings.clone())].into());
    host.until("it has a key", |runtime| is_ready(runtime, "hostile")).await;
    settings.credentials.clear();
    host.runtime.reconfigure([("hostile".to_owned(), settings.clone())].into());
    host.until("it has none", |runtime| !is_ready(runtime, "hostile")).await;
    settings.environment = [("OTHER_KEY".to_owned(), easel_runtime::Secret::new("open-sesame"))].into();
    host.runtime.reconfigure([("hostile".to_owned(), settings)].into());
    host.until("it has the other", |runtime| is_ready(runtime, "hostile")).await;
}

#[tokio::test]
async fn manifest_beside_the_component_wins_and_its_change_is_a_change() {
    let folder = TempDir::new().unwrap();
    let place = folder.path().join("place");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("x.wasm"), component(&version(1), "")).unwrap();
    fs::write(place.join("plugin.toml"), version(7)).unwrap();
    let host = Host::start(folder, [].into(), limits()).await;
    assert_eq!(host.status("hostile").version.as_deref(), Some("0.7.0"));
    replace(&place.join("plugin.toml"), version(8).as_bytes());
    host.until("the new manifest counts", has_version(&host, 8)).await;
    fs::remove_file(place.join("plugin.toml")).unwrap();
    host.until("the embedded manifest counts", has_version(&host, 1)).await;
}

#[tokio::test]
async fn link_out_of_the_folder_is_refused() {
    let outside = TempDir::new().unwrap();
    let real = outside.path().join("real.wasm");
    fs::write(&real, component(&version(1), "")).unwrap();
    let host = empty().await;
    std::os::unix::fs::symlink(&real, host.folder.path().join("link.wasm")).unwrap();
    let refused = |runtime: &Runtime| {
        runtime.status().iter().any(|status| {
            status.reason.as_ref().is_some_and(|reason| reason.contains("leads out of the plugins folder"))
        })
    };
    host.until("the link is refused", refused).await;
    assert!(host.runtime.backends().is_empty());
}

#[tokio::test]
async fn component_that_is_too_long_is_refused() {
    let host = Host::limited(|limits| limits.component_bytes = 1000).await;
    let status = host.runtime.status().remove(0);
    assert_eq!(status.state, PluginState::Failed);
    assert!(status.reason.unwrap().contains("is longer than 1000 bytes"));
}

#[tokio::test]
async fn runtime_that_stops_refuses_calls() {
    let host = Host::new().await;
    let backend = host.backend();
    host.runtime.shutdown().await;
    let error = generate(&*backend, Draft::new("count")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady);
}
