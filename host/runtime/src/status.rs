//! How plugins stand, as their operator sees it. What changes with every call (figures, errors, calls that still run) is
//! read when somebody asks; the rest is of the moment when the loader last changed something.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::life::PluginState;
use crate::record::{PluginError, PluginFigures, Record};
use crate::vitals::Vitals;
use crate::{HostLimits, MissingGrant, PluginKind, PluginPermissions};

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
    /// The version that served before this one, where that was a higher one.
    pub downgraded_from: Option<String>,
    /// The build that lies there, where it is not the one that serves.
    pub newest: Option<BuildStatus>,
    /// The generations that can come back, the most recent first.
    pub earlier: Vec<BuildName>,
    /// Generations that were replaced and whose last calls go on.
    pub draining: Vec<DrainStatus>,
    /// The ids of an adapter's models.
    pub models: Vec<String>,
    /// Origins that it wants and the operator has not granted.
    pub ungranted: Vec<String>,
    /// What the build that lies there waits for.
    pub missing_grant: Option<MissingGrant>,
    /// What the build that serves wants and is given, or else the one that was tried last or is switched off; nothing while
    /// none was read.
    pub permissions: Option<PluginPermissions>,
    /// The names of the credentials that were supplied.
    pub credentials: Vec<String>,
    /// The environment variables that its manifest names.
    pub environment: Vec<VariableStatus>,
    /// The limits of its calls, where it serves.
    pub limits: Option<HostLimits>,
    /// The last things that went wrong, the newest first.
    pub errors: Vec<PluginError>,
    /// What its calls came to, by version, the newest version first.
    pub figures: Vec<(String, PluginFigures)>,
    /// How many generations came to serve, and how many were refused.
    pub loads: (u64, u64),
    /// When it came to stand so.
    pub since: SystemTime,
}

/// An environment variable that a manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariableStatus {
    /// Its name.
    pub name: String,
    /// What it sets: `config.KEY` or `credentials.NAME`.
    pub sets: String,
    /// Whether it does: it is set, and the operator granted its name.
    pub counts: bool,
}

/// The name of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildName {
    /// Its version.
    pub version: String,
    /// The SHA-256 of its component, in hexadecimal.
    pub digest: String,
}

/// A build that does not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildStatus {
    /// Its version, if its manifest could be read.
    pub version: Option<String>,
    /// Its state.
    pub state: PluginState,
    /// Why it does not serve.
    pub reason: Option<String>,
}

/// A generation whose last calls go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainStatus {
    /// The build.
    pub build: BuildName,
    /// The calls that run.
    pub calls: usize,
    /// When it was replaced.
    pub since: SystemTime,
    /// How long until its calls are ended.
    pub ends_in: Duration,
}

/// A place in the plugins folder as the registry holds it.
pub(crate) struct Place {
    /// What is of the moment when it was made.
    pub(crate) status: PluginStatus,
    pub(crate) record: Option<Arc<Record>>,
    pub(crate) draining: Vec<Draining>,
}

/// A generation that was replaced.
pub(crate) struct Draining {
    pub(crate) build: BuildName,
    pub(crate) since: SystemTime,
    pub(crate) until: Instant,
    pub(crate) vitals: Arc<Vitals>,
}

impl Place {
    /// How it stands now.
    pub(crate) fn now(&self) -> PluginStatus {
        let now = Instant::now();
        let drain = |drain: &Draining| DrainStatus {
            build: drain.build.clone(),
            calls: drain.vitals.running(),
            since: drain.since,
            ends_in: drain.until.saturating_duration_since(now),
        };
        let draining = self.draining.iter().map(drain).filter(|drain| drain.calls > 0);
        let record = self.record.as_deref();
        PluginStatus {
            draining: draining.collect(),
            errors: record.map(Record::errors).unwrap_or_default(),
            figures: record.map(Record::figures).unwrap_or_default(),
            loads: record.map(Record::loads).unwrap_or_default(),
            ..self.status.clone()
        }
    }
}
