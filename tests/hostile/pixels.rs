//! What plugins have the host do to pictures: that it is done, and that no picture and no number of them is too much.

use easel_core::ErrorKind;

use super::{Host, generate};

#[tokio::test]
async fn pictures_are_read_resized_converted_and_made_masks_of() {
    let host = Host::new().await;
    let rows = [
        ("pixels head tiny", "png 1x1 image/png"),
        ("pixels head text", "no picture"),
        ("pixels head 50000x50000", "png 50000x50000 image/png"),
        ("pixels resize tiny 64 32", "png 64x32 image/png"),
        ("pixels resize tiny 64 32 contain", "png 32x32 image/png"),
        ("pixels resize tiny 64 32 cover", "png 64x32 image/png"),
        ("pixels convert tiny jpeg 30", "jpeg 1x1 image/jpeg"),
        ("pixels convert tiny webp", "webp 1x1 image/webp"),
        ("pixels mask tiny", "png 1x1 image/png true"),
        ("pixels hole tiny", "png 1x1 image/png"),
    ];
    for (prompt, expected) in rows {
        assert_eq!(host.answer(prompt).await, expected, "{prompt}");
    }
}

#[tokio::test]
async fn picture_that_claims_more_pixels_than_one_may_have_is_never_decoded() {
    let host = Host::new().await;
    let whats = [
        "resize 50000x50000 8 8",
        "convert 50000x50000 jpeg",
        "mask 16384x16384",
        "hole 16384x16384",
        "resize tiny 16384 16384",
    ];
    for what in whats {
        let error = host.fault(&format!("pixels {what}")).await;
        assert_eq!(error.kind(), ErrorKind::PluginFault, "{what}: {error}");
        assert!(error.message().contains("more than 33554432"), "{what}: {error}");
    }
}

#[tokio::test]
async fn what_is_no_picture_or_no_size_is_an_error_value() {
    let host = Host::new().await;
    let rows = [
        ("pixels resize text 8 8", ErrorKind::Upstream, "the bytes are no picture: it is neither PNG"),
        // A head without a body.
        ("pixels convert 4000x4000 jpeg", ErrorKind::Upstream, "the bytes are no picture"),
        ("pixels hole text", ErrorKind::Upstream, "the bytes are no picture: it is neither PNG"),
        ("pixels resize tiny 0 8", ErrorKind::InvalidRequest, "cannot become 0x8; a side is 1 to 16384"),
        ("pixels resize tiny 8 70000", ErrorKind::InvalidRequest, "cannot become 8x70000"),
        ("pixels convert tiny gif", ErrorKind::InvalidRequest, "cannot become \"gif\"; it is png, jpeg or webp"),
        ("pixels convert tiny jpeg 101", ErrorKind::InvalidRequest, "a quality is 0 to 100, not 101"),
    ];
    for (prompt, kind, expected) in rows {
        let error = host.fault(prompt).await;
        assert_eq!(error.kind(), kind, "{prompt}: {error}");
        assert!(error.message().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn work_on_pictures_is_bounded_for_each_call() {
    let host = Host::limited(|limits| limits.pixel_work = 100_000).await;
    let error = host.fault("pixels flood tiny 100 100").await;
    assert_eq!(error.message(), "a call may have at most 100000 pixels worked on");
}

#[tokio::test]
async fn pictures_that_were_made_count_as_blobs() {
    let host = Host::limited(|limits| limits.blob_bytes = 10_000).await;
    // Given back, they make room.
    host.answer("pixels resize tiny 100 100").await;
    let error = host.fault("pixels hoard tiny 100 100").await;
    assert_eq!(error.message(), "a call may hold at most 10000 bytes in blobs");
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_go_on_while_pictures_are_worked_on() {
    let host = Host::limited(|limits| {
        limits.pixel_workers = 1;
        limits.calls = 8;
    })
    .await;
    let backend = host.backend();
    let heavy = (0..4).map(|_| {
        let backend = std::sync::Arc::clone(&backend);
        tokio::spawn(async move { generate(&*backend, easel_core::Draft::new("pixels resize tiny 2000 2000")).await })
    });
    let heavy: Vec<_> = heavy.collect();
    assert_eq!(host.answer("count").await, "1");
    for call in heavy {
        call.await.unwrap().unwrap();
    }
}
