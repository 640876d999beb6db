//! A transformer that looks at finished pictures too.

use crate::{Context, Error, Output, Picture, Request, Transformer};

/// A transformer that looks at the pictures of a request before they are kept and answered. Every call runs in a fresh
/// instance.
///
/// Name the implementing type in [`results!`](crate::results!), beside [`transformer!`](crate::transformer!). The
/// pictures are there only if the manifest says `images = true` under `[needs]`; otherwise there is none.
pub trait Results: Transformer {
    /// Decides about finished pictures. The request is the one that was done, with every choice filled in.
    fn on_result(context: &Context, config: &Self::Config, request: &Request, pictures: &[Picture]) -> ResultVerdict;
}

/// The decision about finished pictures.
#[derive(Debug)]
pub enum ResultVerdict {
    /// They go on as they are.
    Pass,
    /// These take their place, as many as there were; cost and quantities are added, notes are told.
    Replace(Output),
    /// The request fails with this, whatever was made.
    Reject(Error),
}

/// The export, made of [`Results`].
pub struct Exported<T>(std::marker::PhantomData<T>);

#[cfg(target_arch = "wasm32")]
mod export {
    use super::{Exported, ResultVerdict, Results};
    use crate::bindings::adapter::easel::plugin::images::{ImageRequest, ImageResult};
    use crate::bindings::adapter::easel::plugin::types::CallContext;
    use crate::bindings::results::exports::easel::plugin::transform_result::{Guest, ResultVerdict as RawVerdict};
    use crate::{Blob, Picture, Request, host};

    impl<T: Results> Guest for Exported<T> {
        fn on_result(context: CallContext, request: &ImageRequest, result: &ImageResult) -> RawVerdict {
            let config = match host::config() {
                Ok(config) => config,
                Err(error) => return RawVerdict::Reject(error.into()),
            };
            match T::on_result(&context.into(), &config, &Request::read(request), &pictures(result)) {
                ResultVerdict::Pass => RawVerdict::Pass,
                ResultVerdict::Replace(output) => RawVerdict::Replace(output.into()),
                ResultVerdict::Reject(error) => RawVerdict::Reject(error.into()),
            }
        }
    }

    fn pictures(result: &ImageResult) -> Vec<Picture> {
        let picture = |index| {
            let info = result.info(index)?;
            let blob = Blob::from_raw(result.image(index)?);
            Some(Picture { blob, seed: info.seed, revised_prompt: info.revised_prompt })
        };
        (0..result.count()).filter_map(picture).collect()
    }
}
