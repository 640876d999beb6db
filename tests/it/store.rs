//! Kept pictures as callers fetch them: what is stored how often, under which name, with which headers.

use std::path::Path;

use bytes::Bytes;
use hyper::Method;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::harness::{Answer, Client, Server, until};

async fn stub() -> Server {
    Server::start("mode = \"stub\"").await
}

/// Makes one picture and returns its address.
async fn made(client: &Client, prompt: &str) -> String {
    let answer = client.generate(&json!({ "prompt": prompt, "seed": 7 })).await.expect(200);
    answer.json()["data"][0]["url"].as_str().expect("the picture has an address").to_owned()
}

async fn fetch(client: &Client, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    client.send(method, path, headers, Bytes::new()).await
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The picture files in a folder, by name.
fn stored(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the folder of images is there");
    let names = entries.map(|entry| entry.expect("it can be listed").file_name().to_string_lossy().into_owned());
    let mut pictures: Vec<_> = names.filter(|name| name.ends_with(".png")).collect();
    pictures.sort();
    pictures
}

#[tokio::test(flavor = "multi_thread")]
async fn item_7_address_tells_time_and_content_and_gives_the_same_bytes() {
    let server = stub().await;
    let client = server.client();
    let inline = client.generate(&json!({ "prompt": "a cat", "seed": 7, "response_format": "b64_json" })).await;
    let inline = crate::harness::pictures::files(&client, &inline.expect(200)).await.remove(0);

    let url = made(&client, "a cat").await;
    let kept = client.get(&url).await.expect(200);

    assert_eq!(kept.body, inline, "an address and base64 give the same file");
    assert_eq!(kept.header("content-type"), "image/png");
    let name = url.strip_prefix("/ui/images/").and_then(|name| name.strip_suffix(".png")).expect("{time}_{hash}.png");
    let (time, hash) = name.split_once('_').expect("{time}_{hash}.png");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970").as_secs();
    assert!(now.abs_diff(time.parse().expect("a Unix time")) < 600, "{time}");
    assert_eq!(hash, &sha256(&kept.body)[..12]);
}

#[tokio::test(flavor = "multi_thread")]
async fn item_45_folder_of_images_is_made_and_a_lost_one_is_told() {
    let server = Server::start("mode = \"stub\"\nimages.dir = \"{folder}/deep/in/images\"").await;
    let client = server.client();
    let folder = server.folder().join("deep/in/images");
    made(&client, "a cat").await;
    assert_eq!(stored(&folder).len(), 1);

    // Even an administrator cannot write into what is no folder.
    std::fs::remove_dir_all(&folder).expect("the folder can be removed");
    std::fs::write(&folder, "in the way").expect("the file can be written");

    until("readiness tells of it", async || client.get("/readyz").await.status == 503).await;
    let standing = client.get("/readyz").await.json();
    assert!(standing["store"]["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{standing}");
    let by_address = client.generate(&json!({ "prompt": "a dog" })).await.expect(503);
    assert_eq!(by_address.code(), "storage_unavailable");
    assert_eq!(by_address.header("x-backend-used"), "stub");
    let inline = client.generate(&json!({ "prompt": "a dog", "response_format": "b64_json" })).await.expect(200);
    assert_eq!(crate::harness::pictures::files(&client, &inline).await.len(), 1);
    assert!(inline.json()["warnings"][0]["message"].as_str().is_some_and(|text| text.contains("not kept")));

    std::fs::remove_file(&folder).expect("the file can be removed");
    std::fs::create_dir(&folder).expect("the folder can be made");
    until("it is ready again", async || client.get("/readyz").await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn item_24_last_picture_is_saved_whole_after_every_success() {
    let server = Server::start("mode = \"stub\"\nimages.last = \"{folder}/watched/last.png\"").await;
    let (client, path) = (server.client(), server.folder().join("watched/last.png"));
    let mut saved = Vec::new();
    for seed in [1, 2, 3] {
        let answer = client.generate(&json!({ "prompt": "a cat", "seed": seed })).await.expect(200);
        let url = answer.json()["data"][0]["url"].as_str().expect("the picture has an address").to_owned();
        saved.push(std::fs::read(&path).expect("it is there when the answer is"));
        assert_eq!(saved.last(), Some(&client.get(&url).await.expect(200).body.to_vec()));
    }
    assert!(saved[0] != saved[1] && saved[1] != saved[2]);

    // Whoever looks while it changes sees a whole picture.
    let making = tokio::spawn(async move {
        for seed in 0..20 {
            client.generate(&json!({ "prompt": "a cat", "seed": seed })).await.expect(200);
        }
    });
    while !making.is_finished() {
        crate::harness::pictures::decode(&std::fs::read(&path).expect("it is always there"));
        tokio::task::yield_now().await;
    }
    making.await.expect("the pictures are made");

    let inline = json!({ "prompt": "a bird", "response_format": "b64_json" });
    let inline = server.client().generate(&inline).await.expect(200);
    let inline = crate::harness::pictures::files(&server.client(), &inline).await;
    assert_eq!(inline[0], std::fs::read(&path).expect("it is there"));

    let before = std::fs::read(&path).expect("it is there");
    server.client().generate(&json!({ "prompt": "a fish", "n": 99 })).await.expect(400);
    assert_eq!(std::fs::read(&path).expect("it is there"), before, "what failed changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn item_46_identical_pictures_are_stored_once_under_their_hash() {
    let server = Server::start("mode = \"stub\"\nimages.dir = \"{folder}/images\"").await;
    let client = server.client();

    let first = made(&client, "a cat").await;
    let second = made(&client, "a cat").await;

    let bytes = client.get(&first).await.expect(200).body;
    assert_eq!(bytes, client.get(&second).await.expect(200).body);
    let hash = sha256(&bytes);
    assert_eq!(stored(&server.folder().join("images")), [format!("{hash}.png")]);
    assert_eq!(client.get(&format!("/ui/images/{hash}.png")).await.expect(200).body, bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn item_46_nothing_half_written_is_left_in_the_folder() {
    let server = Server::start("mode = \"stub\"\nimages.dir = \"{folder}/images\"").await;
    for prompt in ["a cat", "a dog", "a house"] {
        made(&server.client(), prompt).await;
    }
    let entries = std::fs::read_dir(server.folder().join("images")).expect("the folder is there").count();
    assert_eq!(entries, stored(&server.folder().join("images")).len(), "there are pictures only");
}

#[tokio::test(flavor = "multi_thread")]
async fn item_47_pictures_are_cached_for_ever_and_fetched_in_part() {
    let server = stub().await;
    let client = server.client();
    let url = made(&client, "a cat").await;
    let whole = client.get(&url).await.expect(200);
    let etag = format!("\"{}\"", sha256(&whole.body));

    assert_eq!(whole.header("etag"), etag);
    assert_eq!(whole.header("cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(whole.header("x-content-type-options"), "nosniff");
    assert_eq!(whole.header("accept-ranges"), "bytes");

    let head = fetch(&client, Method::HEAD, &url, &[]).await.expect(200);
    assert_eq!((head.body.len(), head.header("content-length")), (0, whole.body.len().to_string().as_str()));
    assert_eq!((head.header("etag"), head.header("content-type")), (etag.as_str(), "image/png"));

    for tag in [etag.as_str(), "*", &format!("W/{etag}"), &format!("\"other\", {etag}")] {
        let same = fetch(&client, Method::GET, &url, &[("if-none-match", tag)]).await.expect(304);
        assert_eq!((same.body.len(), same.header("etag")), (0, etag.as_str()), "{tag}");
    }
    fetch(&client, Method::GET, &url, &[("if-none-match", "\"other\"")]).await.expect(200);

    let last = whole.body.len() - 1;
    let rows = [
        ("bytes=0-0", 0..1),
        ("bytes=2-5", 2..6),
        ("bytes=5-", 5..last + 1),
        ("bytes=-3", last - 2..last + 1),
        ("bytes=5-9999999", 5..last + 1),
    ];
    for (range, bytes) in rows {
        let part = fetch(&client, Method::GET, &url, &[("range", range)]).await.expect(206);
        assert_eq!(part.body, whole.body.slice(bytes.clone()), "{range}");
        let said = format!("bytes {}-{}/{}", bytes.start, bytes.end - 1, whole.body.len());
        assert_eq!(part.header("content-range"), said, "{range}");
    }
    let outside = fetch(&client, Method::GET, &url, &[("range", "bytes=9999999-")]).await.expect(416);
    assert_eq!(outside.header("content-range"), format!("bytes */{}", whole.body.len()));
    for range in ["bytes=5-2", "bytes=x-y", "lines=1-2", "bytes=0-1,4-5"] {
        let all = fetch(&client, Method::GET, &url, &[("range", range)]).await.expect(200);
        assert_eq!(all.body, whole.body, "{range}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn item_48_bytes_that_no_client_sends_find_no_file() {
    let server = stub().await;
    let client = server.client();
    std::fs::write(server.folder().join("secret.png"), "secret").expect("the folder can be written");
    for path in
        ["/ui/images/..\\secret.png", "/ui/images/\u{1}.png", "/ui/images/../../secret.png", "/ui/images//secret.png"]
    {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let answer = client.raw(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 404") || answer.starts_with("HTTP/1.1 400"), "{path:?}: {answer}");
        assert!(!answer.contains("secret\r\n") && !answer.ends_with("secret"), "{path:?}: {answer}");
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn item_48_link_in_the_folder_of_images_leads_nowhere() {
    let server = Server::start("mode = \"stub\"\nimages.dir = \"{folder}/images\"").await;
    let client = server.client();
    made(&client, "a cat").await;
    let secret = server.folder().join("secret.png");
    std::fs::write(&secret, "secret").expect("the folder can be written");
    let name = format!("{}.png", "0".repeat(64));
    std::os::unix::fs::symlink(&secret, server.folder().join("images").join(&name)).expect("links can be made");

    let answer = client.get(&format!("/ui/images/{name}")).await.expect(404);

    assert!(!answer.text().contains("secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_survive_a_restart() {
    let server = stub().await;
    let url = made(&server.client(), "a cat").await;
    let bytes = server.client().get(&url).await.expect(200).body;

    let server = server.restart().await;

    assert_eq!(server.client().get(&url).await.expect(200).body, bytes);
}
