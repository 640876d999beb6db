//! An upstream that counts its connections, with TLS or without.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

/// What came: the head of a request, its body, and the number of its connection.
#[derive(Clone, Debug)]
pub(super) struct Came {
    pub(super) head: String,
    pub(super) body: String,
    pub(super) connection: usize,
}

/// What is answered: a status line with headers, and a body.
pub(super) type Script = Arc<dyn Fn(&Came) -> (String, String) + Send + Sync>;

/// The running upstream.
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    came: Arc<Mutex<Vec<Came>>>,
    handshakes: Arc<Mutex<Vec<HandshakeKind>>>,
    _task: AbortOnDropHandle<()>,
}

/// `right`, `other`, `expired` or `stranger`: what `certificates/make.sh` made.
pub(super) fn acceptor(certificate: &str) -> TlsAcceptor {
    let (certificate, key) = match certificate {
        "right" => (&include_bytes!("certificates/right.pem")[..], &include_bytes!("certificates/right.key")[..]),
        "other" => (&include_bytes!("certificates/other.pem")[..], &include_bytes!("certificates/other.key")[..]),
        "expired" => (&include_bytes!("certificates/expired.pem")[..], &include_bytes!("certificates/expired.key")[..]),
        _ => (&include_bytes!("certificates/stranger.pem")[..], &include_bytes!("certificates/stranger.key")[..]),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate).unwrap()],
            PrivateKeyDer::from_pem_slice(key).unwrap(),
        )
        .unwrap();
    Arc::new(config).into()
}

impl Upstream {
    pub(super) async fn start(tls: Option<&str>, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (came, handshakes) = (Arc::<Mutex<Vec<Came>>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let acceptor = tls.map(acceptor);
        let (seen, shaken) = (Arc::clone(&came), Arc::clone(&handshakes));
        let task = tokio::spawn(async move {
            let mut connections = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = connections.len();
                let (script, seen, shaken, acceptor) =
                    (Arc::clone(&script), Arc::clone(&seen), Arc::clone(&shaken), acceptor.clone());
                let serve = async move {
                    let Some(acceptor) = acceptor else { return serve(stream, number, &script, &seen).await };
                    if let Ok(stream) = acceptor.accept(stream).await {
                        shaken.lock().unwrap().extend(stream.get_ref().1.handshake_kind());
                        serve(stream, number, &script, &seen).await;
                    }
                };
                connections.push(AbortOnDropHandle::new(tokio::spawn(serve)));
            }
        });
        Self { address, came, handshakes, _task: AbortOnDropHandle::new(task) }
    }

    /// One that answers "hello".
    pub(super) async fn hello(tls: Option<&str>) -> Self {
        Self::start(tls, Arc::new(|_| ("200 OK".to_owned(), "hello".to_owned()))).await
    }

    pub(super) fn came(&self) -> Vec<Came> {
        self.came.lock().unwrap().clone()
    }

    /// How each TLS connection began.
    pub(super) fn handshakes(&self) -> Vec<HandshakeKind> {
        self.handshakes.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    connection: usize,
    script: &Script,
    seen: &Mutex<Vec<Came>>,
) {
    let mut bytes = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8(bytes.drain(..end).collect()).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        while bytes.len() < length {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let body = String::from_utf8(bytes.drain(..length).collect()).unwrap();
        let came = Came { head, body, connection };
        let (status, body) = script(&came);
        seen.lock().unwrap().push(came);
        // A script may declare more than it sends.
        let length = match status.contains("content-length: ") {
            true => String::new(),
            false => format!("content-length: {}\r\n", body.len()),
        };
        let answer = format!("HTTP/1.1 {status}\r\n{length}\r\n{body}");
        if stream.write_all(answer.as_bytes()).await.is_err() || status.contains("connection: close") {
            drop(stream.shutdown().await);
            return;
        }
    }
}
