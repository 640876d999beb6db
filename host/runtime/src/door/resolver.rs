//! The resolver of the door's connections: every name is resolved here, once for each new connection, and the connection
//! goes to just the addresses that passed. Nothing between the check and the connection asks again.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::Reach;
use super::address::keep;

/// Where addresses come from.
pub(super) type Names = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// The machine's own.
pub(super) fn of_the_machine() -> Names {
    Arc::new(|host| Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.collect()) }))
}

/// Resolves the names of one client's connections.
pub(super) struct CheckedResolver {
    pub(super) names: Names,
    pub(super) reach: Reach,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (reach, host) = (self.reach, name.as_str().to_owned());
        let addresses = (self.names)(host.clone());
        Box::pin(async move { Ok(Box::new(keep(&host, addresses.await?, reach)?.into_iter()) as Addrs) })
    }
}
