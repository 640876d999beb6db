//! Pulling from a hub of our own, which speaks the real one's paths, breaks off, and lies.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path as Route, State};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::get;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use super::*;

/// What the hub has, how it misbehaves, and what it saw.
#[derive(Default)]
struct Shelf {
    files: BTreeMap<String, Vec<u8>>,
    commit: String,
    /// After how many bytes an answer breaks off, and how many answers do.
    breaks: (usize, usize),
    /// Whether the checksums it tells are those of something else.
    lies: bool,
    cdn: String,
    /// `path range authorization` of each request.
    seen: Vec<String>,
}

type Shared = Arc<Mutex<Shelf>>;

fn note(shelf: &Shared, path: &str, headers: &HeaderMap) {
    let header = |name: &str| headers.get(name).map_or("-", |value| value.to_str().unwrap()).to_owned();
    shelf.lock().unwrap().seen.push(format!("{path} {} {}", header("range"), header("authorization")));
}

async fn list(State(shelf): State<Shared>, Route(path): Route<String>, headers: HeaderMap) -> (StatusCode, String) {
    note(&shelf, &format!("list {path}"), &headers);
    let shelf = shelf.lock().unwrap();
    if path != "somebody/shapes/revision/main" {
        return (StatusCode::NOT_FOUND, String::new());
    }
    let siblings: Vec<_> = shelf.files.keys().map(|file| serde_json::json!({ "rfilename": file })).collect();
    (StatusCode::OK, serde_json::json!({ "sha": shelf.commit, "siblings": siblings }).to_string())
}

/// The hub sends large files elsewhere, and says what they are.
async fn resolve(
    State(shelf): State<Shared>,
    Route((commit, file)): Route<(String, String)>,
    headers: HeaderMap,
) -> Response<Body> {
    note(&shelf, &format!("resolve {file}"), &headers);
    let shelf = shelf.lock().unwrap();
    assert_eq!(commit, shelf.commit);
    let bytes = &shelf.files[&file];
    let mut hash = Sha256::digest(bytes).to_vec();
    if shelf.lies {
        hash.reverse();
    }
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let answer = Response::builder().status(StatusCode::FOUND).header("location", format!("{}/{file}", shelf.cdn));
    let answer = answer.header("x-linked-etag", format!("\"{hash}\"")).header("x-linked-size", bytes.len());
    answer.body(Body::empty()).unwrap()
}

/// Where the large files are: another machine, which may break off after so many bytes. Written out byte by byte, so that what
/// was sent before it breaks off is sure to arrive.
async fn cdn(shelf: Shared, mut stream: TcpStream) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.unwrap());
    }
    let request = String::from_utf8(request).unwrap();
    let file = request.split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
    let header = |name: &str| {
        let line = request.lines().find_map(|line| line.to_lowercase().strip_prefix(name).map(str::to_owned));
        line.unwrap_or_else(|| "-".to_owned())
    };
    let (range, authorization) = (header("range: "), header("authorization: "));
    let answer = {
        let mut shelf = shelf.lock().unwrap();
        shelf.seen.push(format!("cdn {file} {range} {authorization}"));
        let bytes = &shelf.files[&file];
        let from =
            range.strip_prefix("bytes=").map_or(0, |range| range.trim_end_matches('-').parse::<usize>().unwrap());
        let (whole, rest) = (bytes.len(), bytes[from..].to_vec());
        let mut head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n", rest.len());
        if from > 0 {
            head = head.replace("200 OK", "206 Partial Content");
            head.push_str(&format!("content-range: bytes {from}-{}/{whole}\r\n", whole - 1));
        }
        let (after, times) = shelf.breaks;
        let mut answer = format!("{head}\r\n").into_bytes();
        let sent = if times > 0 && rest.len() > after { after } else { rest.len() };
        shelf.breaks.1 -= usize::from(sent < rest.len());
        answer.extend(&rest[..sent]);
        answer
    };
    stream.write_all(&answer).await.unwrap();
    stream.shutdown().await.unwrap();
}

/// A running hub, and another machine for its large files.
struct Running {
    shelf: Shared,
    hub: Hub,
    models: TempDir,
    _servers: [AbortOnDropHandle<()>; 2],
}

impl Running {
    async fn start() -> Self {
        let shelf = Shared::default();
        let app = Router::new()
            .route("/api/models/{*path}", get(list))
            .route("/somebody/shapes/resolve/{commit}/{*file}", get(resolve))
            .with_state(Arc::clone(&shelf));
        let (hub, first) = serve(app).await;
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", other.local_addr().unwrap());
        let shared = Arc::clone(&shelf);
        let second = tokio::spawn(async move {
            while let Ok((stream, _)) = other.accept().await {
                tokio::spawn(cdn(Arc::clone(&shared), stream));
            }
        });
        let second = AbortOnDropHandle::new(second);
        {
            let mut shelf = shelf.lock().unwrap();
            shelf.cdn = address;
            shelf.commit = "abc123".to_owned();
            shelf.files.insert("README.md".to_owned(), b"# words".to_vec());
            put(&mut shelf.files, &Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/models/shapes"), "");
            shelf.files.insert("unet/diffusion_pytorch_model.bin".to_owned(), b"pickle".to_vec());
        }
        let hub = Hub::new(&hub, Some("secret")).unwrap();
        Self { shelf, hub, models: tempfile::tempdir().unwrap(), _servers: [first, second] }
    }

    async fn pull(&self) -> Result<String, Failure> {
        pull(&self.hub, &wish(), self.models.path()).await
    }

    fn set(&self, change: impl FnOnce(&mut Shelf)) {
        change(&mut self.shelf.lock().unwrap());
    }

    fn seen(&self, start: &str) -> Vec<String> {
        let shelf = self.shelf.lock().unwrap();
        shelf.seen.iter().filter(|line| line.starts_with(start)).cloned().collect()
    }

    fn listed(&self) -> Vec<String> {
        let listed = easel_engine::inventory::inventory(self.models.path()).unwrap();
        listed.into_iter().map(|listed| format!("{} {:?}", listed.id, listed.problem)).collect()
    }

    fn hidden(&self) -> PathBuf {
        self.models.path().join(".pulling-shapes")
    }
}

async fn serve(app: Router) -> (String, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (address, AbortOnDropHandle::new(server))
}

fn put(files: &mut BTreeMap<String, Vec<u8>>, folder: &Path, prefix: &str) {
    for item in fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        match path.is_dir() {
            true if name == "training" => {}
            true => put(files, &path, &format!("{name}/")),
            false => drop(files.insert(name, fs::read(path).unwrap())),
        }
    }
}

fn wish() -> Wish {
    Wish::new("somebody/shapes", None, None, None).unwrap()
}

const LARGE: &str = "unet/diffusion_pytorch_model.safetensors";

#[tokio::test]
async fn a_model_is_pulled_whole_and_the_token_goes_to_the_hub_alone() {
    let running = Running::start().await;
    assert_eq!(running.pull().await.unwrap(), "shapes");
    assert_eq!(running.listed(), ["shapes None"]);
    let folder = running.models.path().join("shapes");
    assert!(!running.hidden().exists() && !folder.join(COMMIT).exists() && !folder.join(LOCK).exists());
    assert!(!folder.join("README.md").exists() && !folder.join("unet/diffusion_pytorch_model.bin").exists());
    assert!(running.seen("resolve").iter().all(|line| line.ends_with(" - Bearer secret")));
    let elsewhere = running.seen("cdn");
    assert!(!elsewhere.is_empty() && elsewhere.iter().all(|line| line.ends_with(" - -")), "{elsewhere:?}");
    let failure = running.pull().await.unwrap_err();
    assert!(failure.message.contains("there is a model shapes"), "{}", failure.message);
}

#[tokio::test]
async fn what_breaks_off_goes_on_from_where_it_was() {
    let running = Running::start().await;
    running.set(|shelf| shelf.breaks = (300_000, 3));
    running.pull().await.unwrap();
    assert_eq!(running.listed(), ["shapes None"]);
    let seen = running.seen("cdn");
    for from in ["bytes=300000-", "bytes=600000-"] {
        assert!(seen.iter().any(|line| line.contains(from)), "{from}: {seen:?}");
    }
}

#[tokio::test]
async fn a_command_that_ended_early_leaves_no_model_and_the_next_one_goes_on() {
    let running = Running::start().await;
    // Nothing more comes, however often it is asked for.
    running.set(|shelf| shelf.breaks = (0, usize::MAX));
    running.pull().await.unwrap_err();
    running.set(|shelf| shelf.breaks = (200_000, 1));
    running.pull().await.unwrap();
    assert_eq!(running.listed(), ["shapes None"]);
    let running = Running::start().await;
    fs::create_dir_all(running.hidden().join("unet")).unwrap();
    let part = running.hidden().join(format!("{LARGE}.part"));
    running.set(|shelf| fs::write(&part, &shelf.files[LARGE][..1000]).unwrap());
    fs::write(running.hidden().join(COMMIT), "somebody/shapes@abc123\n").unwrap();
    assert!(running.listed().is_empty(), "parts are no model");
    running.pull().await.unwrap();
    assert!(running.seen(&format!("cdn {LARGE}"))[0].contains("bytes=1000-"));
}

#[tokio::test]
async fn parts_of_another_commit_are_not_gone_on_with() {
    let running = Running::start().await;
    fs::create_dir_all(running.hidden().join("unet")).unwrap();
    fs::write(running.hidden().join(format!("{LARGE}.part")), b"old").unwrap();
    fs::write(running.hidden().join(COMMIT), "somebody/shapes@0ld\n").unwrap();
    running.pull().await.unwrap();
    assert!(running.seen(&format!("cdn {LARGE}"))[0].contains(" - "));
}

#[tokio::test]
async fn a_file_that_is_not_what_the_hub_says_is_thrown_away() {
    let running = Running::start().await;
    running.set(|shelf| shelf.lies = true);
    let failure = running.pull().await.unwrap_err();
    assert!(failure.message.contains("has the checksum"), "{}", failure.message);
    assert!(running.listed().is_empty());
    let mut parts = fs::read_dir(running.hidden()).unwrap().map(|item| item.unwrap().file_name());
    assert!(parts.all(|name| name == COMMIT || name == LOCK || !name.to_string_lossy().ends_with(".part")));
    running.set(|shelf| shelf.lies = false);
    running.pull().await.unwrap();
}

#[tokio::test]
async fn a_model_that_cannot_be_used_gets_no_name_and_no_file_leads_out_of_its_folder() {
    let running = Running::start().await;
    running.set(|shelf| drop(shelf.files.insert("unet/config.json".to_owned(), b"{}".to_vec())));
    assert!(running.pull().await.is_err());
    assert!(running.listed().is_empty());
    running.set(|shelf| drop(shelf.files.insert("../out.json".to_owned(), b"{}".to_vec())));
    let failure = running.pull().await.unwrap_err();
    assert!(failure.message.contains("leads elsewhere"), "{}", failure.message);
    let missing = Wish::new("somebody/else", None, None, None).unwrap();
    let failure = pull(&running.hub, &missing, running.models.path()).await.unwrap_err();
    assert!(failure.message.contains("404"), "{}", failure.message);
}

#[tokio::test]
async fn offline_nothing_is_asked_for() {
    let running = Running::start().await;
    let failure = wish().must_be_in(running.models.path()).unwrap_err();
    assert!(failure.message.contains("nothing is fetched offline"), "{}", failure.message);
    running.pull().await.unwrap();
    let seen = running.seen("").len();
    wish().must_be_in(running.models.path()).unwrap();
    assert_eq!(running.seen("").len(), seen);
}

#[test]
fn of_a_repository_only_what_the_model_needs_is_fetched() {
    let files = |names: &str| names.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let layout = files(
        "model_index.json whole.safetensors README.md unet/config.json unet/m.safetensors unet/m.fp16.safetensors unet/m.bin \
         vae/config.json vae/m.fp16.safetensors text/m-00001-of-00002.safetensors text/m.fp16-00001-of-00002.safetensors \
         text/m.safetensors.index.json text/m.safetensors.index.fp16.json text/onnx/m.json tokenizer/merges.txt",
    );
    let plain = "model_index.json unet/config.json unet/m.safetensors vae/config.json vae/m.fp16.safetensors \
         text/m-00001-of-00002.safetensors text/m.safetensors.index.json tokenizer/merges.txt";
    assert_eq!(wanted(&layout, None, None).unwrap(), files(plain));
    let half = "model_index.json unet/config.json unet/m.fp16.safetensors vae/config.json vae/m.fp16.safetensors \
         text/m.fp16-00001-of-00002.safetensors text/m.safetensors.index.fp16.json tokenizer/merges.txt";
    assert_eq!(wanted(&layout, None, Some("fp16")).unwrap(), files(half));
    assert_eq!(wanted(&files("a.safetensors b.ckpt"), None, None).unwrap(), ["a.safetensors"]);
    let two = files("a.safetensors b.gguf c.ckpt");
    let failure = wanted(&two, None, None).unwrap_err();
    assert_eq!(failure.hint.as_deref(), Some("it can be a.safetensors, b.gguf"));
    assert_eq!(wanted(&two, Some("b.gguf"), None).unwrap(), ["b.gguf"]);
    assert!(wanted(&two, Some("c.ckpt"), None).is_err() && wanted(&files("a.ckpt"), None, None).is_err());
}

#[test]
fn names_of_repositories_are_read_with_their_revision() {
    let wish = Wish::new("some-one/a.b@v1.0", Some("x/painter.safetensors".to_owned()), None, None).unwrap();
    assert_eq!((&*wish.repository, &*wish.revision, &*wish.id), ("some-one/a.b", "v1.0", "painter"));
    for bad in ["one", "a/b/c", "../b", "a/..", "a/b@../x", "a /b", ""] {
        assert!(Wish::new(bad, None, None, None).is_err(), "{bad}");
    }
}
