//! An upstream that speaks HTTP/2 frame by frame (RFC 9113), for what no well-behaved one says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::upstream::acceptor;
use super::{OPEN, Script, body, door};
use crate::door::DoorError;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Answers each request with a frame; tells how many came.
struct Frames {
    address: SocketAddr,
    came: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Frames {
    async fn answering(answer: fn(u32) -> Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, came) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
        let mut config = rustls::ServerConfig::clone(acceptor("right").config());
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (acceptor, seen) = (TlsAcceptor::from(Arc::new(config)), Arc::clone(&came));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(stream).await {
                    // Whoever asked has gone.
                    drop(serve(stream, answer, &seen).await);
                }
            }
        });
        Self { address, came, _task: AbortOnDropHandle::new(task) }
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: fn(u32) -> Vec<u8>,
    came: &AtomicUsize,
) -> std::io::Result<()> {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload).await?;
        let number = u32::from_be_bytes(head[5..].try_into().expect("four bytes are left"));
        match kind {
            SETTINGS if flags == 0 => stream.write_all(&frame(SETTINGS, 1, 0, &[])).await?,
            HEADERS => {
                came.fetch_add(1, Ordering::Relaxed);
                stream.write_all(&answer(number)).await?;
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn request_that_an_upstream_turns_away_is_not_sent_again() {
    // REFUSED_STREAM: it was not looked at, so others would try once more.
    let upstream = Frames::answering(|stream| frame(RST_STREAM, 0, stream, &7_u32.to_be_bytes())).await;
    let script = Script::default();
    script.leads_to([upstream.address]);
    let origin = format!("https://api.example.com:{}", upstream.address.port());
    let door = door(&script.network(), &[&origin], OPEN, &[]);
    let asked = tokio::time::timeout(Duration::from_secs(30), body(&door, &origin));
    let error = asked.await.expect("the stream ends").unwrap_err();
    assert!(matches!(&error, DoorError::Broken { .. }), "{error}");
    assert_eq!(upstream.came.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn words_with_which_an_upstream_ends_a_connection_are_scrubbed() {
    let last_words = |_| {
        // It looked at no stream, and it gives PROTOCOL_ERROR as its reason.
        let (last_stream, reason) = (0_u32.to_be_bytes(), 1_u32.to_be_bytes());
        frame(GOAWAY, 0, 0, &[&last_stream[..], &reason, b"I do not like sesame-open"].concat())
    };
    let upstream = Frames::answering(last_words).await;
    let script = Script::default();
    script.leads_to([upstream.address]);
    let origin = format!("https://api.example.com:{}", upstream.address.port());
    let keyed = format!("{OPEN}[[credential]]\nname = \"key\"\nheader = \"x-key\"\n");
    let door = door(&script.network(), &[&origin], &keyed, &[("key", "sesame-open")]);
    let asked = tokio::time::timeout(Duration::from_secs(30), body(&door, &origin));
    let text = asked.await.expect("the connection ends").unwrap_err().to_string();
    assert!(text.contains("I do not like ***********"), "{text}");
}
