//! How long the server takes to start, how much memory it holds while idle, and how soon it has a first picture.
//!
//! `cargo run --example bench`
//!
//! It starts itself as the server: with arguments it is the `easel` program, without any it measures. Each figure is the
//! median of several starts, with empty folders; the files are in the page cache after the first. It prints figures and
//! judges nothing.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const STARTS: usize = 7;
/// From ready to idle: what starts beside the first backend has started by then.
const SETTLING: Duration = Duration::from_millis(500);
/// How long a server may take to be ready or to answer before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(120);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    if std::env::args().len() > 1 {
        return easel::cli::main();
    }
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<()> {
    let stub = starts("stub", |server| server.rss_kib())?;
    println!("start to ready, stub        {:>8.1} ms", stub.ready_ms);
    println!("idle memory, stub           {:>8.1} MB", stub.other * 1024.0 / 1e6);
    let demo = starts("engine", |server| server.rss_kib())?;
    println!("start to ready, demo model  {:>8.1} ms", demo.ready_ms);
    println!("idle memory, demo model     {:>8.1} MB", demo.other * 1024.0 / 1e6);
    let picture = starts("engine", Server::first_picture)?;
    println!("start to first picture      {:>8.1} ms", picture.other);
    Ok(())
}

struct Medians {
    ready_ms: f64,
    other: f64,
}

/// Starts the server several times and measures something once it is ready.
fn starts(mode: &str, other: impl Fn(&mut Server) -> Result<f64>) -> Result<Medians> {
    let (mut ready, mut others) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let mut server = Server::start(mode)?;
        ready.push(server.until_ready()?.as_secs_f64() * 1e3);
        others.push(other(&mut server)?);
    }
    Ok(Medians { ready_ms: median(ready), other: median(others) })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A server in a folder of its own; both end with it.
struct Server {
    child: Child,
    address: SocketAddr,
    begun: Instant,
    folder: PathBuf,
}

impl Server {
    fn start(mode: &str) -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let folder = std::env::temp_dir().join(format!("easel-bench-{}-{}", std::process::id(), address.port()));
        std::fs::create_dir_all(&folder)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", "--mode", mode, "--listen", &address.to_string()]).current_dir(&folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let begun = Instant::now();
        Ok(Self { child: command.spawn()?, address, begun, folder })
    }

    fn until_ready(&mut self) -> Result<Duration> {
        while self.begun.elapsed() < PATIENCE {
            if let Ok(answer) = self.ask("GET", "/readyz", "")
                && answer.starts_with("HTTP/1.1 200")
            {
                return Ok(self.begun.elapsed());
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("the server ended with {status}").into());
            }
            sleep(Duration::from_millis(1));
        }
        Err("the server did not become ready".into())
    }

    /// Milliseconds from the start to a picture with the demo model's own size and steps.
    fn first_picture(&mut self) -> Result<f64> {
        let answer = self.ask("POST", "/v1/images/generations", r#"{"prompt": "a red circle"}"#)?;
        match answer.starts_with("HTTP/1.1 200") {
            true => Ok(self.begun.elapsed().as_secs_f64() * 1e3),
            false => Err(format!("no picture: {answer}").into()),
        }
    }

    fn rss_kib(&mut self) -> Result<f64> {
        sleep(SETTLING);
        let status = std::fs::read_to_string(Path::new("/proc").join(self.child.id().to_string()).join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("the system tells no memory")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let (host, length) = (self.address, body.len());
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended, and its folder may be gone.
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_dir_all(&self.folder));
    }
}
