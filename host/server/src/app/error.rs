//! Why a server does not start, for the person who started it.

use std::net::SocketAddr;

use easel_core::Error;

use crate::config::ConfigError;

/// Why the server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The config cannot be served.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Somebody else listens there.
    #[error("{0} is in use by another program")]
    InUse(SocketAddr),
    /// The address cannot be listened on.
    #[error("{address} cannot be listened on")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// A part of the house cannot be made.
    #[error(transparent)]
    Part(#[from] Error),
    /// A thread of ours ended that must not.
    #[error("the start was interrupted")]
    Interrupted(#[from] tokio::task::JoinError),
}

impl StartError {
    /// What to do about it, where we know.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => error.hint().map(str::to_owned),
            Self::InUse(address) => {
                let other = SocketAddr::new(address.ip(), address.port().checked_add(1).unwrap_or(7860));
                Some(format!("stop that program, or listen elsewhere: --listen {other}"))
            }
            Self::Part(error) => error.hint().map(str::to_owned),
            Self::Listen { .. } | Self::Interrupted(_) => None,
        }
    }
}
