//! What is both wanted and granted, at the real door: paths, methods, credentials and redirects of each want; and what
//! becomes of a build that wants more than it was given.

use bytes::Bytes;
use easel_runtime::{NetworkGrant, PluginSettings, PluginState};

use super::{Host, KEY, MANIFEST, TempDir, install, is_ready, limits, settings};
use crate::harness::{Reply, Upstream};

/// The hostile adapter's manifest with these wants.
fn wanting(wants: &str) -> String {
    MANIFEST.replace("[network]\norigins = [\"operator\"]\n", wants)
}

async fn host(manifest: &str, settings: PluginSettings) -> Host {
    let folder = TempDir::new().unwrap();
    install(folder.path(), "hostile", env!("COMPONENT_HOSTILE_GUEST"), manifest);
    Host::start(folder, [("hostile".to_owned(), settings)].into(), limits()).await
}

fn granted(grants: Vec<NetworkGrant>) -> PluginSettings {
    PluginSettings { network: grants, ..settings(&[]) }
}

fn grant(origin: &str) -> NetworkGrant {
    NetworkGrant { origin: origin.to_owned(), credentials: vec!["key".to_owned()], ..NetworkGrant::default() }
}

async fn told() -> Upstream {
    Upstream::start(|received| Reply::bytes(200, "text/plain", received.path.clone().into())).await
}

#[tokio::test]
async fn only_wanted_paths_and_methods_leave_however_they_are_spelled() {
    let upstream = told().await;
    let origin = upstream.origin();
    let want = format!("[[network]]\norigin = \"{origin}\"\nmethods = [\"GET\"]\npaths = [\"/v1/**\", \"/health\"]\n");
    let host = host(&wanting(&want), granted(vec![grant(&origin)])).await;
    for path in ["/v1", "/v1/images?x=../..", "/x/../v1/a", "/%76%31/a", "/health"] {
        assert!(host.answer(&format!("fetch GET {origin}{path}")).await.starts_with("200 "), "{path}");
        assert!(host.answer(&format!("wasi-http GET {origin}{path}")).await.starts_with("200 "), "{path}");
    }
    let sent = upstream.received().len();
    let paths = [
        "/",
        "/admin",
        "/v1/../admin",
        "/v1/%2e%2e/admin",
        "/v1/..%2fadmin",
        "/v1/%252e%252e/admin",
        "/v1/..;/admin",
        "/v1/..%5cadmin",
        "//v1/x",
        "/V1/x",
        "/health/x",
    ];
    for path in paths {
        let error = host.generate(&format!("fetch GET {origin}{path}")).await.unwrap_err();
        assert!(error.message().contains("does not want GET at this path"), "{path}: {error}");
        let answer = host.answer(&format!("wasi-http GET {origin}{path}")).await;
        assert!(answer.starts_with("refused: "), "{path}: {answer}");
    }
    let error = host.generate(&format!("fetch POST {origin}/v1")).await.unwrap_err();
    assert!(error.message().contains("does not want POST"), "{error}");
    assert_eq!(upstream.received().len(), sent, "nothing of it left");
}

#[tokio::test]
async fn grant_that_gives_less_than_is_wanted_is_the_measure() {
    let upstream = told().await;
    let origin = upstream.origin();
    let want = format!("[[network]]\norigin = \"{origin}\"\nmethods = [\"GET\", \"POST\"]\n");
    let part =
        NetworkGrant { paths: Some(vec!["/v1/*".to_owned()]), methods: Some(vec!["GET".to_owned()]), ..grant(&origin) };
    let settings = PluginSettings { withheld: vec![origin.clone()], ..granted(vec![part]) };
    let host = host(&wanting(&want), settings).await;
    assert!(host.answer(&format!("fetch GET {origin}/v1/a")).await.ends_with("/v1/a"));
    for request in [format!("POST {origin}/v1/a"), format!("GET {origin}/v2/a"), format!("GET {origin}/v1/a/b")] {
        let error = host.generate(&format!("fetch {request}")).await.unwrap_err();
        assert!(error.message().contains("may not send"), "{request}: {error}");
        assert_eq!(error.hint(), Some("to allow it: easel plugin grant hostile --all"));
    }
    assert_eq!(upstream.received().len(), 1);
}

#[tokio::test]
async fn key_goes_only_to_the_paths_that_want_it() {
    let upstream = told().await;
    let origin = upstream.origin();
    let want = format!(
        "[[network]]\norigin = \"{origin}\"\npaths = [\"/api/**\"]\ncredential = \"key\"\n\
         [[network]]\norigin = \"{origin}\"\npaths = [\"/files/**\"]\n"
    );
    let host = host(&wanting(&want), granted(vec![grant(&origin)])).await;
    host.answer(&format!("fetch GET {origin}/api/x credential=key")).await;
    host.answer(&format!("fetch GET {origin}/files/x")).await;
    let error = host.generate(&format!("fetch GET {origin}/files/x credential=key")).await.unwrap_err();
    assert!(error.message().contains("may not send its credential \"key\" there"), "{error}");
    let answer = host.answer(&format!("wasi-http GET {origin}/files/x x-easel-credential:key")).await;
    assert!(answer.starts_with("refused: "), "{answer}");
    let keys: Vec<_> = upstream.received().iter().map(|received| received.header("x-secret").to_owned()).collect();
    assert_eq!(keys, [format!("Bearer {KEY}"), String::new()]);
}

#[tokio::test]
async fn redirect_that_is_not_to_be_followed_is_the_answer_and_the_key_stays_where_it_may_go() {
    let upstream = Upstream::start(|received| match received.path.as_str() {
        "/api/x" => Reply::bytes(302, "text/plain", Bytes::new()).with("location", "/files/x"),
        _ => Reply::bytes(200, "text/plain", "there".into()),
    })
    .await;
    let origin = upstream.origin();
    for (redirects, status, requests) in [("none", "302", 1), ("same-origin", "200", 2), ("wanted", "200", 2)] {
        let want = format!(
            "[[network]]\norigin = \"{origin}\"\npaths = [\"/api/**\"]\ncredential = \"key\"\nredirects = \"{redirects}\"\n\
             [[network]]\norigin = \"{origin}\"\npaths = [\"/files/**\"]\n"
        );
        let host = host(&wanting(&want), granted(vec![grant(&origin)])).await;
        let before = upstream.received().len();
        let answer = host.answer(&format!("fetch GET {origin}/api/x credential=key")).await;
        assert!(answer.starts_with(status), "{redirects}: {answer}");
        let received = upstream.received();
        assert_eq!(received.len() - before, requests, "{redirects}");
        assert_eq!(received[before].header("x-secret"), format!("Bearer {KEY}"));
        if let Some(second) = received.get(before + 1) {
            assert_eq!(second.header("x-secret"), "", "the path that was redirected to wants no key");
        }
    }
}

#[tokio::test]
async fn build_that_wants_more_awaits_the_grant_and_the_older_one_serves_with_what_is_given() {
    let (one, two) = (told().await, told().await);
    let [first, second] = [one.origin(), two.origin()];
    let want = |origin: &str| format!("[[network]]\norigin = \"{origin}\"\ncredential = \"key\"\n");
    let host = host(&wanting(&want(&first)), granted(vec![grant(&first)])).await;
    assert!(is_ready(&host.runtime, "hostile"));

    let wider = format!("{}{}", want(&first), want(&second)).replace("0.1.0", "0.2.0");
    let manifest = wanting(&wider).replace("version = \"0.1.0\"", "version = \"0.2.0\"");
    std::fs::write(host.folder.path().join("hostile/plugin.toml"), &manifest).unwrap();
    host.until("the newer one waits", |runtime| super::status_of(runtime, "hostile").missing_grant.is_some()).await;

    let status = host.status("hostile");
    assert_eq!((status.state, status.version.as_deref()), (PluginState::Ready, Some("0.1.0")));
    assert!(status.reason.unwrap().starts_with("the older build serves, the newer one awaits a grant: it wants "));
    let missing = status.missing_grant.unwrap();
    assert_eq!(missing.command, format!("easel plugin grant hostile --origin {second}"));
    assert!(
        missing.toml.starts_with(&format!("[[plugin.hostile.network]]\norigin = \"{second}\"\n")),
        "{}",
        missing.toml
    );
    assert!(host.answer(&format!("fetch GET {first}/x")).await.starts_with("200 "));

    // What is taken back meanwhile is taken from the one that serves.
    host.runtime.reconfigure(
        [("hostile".to_owned(), PluginSettings { withheld: vec![first.clone()], ..granted(vec![]) })].into(),
    );
    host.until("the grant is gone", |runtime| super::status_of(runtime, "hostile").ungranted == [first.clone()]).await;
    let error = host.generate(&format!("fetch GET {first}/x")).await.unwrap_err();
    assert!(error.message().contains("may not reach"), "{error}");

    host.runtime.reconfigure([("hostile".to_owned(), granted(vec![grant(&first), grant(&second)]))].into());
    host.until("the newer one serves", |runtime| {
        super::status_of(runtime, "hostile").version.as_deref() == Some("0.2.0")
    })
    .await;
    let status = host.status("hostile");
    assert_eq!((status.state, status.reason, status.missing_grant), (PluginState::Ready, None, None));
    assert!(host.answer(&format!("fetch GET {second}/x")).await.starts_with("200 "));
}

#[tokio::test]
async fn rebuilt_component_that_wants_no_more_needs_no_new_grant() {
    let upstream = told().await;
    let origin = upstream.origin();
    let want = |paths: &str| format!("[[network]]\norigin = \"{origin}\"\npaths = [{paths}]\n");
    let exactly = NetworkGrant { paths: Some(vec!["/v1/**".to_owned()]), ..grant(&origin) };
    let host = host(&wanting(&want("\"/v1/**\"")), granted(vec![exactly])).await;
    for (version, paths, serves) in
        [("0.2.0", "\"/v1/images\", \"/v1/*/x\"", true), ("0.3.0", "\"/v1/**\", \"/v2\"", false)]
    {
        let manifest = wanting(&want(paths)).replace("version = \"0.1.0\"", &format!("version = \"{version}\""));
        std::fs::write(host.folder.path().join("hostile/plugin.toml"), &manifest).unwrap();
        host.until(version, |runtime| {
            let status = super::status_of(runtime, "hostile");
            if serves { status.version.as_deref() == Some(version) } else { status.missing_grant.is_some() }
        })
        .await;
    }
    assert_eq!(host.status("hostile").version.as_deref(), Some("0.2.0"));
}

#[tokio::test]
async fn plugin_whose_grant_is_taken_back_serves_no_more() {
    let upstream = told().await;
    let origin = upstream.origin();
    let want = format!("[[network]]\norigin = \"{origin}\"\n");
    let host = host(&wanting(&want), granted(vec![grant(&origin)])).await;
    assert!(is_ready(&host.runtime, "hostile"));
    host.runtime.reconfigure([].into());
    host.until("it awaits the grant", |runtime| {
        super::status_of(runtime, "hostile").state == PluginState::AwaitingGrant
    })
    .await;
    assert!(host.runtime.backends().is_empty());
    host.runtime.reconfigure([("hostile".to_owned(), granted(vec![grant(&origin)]))].into());
    host.until("it serves again", |runtime| is_ready(runtime, "hostile")).await;
}
