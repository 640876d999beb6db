//! A newcomer's first minutes: the command of the README in a checkout of its own, and the picture that comes out.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::harness::{Process, pictures, until};

/// The checkout is a copy, so that what is built beside the sources is not found by anything else. What plugins are made
/// of is compiled in the folder where it was compiled for the tests.
#[tokio::test(flavor = "multi_thread")]
async fn item_17_dev_builds_the_plugins_of_a_checkout_and_serves_a_first_picture() {
    let copy = tempfile::tempdir().expect("there is room for a folder");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests have a folder above them");
    let copying =
        "tar --exclude=./target --exclude=./.git --exclude=./data --exclude='*.wasm' -cf - . | tar -xf - -C \"$0\"";
    let copied = Command::new("sh").args(["-c", copying]).arg(copy.path()).current_dir(root).status();
    assert!(copied.expect("there is a shell").success());
    let target =
        Path::new(env!("COMPONENT_PROMPT_STYLES")).ancestors().nth(4).expect("components lie in a target folder");
    let mut surroundings = vec![("CARGO_TARGET_DIR".to_owned(), target.display().to_string())];
    surroundings.extend(
        ["HOME", "CARGO_HOME", "RUSTUP_HOME"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?))),
    );
    let surroundings: Vec<_> = surroundings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let built = |name: &str| copy.path().join("plugins").join(name).join(format!("{name}.wasm")).is_file();
    assert!(!built("prompt-styles"));

    let process = Process::start(copy.path(), &["dev", "--listen", "127.0.0.1:0"], &surroundings);
    let client = process.client().await;
    let body = json!({ "prompt": "a red circle on a blue background", "seed": 7 });
    let answer = client.generate(&body).await.expect(200);

    let picture = pictures::decode(&pictures::files(&client, &answer).await[0]).1;
    assert_eq!((picture.width(), picture.height()), (128, 128));
    let committed = std::fs::read(root.join("examples/red-circle.png")).expect("the README shows a picture");
    assert_eq!(pictures::decode(&committed).1.dimensions(), picture.dimensions());
    until("the plugins are built", async || built("prompt-styles") && built("openai-images")).await;
}
