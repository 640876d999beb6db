//! The small values: how they are read, written and bounded.

use std::sync::Arc;

use crate::{Backend, ImageFormat, ModelInfo, Money, RequestId, Secret, Size, TraceParent};

#[test]
fn sizes_are_read_as_two_plain_numbers() {
    let good = [("1x1", 1, 1), ("1024x768", 1_024, 768), ("0064x64", 64, 64), ("16384x16384", 16_384, 16_384)];
    for (text, width, height) in good {
        let size: Size = text.parse().unwrap_or_else(|()| panic!("{text} is a size"));
        assert_eq!((size.width(), size.height()), (width, height), "{text}");
    }
    let bad = [
        "",
        "x",
        "1",
        "1x",
        "x1",
        "0x1",
        "1x0",
        "16385x1",
        "1x16385",
        "-1x1",
        "1x-1",
        "+1x1",
        "1.0x1",
        " 1x1",
        "1x1 ",
        "1 x 1",
        "1X1",
        "1×1",
        "1x1x1",
        "axb",
        "0x10x1",
        "99999999999999999999x1",
        "٣x٣",
        "auto",
    ];
    for text in bad {
        assert_eq!(text.parse::<Size>(), Err(()), "{text:?} is no size");
    }
}

#[test]
fn sizes_have_bounds_and_write_themselves_as_they_are_read() {
    for (width, height, is_size) in
        [(1, 1, true), (Size::MAX_SIDE, 1, true), (0, 1, false), (1, 0, false), (Size::MAX_SIDE + 1, 1, false)]
    {
        assert_eq!(Size::new(width, height).is_some(), is_size, "{width}x{height}");
    }
    let largest = Size::new(Size::MAX_SIDE, Size::MAX_SIDE).unwrap();
    assert_eq!(largest.pixels(), 268_435_456);
    assert_eq!(largest.to_string().parse(), Ok(largest));
}

#[test]
fn formats_are_read_by_name_and_recognised_by_their_first_bytes() {
    for format in ImageFormat::ALL {
        assert_eq!(format.name().parse(), Ok(format));
        assert_eq!(format.extension().parse(), Ok(format));
        assert_eq!(format.media_type(), format!("image/{format}"));
    }
    for text in ["", "PNG", "gif", "svg", "image/png", "png "] {
        assert_eq!(text.parse::<ImageFormat>(), Err(()), "{text:?}");
    }
    let rows: [(&[u8], Option<ImageFormat>); 7] = [
        (b"\x89PNG\r\n\x1a\nrest", Some(ImageFormat::Png)),
        (b"\x89PNG\r\n\x1a", None),
        (b"\xff\xd8\xff\xe0", Some(ImageFormat::Jpeg)),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", Some(ImageFormat::Webp)),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", None),
        (b"GIF89a", None),
        (b"", None),
    ];
    for (bytes, format) in rows {
        assert_eq!(ImageFormat::sniff(bytes), format, "{bytes:?}");
    }
}

#[test]
fn request_ids_are_plain_and_short() {
    for text in ["a", "req_1-2.3:4/5", &"x".repeat(128)] {
        let id = RequestId::new(text).unwrap_or_else(|| panic!("{text} is plain"));
        assert_eq!((id.as_str(), id.to_string()), (text, text.to_owned()));
    }
    for text in ["", " ", "a b", "a\nb", "a\r\nx-injected: 1", "ä", "a\0", "\u{7f}", &"x".repeat(129)] {
        assert_eq!(RequestId::new(text), None, "{text:?}");
    }
}

#[test]
fn trace_parents_are_what_the_standard_calls_valid() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const PARENT: &str = "b7ad6b7169203331";
    let valid = [
        format!("00-{TRACE}-{PARENT}-01"),
        format!("00-{TRACE}-{PARENT}-00"),
        format!("cc-{TRACE}-{PARENT}-01"),
        format!("cc-{TRACE}-{PARENT}-01-what-comes-later"),
    ];
    for text in valid {
        let parent = TraceParent::new(&text).unwrap_or_else(|| panic!("{text} is valid"));
        assert_eq!((parent.as_str(), parent.to_string()), (text.as_str(), text.clone()));
    }
    let invalid = [
        String::new(),
        "-".to_owned(),
        "é".repeat(55),
        format!("00-{TRACE}-{PARENT}"),
        format!("00-{TRACE}-{PARENT}-1"),
        format!("00-{TRACE}-{PARENT}-01-more"),
        format!("00-{TRACE}-{PARENT}-01 "),
        format!("ff-{TRACE}-{PARENT}-01"),
        format!("cc-{TRACE}-{PARENT}-01x"),
        format!("cc-{TRACE}-{PARENT}-01-a\r\nx-injected: 1"),
        format!("cc-{TRACE}-{PARENT}-01-{}", "x".repeat(256)),
        format!("00-{}-{PARENT}-01", "0".repeat(32)),
        format!("00-{TRACE}-{}-01", "0".repeat(16)),
        format!("00-{}-{PARENT}-01", TRACE.to_uppercase()),
        format!("00_{TRACE}_{PARENT}_01"),
    ];
    for text in invalid {
        assert_eq!(TraceParent::new(&text), None, "{text:?}");
    }
}

#[test]
fn money_is_written_exactly() {
    for (micros, text) in [(0, "0.000000 USD"), (39_000, "0.039000 USD"), (12_000_001, "12.000001 USD")] {
        assert_eq!(Money { micros, currency: "USD".to_owned() }.to_string(), text);
    }
}

#[tokio::test]
async fn backend_that_knows_no_better_estimates_by_its_models_price() {
    let (price, dollar) = (Money { micros: 40_000, currency: "USD".to_owned() }, "USD".to_owned());
    let free = super::fakes::model("brush");
    let priced = ModelInfo { price: Some(price), ..free.clone() };
    let dear = ModelInfo { price: Some(Money { micros: u64::MAX, currency: dollar.clone() }), ..free.clone() };
    let request = super::fakes::checked(crate::Draft { count: 3, ..crate::Draft::new("a fox") });
    let backend = super::fakes::FakeBackend::new("studio", &[]);
    for (model, micros) in [(free, None), (priced, Some(120_000)), (dear, Some(u64::MAX))] {
        let estimate = backend.estimate(&super::fakes::context(), &request, &Arc::new(model)).await.unwrap();
        assert_eq!(estimate, micros.map(|micros| Money { micros, currency: dollar.clone() }));
    }
}

#[test]
fn pictures_are_not_written_into_logs() {
    let image = super::fakes::made(77).image;
    assert_eq!(format!("{image:?}"), "Image(png, 1x1, 1 bytes)");
}

#[test]
fn secret_is_redacted_in_every_format_and_given_out_only_when_asked() {
    let secret = Secret::new("sk-very-secret");
    assert_eq!(format!("{secret} {secret:?} {secret:#?}"), "[redacted] [redacted] [redacted]");
    assert_eq!(format!("{secret:>40} {:?}", Some(&secret)), "[redacted] Some([redacted])");
    assert_eq!(secret.expose(), "sk-very-secret");
}
