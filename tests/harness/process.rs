//! The server as a program of its own: for signals, ports, exit codes and the command line.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Client, PATIENCE, until};

/// A program that runs. It is killed when this is dropped.
pub struct Process {
    child: Child,
    output: Lines,
    log: Lines,
}

/// What a program wrote until it ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub log: String,
}

impl Process {
    /// Starts the program in a folder. Of the surroundings of the test it gets the path to programs, and no more.
    pub fn start(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_easel-under-test"));
        command.args(arguments).current_dir(folder).env_clear().stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.envs(environment.iter().copied());
        let mut child = command.spawn().expect("the program is built with the tests");
        let output = Lines::read(child.stdout.take().expect("stdout is piped"));
        let log = Lines::read(child.stderr.take().expect("stderr is piped"));
        Self { child, output, log }
    }

    /// Runs the program to its end.
    pub fn run(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
        Self::start(folder, arguments, environment).wait()
    }

    /// What it wrote to standard error so far.
    pub fn log(&self) -> String {
        self.log.so_far()
    }

    /// Waits until it listens.
    pub async fn listening(&self) -> Client {
        until("the program listens", async || self.address().is_some()).await;
        Client::new(self.address().expect("just found"))
    }

    /// Waits until it listens and is ready.
    pub async fn client(&self) -> Client {
        let client = self.listening().await;
        until("the program is ready", async || client.try_status("/readyz").await == Some(200)).await;
        client
    }

    fn address(&self) -> Option<SocketAddr> {
        let text = self.log();
        let address = text.lines().find_map(|line| line.split_once("listening on http://"))?.1;
        address.split(|c: char| c.is_whitespace() || c == '"').next()?.parse().ok()
    }

    /// The memory that it has in use.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("the system tells it");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("it is a number")
    }

    /// Sends a signal by its name, as in `TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.expect("there is a kill command").success());
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                break status;
            }
            assert!(Instant::now() < deadline, "the program does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        };
        Ended { status, output: self.output.all(), log: self.log.all() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What comes out of a pipe, read as it comes.
struct Lines {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Lines {
    fn read(pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let lines = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let mut text = lines.lock().expect("no test panics here");
                text.push_str(&line);
                text.push('\n');
            }
        });
        Self { text, reader: Some(reader) }
    }

    fn so_far(&self) -> String {
        self.text.lock().expect("no test panics here").clone()
    }

    fn all(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader does not panic");
        }
        self.so_far()
    }
}
