//! What serves now, and how every plugin stands. The loader writes it, one whole view at a time; whoever asks gets the
//! view of that moment.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use easel_core::{Backend, Transformer};

use crate::{MissingGrant, PluginKind};

/// How one plugin stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginStatus {
    /// Its id; the name of its file or folder while the manifest could not be read.
    pub id: String,
    /// The component file.
    pub path: PathBuf,
    /// What it is, once its manifest was read.
    pub kind: Option<PluginKind>,
    /// The version that serves, or else the one that was last read.
    pub version: Option<String>,
    /// The SHA-256 of the component that serves, in hexadecimal.
    pub digest: Option<String>,
    /// Whether it serves.
    pub state: PluginState,
    /// Why it does not serve; where it does, why the file that lies there now does not.
    pub reason: Option<String>,
    /// The ids of an adapter's models.
    pub models: Vec<String>,
    /// Origins that it wants and the operator has not granted.
    pub ungranted: Vec<String>,
    /// What the build that lies there waits for.
    pub missing_grant: Option<MissingGrant>,
    /// When it came to stand so.
    pub since: SystemTime,
}

/// Whether a plugin serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PluginState {
    /// It is being read or compiled.
    Loading,
    /// It wants what the operator has not decided: [`PluginStatus::missing_grant`] says what.
    AwaitingGrant,
    /// It serves.
    Ready,
    /// It lacks something that only the operator can give, such as a credential or an address.
    NotReady,
    /// It was refused; the reason says why.
    Failed,
    /// The operator has switched it off.
    Disabled,
}

impl PluginState {
    /// The name in lists.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::AwaitingGrant => "awaiting-grant",
            Self::Ready => "ready",
            Self::NotReady => "not_ready",
            Self::Failed => "failed",
            Self::Disabled => "disabled",
        }
    }
}

/// One moment.
#[derive(Default)]
pub(crate) struct View {
    /// By id.
    pub(crate) backends: Vec<Arc<dyn Backend>>,
    /// By id.
    pub(crate) transformers: Vec<Arc<dyn Transformer>>,
    /// By path.
    pub(crate) status: Vec<PluginStatus>,
}

/// The cell with the current view.
#[derive(Default)]
pub(crate) struct Registry(RwLock<Arc<View>>);

impl Registry {
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn swap(&self, next: View) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }
}
