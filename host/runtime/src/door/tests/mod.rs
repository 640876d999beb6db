//! The door with upstreams, names and certificates of a test's own. What plugins see of it is tested in `tests/hostile/`;
//! here is what needs TLS, or names that change their addresses.

mod connections;
mod tls;
mod tokens;
mod upstream;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http::{HeaderMap, Method};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::runtime::Handle;
use url::Url;

use super::resolver::Names;
use super::{Accounts, Body, Credentials, Door, DoorError, Grant, Incoming, Network, Outgoing, Pieces, Vaults, Visits};
use crate::manifest::Manifest;
use crate::{HostLimits, PluginSettings, Secret};

/// Names whose addresses a test sets.
#[derive(Clone, Default)]
struct Script {
    addresses: Arc<Mutex<Vec<SocketAddr>>>,
    asked: Arc<AtomicUsize>,
}

impl Script {
    fn leads_to(&self, addresses: impl IntoIterator<Item = SocketAddr>) {
        *self.addresses.lock().unwrap() = addresses.into_iter().collect();
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn names(&self) -> Names {
        let script = self.clone();
        Arc::new(move |_| {
            script.asked.fetch_add(1, Ordering::Relaxed);
            let addresses = script.addresses.lock().unwrap().clone();
            Box::pin(async move { Ok(addresses) })
        })
    }

    fn network(&self) -> Network {
        Network::scripted(roots(), self.names())
    }
}

/// The tests' own authority.
fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let authority = include_bytes!("certificates/ca.pem");
    roots.add(CertificateDer::from_pem_slice(authority).unwrap()).unwrap();
    roots
}

const HEAD: &str = "[plugin]\nid = \"p\"\nversion = \"0.1.0\"\nkind = \"adapter\"\ncontract = \"0.3\"\n";

/// A door of a plugin that the operator lets reach these origins, with a manifest that ends so.
fn door(network: &Network, origins: &[&str], tail: &str, credentials: &[(&str, &str)]) -> Arc<Door> {
    limited_door(network, origins, (tail, credentials), HostLimits::default())
}

fn limited_door(
    network: &Network,
    origins: &[&str],
    (tail, credentials): (&str, &[(&str, &str)]),
    limits: HostLimits,
) -> Arc<Door> {
    let manifest = Manifest::parse(&format!("{HEAD}{tail}")).unwrap();
    let credentials: BTreeMap<_, _> =
        credentials.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect();
    let settings = PluginSettings {
        origins: origins.iter().map(|&origin| origin.to_owned()).collect(),
        credentials,
        ..PluginSettings::default()
    };
    let vaults = Vaults::default();
    let settings = vaults.take([("p".to_owned(), settings)].into()).remove("p").unwrap();
    let grant = Grant::new(&manifest, &settings).unwrap();
    let credentials = Credentials::new(&manifest, &settings, vaults.of("p"), Accounts::KeyFiles).unwrap();
    Arc::new(Door::new((grant, credentials), limits, network, Handle::current()).unwrap())
}

/// What is reached in the operator's own network.
const OPEN: &str = "[network]\norigins = [\"operator\"]\n";

fn get(url: &str, credential: Option<&str>) -> Outgoing {
    Outgoing {
        method: Method::GET,
        url: Url::parse(url).unwrap(),
        headers: HeaderMap::new(),
        body: Body::Pieces(Pieces::default()),
        credential: credential.map(str::to_owned),
        first_byte: None,
        total: None,
    }
}

async fn send(door: &Arc<Door>, outgoing: Outgoing) -> Result<Incoming, DoorError> {
    door.send(&Arc::new(Visits::new("test", None, Arc::default())), outgoing).await
}

/// The body of the answer to a GET.
async fn body(door: &Arc<Door>, url: &str) -> Result<String, DoorError> {
    let mut incoming = send(door, get(url, None)).await?;
    let mut body = Vec::new();
    while let Some(part) = incoming.chunk(door).await? {
        body.extend_from_slice(&part);
    }
    Ok(String::from_utf8(body).unwrap())
}
