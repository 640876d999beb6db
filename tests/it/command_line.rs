//! The commands that need no server: pictures from the command line, the models there are, a config to start from.

use std::path::Path;

use easel::config::{Environment, Sources};
use tempfile::TempDir;

use crate::harness::{Process, pictures};

fn folder() -> TempDir {
    tempfile::tempdir().expect("there is room for a folder")
}

fn succeeds(folder: &Path, arguments: &[&str]) -> String {
    let ended = Process::run(folder, arguments, &[]);
    assert!(ended.status.success(), "{arguments:?}: {}", ended.log);
    ended.output
}

fn fails(folder: &Path, arguments: &[&str]) -> String {
    let ended = Process::run(folder, arguments, &[]);
    assert!(!ended.status.success() && !ended.log.contains("panicked"), "{arguments:?}: {}", ended.log);
    ended.log
}

#[test]
fn picture_is_made_and_written_without_a_server() {
    let folder = folder();
    let command = ["generate", "a red circle", "-o", "circle.png", "--seed", "3", "--steps", "2"];

    let told = succeeds(folder.path(), &command);

    let file = std::fs::read(folder.path().join("circle.png")).expect("the picture was written");
    let (format, picture) = pictures::decode(&file);
    assert_eq!(format, image::ImageFormat::Png);
    let size = format!("{}x{}", picture.width(), picture.height());
    for word in ["circle.png", "shapes", "seed 3", &size] {
        assert!(told.contains(word), "{word:?} should be told: {told}");
    }
    succeeds(folder.path(), &["generate", "a red circle", "-o", "again.png", "--seed", "3", "--steps", "2"]);
    assert_eq!(std::fs::read(folder.path().join("again.png")).expect("the picture was written"), file);
}

#[test]
fn several_pictures_are_numbered_and_have_the_format_of_their_ending() {
    let folder = folder();
    succeeds(folder.path(), &["generate", "a cat", "-o", "cat.jpg", "-n", "2", "--mode", "stub", "--size", "64x32"]);
    for name in ["cat-1.jpg", "cat-2.jpg"] {
        let file = std::fs::read(folder.path().join(name)).expect("the picture was written");
        let (format, picture) = pictures::decode(&file);
        assert_eq!((format, picture.width(), picture.height()), (image::ImageFormat::Jpeg, 64, 32));
    }
}

#[test]
fn wrong_commands_say_what_would_be_right_and_write_nothing() {
    let folder = folder();
    let rows: [(&[&str], &[&str]); 6] = [
        (&["generate", "a cat", "-o", "cat.gif"], &["--output", "cat.gif", ".png"]),
        (&["generate", "a cat", "--size", "big"], &["--size", "big", "128x128"]),
        (&["generate", " ", "--mode", "stub"], &["PROMPT", "empty"]),
        (&["generate", "a cat", "-n", "11", "--mode", "stub"], &["--count", "1 to 10", "11"]),
        (&["generate", "a cat", "--backend", "nowhere", "--mode", "stub"], &["--backend", "nowhere", "stub"]),
        (&["generate", "a cat", "--mode", "turbo"], &["turbo", "engine", "stub"]),
    ];
    for (arguments, words) in rows {
        let text = fails(folder.path(), arguments);
        for word in words {
            assert!(text.contains(word), "{arguments:?} should be told with {word:?}: {text}");
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder is there").filter(is_picture).count(), 0);
}

fn is_picture(entry: &std::io::Result<std::fs::DirEntry>) -> bool {
    entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("cat"))
}

#[test]
fn models_are_listed_with_the_backend_that_has_them() {
    let folder = folder();
    let list = succeeds(folder.path(), &["models"]);
    assert!(list.lines().any(|line| line.contains("shapes") && line.contains("engine")), "{list}");
    let list = succeeds(folder.path(), &["models", "--mode", "stub"]);
    assert!(list.contains("stub") && !list.contains("shapes"), "{list}");
}

#[test]
fn config_that_is_printed_is_one_that_is_understood() {
    let folder = folder();
    let config = succeeds(folder.path(), &["config"]);
    std::fs::write(folder.path().join("easel.toml"), &config).expect("the folder can be written");
    let list = succeeds(folder.path(), &["models", "--mode", "stub"]);
    assert!(list.contains("stub"), "{list}");
}

#[test]
fn sample_config_of_the_examples_is_understood() {
    let keys =
        [("EASEL_CHAT_KEY", "sesame-open"), ("EASEL_OPERATOR_KEY", "sesame-wide"), ("UPSTREAM_KEY", "sesame-far")];
    let sources = Sources {
        file: Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/easel.toml")),
        environment: Environment::from_pairs(keys),
        flags: std::collections::BTreeMap::new(),
    };
    let loaded = sources.load().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(loaded.notices, Vec::<String>::new());
    assert_eq!(loaded.config.keys.len(), 2);
}

#[test]
fn program_says_what_it_can_do_and_which_version_it_is() {
    let folder = folder();
    let help = succeeds(folder.path(), &["--help"]);
    for command in ["serve", "generate", "models", "config", "dev"] {
        assert!(help.contains(command), "{command}: {help}");
    }
    assert!(succeeds(folder.path(), &["--version"]).starts_with("easel "));
}
