//! Prices that depend on more than the model.

use crate::{Adapter, Context, Money, Request, Result};

/// An adapter that knows what a request would cost better than its models' price says.
///
/// Name it in the macro: `easel_sdk::adapter!(Plugin: Catalogue)`.
pub trait Catalogue: Adapter {
    /// What a request would cost at most, asked before it runs; `None` where that cannot be known. Has a few seconds.
    ///
    /// # Errors
    /// Any kind; the host answers the client with it.
    fn estimate(context: &Context, config: &Self::Config, request: &Request) -> Result<Option<Money>>;
}

#[cfg(target_arch = "wasm32")]
mod export {
    use super::Catalogue;
    use crate::adapter::Exported;
    use crate::bindings::adapter::easel::plugin::images::ImageRequest;
    use crate::bindings::adapter::easel::plugin::types::{CallContext, Money, PluginError};
    use crate::bindings::priced::exports::easel::plugin::catalogue::Guest;
    use crate::{Request, host};

    impl<T: Catalogue> Guest for Exported<T> {
        fn estimate(context: CallContext, request: &ImageRequest) -> Result<Option<Money>, PluginError> {
            let cost = T::estimate(&context.into(), &host::config()?, &Request::read(request))?;
            Ok(cost.map(Into::into))
        }
    }
}
