//! The same for finished pictures.

use crate::bindings::easel::plugin::images::{ImageRequest, ImageResult, PictureInfo};
use crate::bindings::easel::plugin::pixels::{self, Fit};
use crate::bindings::easel::plugin::types::{CallContext, ErrorKind, Money, PluginError};
use crate::bindings::exports::easel::plugin::transform_result::{Guest, ResultVerdict};
use crate::{Hostile, blob, error, misbehave, told};

impl Guest for Hostile {
    fn on_result(_: CallContext, req: &ImageRequest, res: &ImageResult) -> ResultVerdict {
        match told(req).as_str() {
            "result-see" => ResultVerdict::Reject(error(ErrorKind::ContentPolicy, &seen(req, res))),
            "result-reject" => ResultVerdict::Reject(error(ErrorKind::ContentPolicy, "not to be seen")),
            "result-shrink" => shrink(res).map_or_else(ResultVerdict::Reject, ResultVerdict::Replace),
            "result-few" => ResultVerdict::Replace(ImageResult::new()),
            "result-text" => {
                let result = ImageResult::new();
                (0..res.count()).for_each(|_| result.add_image(blob("no picture"), &nothing()));
                ResultVerdict::Replace(result)
            }
            other => {
                misbehave(other.strip_prefix("result-").unwrap_or_default());
                ResultVerdict::Pass
            }
        }
    }
}

fn seen(req: &ImageRequest, res: &ImageResult) -> String {
    let picture = |index| {
        let head = res.image(index).and_then(|image| pixels::head(&image));
        let head = head.map(|head| format!("{} {}x{}", head.format, head.width, head.height));
        format!("{head:?} {:?}", res.info(index).map(|info| (info.seed, info.revised_prompt)))
    };
    let pictures: Vec<_> = (0..=res.count()).map(picture).collect();
    format!("{} {:?} {:?} {}", res.count(), req.prompt(), req.steps(), pictures.join(", "))
}

/// Every picture at half its size, at a price.
fn shrink(res: &ImageResult) -> Result<ImageResult, PluginError> {
    let result = ImageResult::new();
    for index in 0..res.count() {
        let image = res.image(index).ok_or_else(|| error(ErrorKind::Internal, "there is no picture to see"))?;
        let head = pixels::head(&image).ok_or_else(|| error(ErrorKind::Internal, "that is no picture"))?;
        let small = pixels::resize(&image, head.width / 2, head.height / 2, Fit::Exact)?;
        result.add_image(small, &res.info(index).unwrap_or_else(nothing));
    }
    result.set_cost(&Money { micros: 500, currency: "USD".to_owned() });
    result.add_note(Some("size"), "shrunk");
    Ok(result)
}

fn nothing() -> PictureInfo {
    PictureInfo { seed: None, revised_prompt: None }
}
