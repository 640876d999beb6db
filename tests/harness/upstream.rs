//! The other side of an adapter: an HTTP server that writes down what it was asked and answers from a script.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// The most bytes of a request that the script sees.
const MAX_BODY: usize = 64 << 20;

/// One request that came.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: String,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Received {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the request's body is JSON")
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("headers are plain text"))
    }
}

/// What it answers.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    flow: Flow,
    gate: Option<Arc<Semaphore>>,
}

/// How a body comes.
#[derive(Clone, Copy, Debug)]
enum Flow {
    Whole,
    /// In parts of so many bytes.
    Parts(usize),
    /// Again and again, until nobody reads.
    Endless,
}

impl Reply {
    pub fn json(status: u16, body: &Value) -> Self {
        Self::bytes(status, "application/json", body.to_string().into())
    }

    pub fn bytes(status: u16, content_type: &str, body: Bytes) -> Self {
        Self { status, headers: vec![("content-type", content_type.to_owned())], body, flow: Flow::Whole, gate: None }
    }

    /// Adds a header.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// The body comes in parts of so many bytes.
    pub fn in_parts(mut self, bytes: usize) -> Self {
        self.flow = Flow::Parts(bytes);
        self
    }

    /// The body comes again and again, until nobody reads.
    pub fn endless(mut self) -> Self {
        self.flow = Flow::Endless;
        self
    }

    /// Comes only when the gate lets one more through.
    pub fn behind(mut self, gate: &Arc<Semaphore>) -> Self {
        self.gate = Some(Arc::clone(gate));
        self
    }
}

type Script = Box<dyn Fn(&Received) -> Reply + Send + Sync>;

struct Desk {
    script: Script,
    received: Mutex<Vec<Received>>,
}

/// The running server; it stops when this is dropped.
pub struct Upstream {
    address: SocketAddr,
    desk: Arc<Desk>,
    task: JoinHandle<()>,
}

impl Upstream {
    /// Starts it with its script.
    pub async fn start(script: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the system has a free port");
        let address = listener.local_addr().expect("a bound port has an address");
        let desk = Arc::new(Desk { script: Box::new(script), received: Mutex::default() });
        let routes = Router::new().fallback(answer).with_state(Arc::clone(&desk));
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.expect("serving does not end") });
        Self { address, desk, task }
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What came so far, in order.
    pub fn received(&self) -> Vec<Received> {
        self.desk.received.lock().expect("no test panics here").clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(desk): State<Arc<Desk>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY).await.unwrap_or_default();
    let path = head.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let received = Received { method: head.method.to_string(), path, headers: head.headers, body };
    desk.received.lock().expect("no test panics here").push(received.clone());
    let reply = (desk.script)(&received);
    if let Some(gate) = &reply.gate {
        gate.acquire().await.expect("tests never close a gate").forget();
    }
    let mut response = Response::builder().status(StatusCode::from_u16(reply.status).expect("a status"));
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    let body = match reply.flow {
        Flow::Whole => Body::from(reply.body),
        Flow::Parts(bytes) => {
            let parts: Vec<_> = reply.body.chunks(bytes).map(|part| Ok::<_, Infallible>(part.to_vec())).collect();
            Body::from_stream(futures_util::stream::iter(parts))
        }
        Flow::Endless => {
            Body::from_stream(futures_util::stream::repeat_with(move || Ok::<_, Infallible>(reply.body.clone())))
        }
    };
    response.body(body).expect("the script's headers are valid")
}
