//! What goes in comes out, once, under the right names.

use std::time::{Duration, UNIX_EPOCH};

use easel_core::{ErrorKind, ImageFormat, Keeper, OnUnknown, OptionValue, ParamNames, Size};

use super::{START, Studio, context, files, generation, png, request};
use crate::keep::sha256_hex;
use crate::last::LastImage;
use crate::metadata::to_millis;
use crate::{ImageName, StoredImage};

#[tokio::test]
async fn a_kept_image_reads_back_equal_under_both_names() {
    let studio = Studio::open().await;
    let picture = png("one");
    let kept = studio.keep_one(&picture).await;
    assert_eq!(kept.sha256, sha256_hex(picture.clone()).await.unwrap());
    assert_eq!(kept.name, format!("{START}_{}.png", &kept.sha256[..12]));
    for name in [kept.name.clone(), format!("{}.png", kept.sha256)] {
        let image = studio.find(&name).await.unwrap();
        let expected = StoredImage {
            sha256: kept.sha256.clone(),
            format: ImageFormat::Png,
            size: Size::new(8, 4).unwrap(),
            bytes: picture.len() as u64,
            created: UNIX_EPOCH + Duration::from_secs(START),
        };
        assert_eq!(image, expected);
        assert_eq!(studio.read(&name).await, picture);
    }
}

#[tokio::test]
async fn the_ending_of_a_name_belongs_to_it() {
    let studio = Studio::open().await;
    let kept = studio.keep_one(&png("one")).await;
    for name in [kept.name.replace(".png", ".jpg"), format!("{}.webp", kept.sha256)] {
        assert_eq!(studio.find(&name).await, None, "{name}");
    }
}

#[tokio::test]
async fn the_bytes_decide_the_format() {
    let studio = Studio::open().await;
    let kept = studio.keep(&["\u{0}".into(), png("one")]).await.unwrap_err();
    assert_eq!((kept.kind(), kept.message()), (ErrorKind::Upstream, "picture 1 is not a png, jpeg or webp file"));
    let webp = bytes::Bytes::from_static(b"RIFF\0\0\0\0WEBPcontent");
    let kept = studio.keep_one(&webp).await;
    assert!(kept.name.ends_with(".webp"), "{}", kept.name);
    assert_eq!(studio.find(&kept.name).await.unwrap().format, ImageFormat::Webp);
    assert_eq!(files(&studio.images()), [format!("{}.webp", kept.sha256)]);
}

#[tokio::test]
async fn a_range_is_read_exactly_or_refused() {
    let studio = Studio::open().await;
    let kept = studio.keep_one(&png("0123456789")).await;
    let image = studio.find(&kept.name).await.unwrap();
    let end = image.bytes;
    for (range, expected) in [(8..10, "01"), (end - 1..end, "9"), (end..end, ""), (8..end, "0123456789")] {
        assert_eq!(studio.store.read(&image, Some(range)).await.unwrap(), expected);
    }
    #[expect(clippy::reversed_empty_ranges, reason = "a caller may ask for one")]
    for range in [0..end + 1, end + 1..end + 2, 5..4, 0..u64::MAX] {
        let error = studio.store.read(&image, Some(range)).await.unwrap_err();
        assert_eq!((error.kind(), error.param()), (ErrorKind::InvalidRequest, Some("range")));
    }
}

#[tokio::test]
async fn identical_bytes_are_stored_once_under_two_names() {
    let studio = Studio::open().await;
    let first = studio.keep_one(&png("same")).await;
    let before = identity(&studio.file(&first));
    studio.later(1);
    let second = studio.keep_one(&png("same")).await;
    assert_eq!(second.name, format!("{}_{}.png", START + 1, &first.sha256[..12]));
    assert_eq!(files(&studio.images()), [format!("{}.png", first.sha256)]);
    assert_eq!(identity(&studio.file(&first)), before, "the file was written again");
    assert_eq!(studio.read(&first.name).await, studio.read(&second.name).await);
    assert_eq!([studio.count("image").await, studio.count("alias").await], [1, 2]);
    let created = studio.find(&second.name).await.unwrap().created;
    assert_eq!(created, UNIX_EPOCH + Duration::from_secs(START));
}

#[tokio::test]
async fn equal_pictures_of_one_second_share_a_name_and_keep_their_records() {
    let studio = Studio::open().await;
    let kept = studio.keep(&[png("same"), png("other"), png("same")]).await.unwrap();
    assert_eq!(kept[0], kept[2]);
    assert_ne!(kept[0].name, kept[1].name);
    assert_eq!(studio.keep_one(&png("same")).await, kept[0]);
    let counts = ["image", "alias", "generation", "picture"].map(|table| studio.count(table));
    let counts = futures_util::future::join_all(counts).await;
    assert_eq!(counts, [2, 2, 2, 4]);
}

#[tokio::test]
async fn what_is_known_about_a_generation_is_written_down() {
    let studio = Studio::open().await;
    let option = OptionValue { json: r#"{"clip":2}"#.to_owned(), on_unknown: OnUnknown::Refuse };
    let mut draft = (*request("a red circle")).clone();
    draft.negative_prompt = Some("blue".to_owned());
    draft.steps = Some(4);
    draft.guidance = Some(7.5);
    draft.options.insert("style".to_owned(), option);
    let request = draft.check(&ParamNames::OURS).unwrap();
    let kept = studio.store.keep(&context(), &request, &generation(&[png("one"), png("two")])).await.unwrap();

    type Row = (String, String, String, String, String, Option<String>, String, i64);
    let select = "SELECT request_id, principal, backend, model, prompt, negative_prompt, parameters, created_at_ms \
        FROM generation";
    let row: Row = sqlx::query_as(select).fetch_one(&studio.store.metadata.pool).await.unwrap();
    let text = |text: &str| text.to_owned();
    let parameters = r#"{"task":"text-to-image","count":1,"steps":4,"guidance":7.5,"options":{"style":{"clip":2}}}"#;
    let expected = (
        text("request-1"),
        text("local"),
        text("engine"),
        text("shapes"),
        text("a red circle"),
        Some(text("blue")),
        text(parameters),
        i64::try_from(START * 1000).unwrap(),
    );
    assert_eq!(row, expected);

    let select = "SELECT alias, seed, revised_prompt FROM picture ORDER BY position";
    let rows: Vec<(String, String, String)> =
        sqlx::query_as(select).fetch_all(&studio.store.metadata.pool).await.unwrap();
    let picture = |name: &String| (name.clone(), u64::MAX.to_string(), text("a very red circle"));
    assert_eq!(rows, [picture(&kept[0].name), picture(&kept[1].name)]);
}

#[tokio::test]
async fn a_reopened_store_finds_everything() {
    let studio = Studio::open().await;
    let one = studio.keep_one(&png("one")).await;
    let two = studio.keep_one(&png("two")).await;
    let studio = studio.reopen().await;
    assert_eq!(studio.read(&one.name).await, png("one"));
    assert_eq!(studio.read(&two.name).await, png("two"));
    assert_eq!(studio.keep_one(&png("one")).await, one);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_keeps_of_the_same_bytes_all_succeed() {
    let studio = Studio::open().await;
    let (same, own) = (png("same"), |index: usize| png(&format!("own {index}")));
    let keeps = (0..16).map(|index| {
        let pictures = [same.clone(), own(index)];
        let studio = &studio;
        async move { studio.keep(&pictures).await.unwrap() }
    });
    let kept = futures_util::future::join_all(keeps).await;
    for (index, kept) in kept.iter().enumerate() {
        assert_eq!(studio.read(&kept[0].name).await, same);
        assert_eq!(studio.read(&kept[1].name).await, own(index));
    }
    assert_eq!(files(&studio.images()).len(), 17);
    assert_eq!([studio.count("image").await, studio.count("generation").await], [17, 16]);
}

#[tokio::test]
async fn a_name_that_belongs_to_another_image_is_moved_on_a_second() {
    let studio = Studio::open().await;
    let picture = png("one");
    let sha256 = sha256_hex(picture.clone()).await.unwrap();
    take_names(&studio, &sha256, 3).await;
    let kept = studio.keep_one(&picture).await;
    assert_eq!(kept.name, format!("{}_{}.png", START + 3, &sha256[..12]));
    assert_eq!(studio.read(&kept.name).await, picture);
    assert_eq!(studio.keep_one(&picture).await, kept, "a second keeping takes the same name");
}

#[tokio::test]
async fn when_every_name_is_taken_nothing_is_named() {
    let studio = Studio::open().await;
    let picture = png("one");
    let sha256 = sha256_hex(picture.clone()).await.unwrap();
    take_names(&studio, &sha256, 16).await;
    let error = studio.keep(&[png("other"), picture]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert_eq!(error.message(), format!("no free name for image {sha256}: 16 names in a row belong to other images"));
    assert_eq!([studio.count("generation").await, studio.count("alias").await], [0, 16]);
}

/// Gives the first names that an image could have to another image with the same first twelve digits.
async fn take_names(studio: &Studio, sha256: &str, seconds: u64) {
    let other = format!("{}{}", &sha256[..12], "0".repeat(52));
    let pool = &studio.store.metadata.pool;
    sqlx::query("INSERT INTO image VALUES (?, 'png', 1, 1, 1, 0)").bind(&other).execute(pool).await.unwrap();
    for second in START..START + seconds {
        let name = format!("{second}_{}.png", &sha256[..12]);
        sqlx::query("INSERT INTO alias VALUES (?, ?, 0)").bind(name).bind(&other).execute(pool).await.unwrap();
    }
}

#[test]
fn only_names_of_images_are_read_as_names() {
    let hash = "0123456789abcdef".repeat(4);
    let prefix = &hash[..12];
    let good = [
        format!("1700000000_{prefix}.png"),
        format!("0_{prefix}.jpg"),
        format!("999999999999_{prefix}.webp"),
        format!("{hash}.png"),
        format!("{hash}.jpg"),
        format!("{hash}.webp"),
    ];
    for name in good {
        assert_eq!(name.parse::<ImageName>().unwrap().to_string(), name);
    }
    let bad = [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        ".png".to_owned(),
        "../easel.sqlite3".to_owned(),
        "writable-probe".to_owned(),
        "/etc/passwd".to_owned(),
        prefix.to_owned(),
        hash.clone(),
        format!("{prefix}.png"),
        format!("_{prefix}.png"),
        format!("1_{prefix}"),
        format!("1_{prefix}."),
        format!("1_{prefix}.gif"),
        format!("1_{prefix}.jpeg"),
        format!("1_{prefix}.PNG"),
        format!("1_{prefix}.png.png"),
        format!("1_{prefix}.png/"),
        format!("1_{prefix}.png\0"),
        format!("1_{prefix}.png\n"),
        format!("1_{prefix}.png#1"),
        format!(" 1_{prefix}.png"),
        format!("+1_{prefix}.png"),
        format!("-1_{prefix}.png"),
        format!("1_1_{prefix}.png"),
        format!("1234567890123_{prefix}.png"),
        format!("1_{}.png", &hash[..11]),
        format!("1_{}.png", &hash[..13]),
        format!("1_{}.png", prefix.to_uppercase()),
        format!("\u{663}_{prefix}.png"),
        format!("../1_{prefix}.png"),
        format!("..%2f1_{prefix}.png"),
        format!("%2e%2e/1_{prefix}.png"),
        format!("..\\1_{prefix}.png"),
        format!("1_{prefix}.png?x"),
        format!("{}.png", &hash[..63]),
        format!("{hash}0.png"),
        format!("{}.png", hash.to_uppercase()),
        format!("/{hash}.png"),
        format!("{hash}.png#1"),
    ];
    for name in bad {
        assert_eq!(name.parse::<ImageName>().unwrap_err().kind(), ErrorKind::NotFound, "{name:?}");
    }
}

#[test]
fn a_clock_before_1970_reads_as_1970() {
    assert_eq!(to_millis(UNIX_EPOCH - Duration::from_secs(1)), 0);
    assert_eq!(to_millis(UNIX_EPOCH + Duration::from_millis(1500)), 1500);
}

/// What changes when a file is written again.
fn identity(path: &std::path::Path) -> (u64, std::time::SystemTime) {
    let metadata = std::fs::metadata(path).unwrap();
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = 0;
    (inode, metadata.modified().unwrap())
}

#[tokio::test]
async fn the_last_picture_stands_in_a_file_of_its_own() {
    let mut studio = Studio::open().await;
    let path = studio.folder.path().join("deep/last.png");
    studio.store.last = Some(LastImage::at(path.clone()));
    for pictures in [vec![png("one")], vec![png("two"), png("three")], vec![png("one")]] {
        studio.keep(&pictures).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), *pictures.last().unwrap());
    }
    assert_eq!(files(path.parent().unwrap()), ["last.png"], "nothing half-written is left");

    studio.keep(&["no picture".into()]).await.unwrap_err();
    assert_eq!(std::fs::read(&path).unwrap(), *png("one"), "what failed changes nothing");
}

#[tokio::test]
async fn a_last_picture_that_cannot_be_saved_fails_no_request() {
    let mut studio = Studio::open().await;
    let path = studio.folder.path().join("last.png");
    std::fs::create_dir(&path).unwrap();
    studio.store.last = Some(LastImage::at(path.clone()));
    let kept = studio.keep_one(&png("one")).await;
    assert_eq!(studio.read(&kept.name).await, png("one"));
    assert!(path.is_dir() && !studio.folder.path().join("last.png.part").exists());
}
