//! Kept images over HTTP: names, tags, ranges.

use axum::http::Method;
use easel_core::{ImageFormat, UnknownModel};

use super::house::{Ask, Disk, House, picture, settings};
use crate::http::{ImageAccess, Settings};

const SEED: u64 = 7;

async fn kept(house: &House, format: &str) -> String {
    let answer = house.generate(&format!(r#"{{"prompt":"p","seed":{SEED},"output_format":"{format}"}}"#)).await;
    answer.json()["data"][0]["url"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_kept_image_comes_back_as_it_was_made() {
    let house = House::new().await;
    for (format, extension) in [(ImageFormat::Png, ".png"), (ImageFormat::Jpeg, ".jpg"), (ImageFormat::Webp, ".webp")] {
        let url = kept(&house, format.name()).await;
        assert!(url.starts_with("/ui/images/") && url.ends_with(extension), "{url}");
        let answer = house.ask(Ask::get(&url)).await;
        assert_eq!((answer.status.as_u16(), &answer.bytes), (200, &picture(format, SEED)));
        assert_eq!(answer.header("content-type"), format.media_type());
        assert_eq!(answer.header("cache-control"), "public, max-age=31536000, immutable");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("content-security-policy"), "default-src 'none'; sandbox");
        let tag = answer.header("etag").trim_matches('"');
        assert!(tag.len() == 64 && url.contains(&format!("_{}.", &tag[..12])), "{tag} {url}");
        let head = house.ask(Ask::new(Method::HEAD, &url)).await;
        assert_eq!((head.status.as_u16(), head.bytes.len()), (200, 0));
        assert_eq!(head.header("content-length"), answer.bytes.len().to_string());
    }
}

#[tokio::test]
async fn private_images_are_not_for_shared_caches() {
    let settings = Settings { image_access: ImageAccess::Keyed, ..settings() };
    let house = House::with(settings, UnknownModel::UseDefault, Disk::Good).await;
    let url = kept(&house, "png").await;
    assert_eq!(house.ask(Ask::get(&url)).await.header("cache-control"), "private, max-age=31536000, immutable");
}

#[tokio::test]
async fn a_caller_who_has_the_image_is_told_so() {
    let house = House::new().await;
    let url = kept(&house, "png").await;
    let tag = house.ask(Ask::get(&url)).await.header("etag").to_owned();
    let weak = format!("W/{tag}");
    let several = format!("\"a\", {tag}");
    for (given, status) in [(tag.as_str(), 304), (&weak, 304), (&several, 304), ("*", 304), ("\"other\"", 200)] {
        let answer = house.ask(Ask::get(&url).header("if-none-match", given)).await;
        assert_eq!(answer.status, status, "{given}");
        assert_eq!(answer.header("etag"), tag);
        assert_eq!(answer.bytes.is_empty(), status == 304);
    }
}

#[tokio::test]
async fn ranges_are_cut_as_the_standard_says() {
    let house = House::new().await;
    let url = kept(&house, "png").await;
    let whole = picture(ImageFormat::Png, SEED);
    let length = whole.len();
    let end = length - 1;
    let rows = [
        ("bytes=0-3", 206, 0, 4),
        ("bytes=4-", 206, 4, length),
        ("bytes=-5", 206, length - 5, length),
        ("bytes=-99999", 206, 0, length),
        ("bytes=10-99999", 206, 10, length),
        (&format!("bytes={end}-{end}"), 206, end, length),
        (&format!("bytes={length}-"), 416, 0, 0),
        ("bytes=99999-100000", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
        ("bytes=0-1,4-5", 200, 0, length),
        ("bytes=5-4", 200, 0, length),
        ("bytes=", 200, 0, length),
        ("bytes=-", 200, 0, length),
        ("bytes=a-b", 200, 0, length),
        ("bytes=0-b", 200, 0, length),
        ("bytes=+1-2", 200, 0, length),
        ("bytes=99999999999999999999-", 200, 0, length),
        ("lines=0-3", 200, 0, length),
    ];
    for (range, status, first, past) in rows {
        let answer = house.ask(Ask::get(&url).header("range", range)).await;
        assert_eq!(answer.status, status, "{range}");
        assert_eq!(answer.bytes, whole.slice(first..past), "{range}");
        let told = match status {
            206 => format!("bytes {first}-{}/{length}", past - 1),
            416 => format!("bytes */{length}"),
            _ => String::new(),
        };
        assert_eq!(answer.header("content-range"), told, "{range}");
    }
    let tag = house.ask(Ask::get(&url)).await.header("etag").to_owned();
    for (condition, status) in [(tag.as_str(), 206), ("\"other\"", 200)] {
        let answer = house.ask(Ask::get(&url).header("range", "bytes=0-3").header("if-range", condition)).await;
        assert_eq!(answer.status, status, "{condition}");
    }
}

#[tokio::test]
async fn no_path_of_the_outside_reaches_the_disk() {
    let house = House::new().await;
    let url = kept(&house, "png").await;
    let name = url.rsplit('/').next().unwrap();
    let rows = [
        "../file".to_owned(),
        "../../../../etc/passwd".to_owned(),
        "%2e%2e/%2e%2e/etc/passwd".to_owned(),
        "..%2f..%2fetc%2fpasswd".to_owned(),
        "%2fetc%2fpasswd".to_owned(),
        "/etc/passwd".to_owned(),
        "..\\..\\file".to_owned(),
        "..%5c..%5cfile".to_owned(),
        format!("{name}%00"),
        format!("%00{name}"),
        format!("{name}%00.png"),
        format!("./{name}"),
        format!("x/../{name}"),
        format!("{name}/"),
        format!("{name}/.."),
        format!("%20{name}"),
        name.to_uppercase(),
        "%ff%fe".to_owned(),
        "easel.db".to_owned(),
        "1_0123456789ab.svg".to_owned(),
        "1_0123456789ab.png".to_owned(),
    ];
    for row in rows {
        let answer = house.ask(Ask::get(&format!("/ui/images/{row}"))).await;
        assert_eq!(answer.status, 404, "{row}");
        assert_eq!(answer.code(), "not_found", "{row}");
    }
}
