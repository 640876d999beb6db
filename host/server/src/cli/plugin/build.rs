//! `easel plugin build`: makes the component of a plugin's sources and puts it beside them, whole or not at all.
//!
//! What compiles is the language's own tool. Where that is missing, one line says how to get it; nothing is fetched here,
//! except the Rust compiler's target, which the script of the SDK installs.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use clap::Args;
use easel_runtime::PluginKind;
use serde_json::{Deserializer, Value};

use super::project::Project;
use super::sources::{Language, contract, wasm_target};
use crate::cli::Failure;

const TARGET: &str = "wasm32-wasip2";

/// The custom section from which the host reads a lone component's manifest.
const SECTION: &str = "easel:manifest";

/// Make the component of a plugin's sources.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  easel plugin build
  easel plugin build sources/my-adapter
  easel plugin build -o plugins/my-adapter.wasm")]
pub(super) struct Build {
    /// The plugin's folder
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// Where the component goes [default: DIR/ID.wasm]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Build {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let begun = Instant::now();
        let project = Project::find(&self.folder)?;
        let component = match project.language {
            Language::Rust => rust(&project)?,
            Language::Js => with_manifest(js(&project)?, &project.manifest),
            Language::Python => with_manifest(python(&project)?, &project.manifest),
        };
        let place = self.output.unwrap_or_else(|| project.component());
        install(&place, &component)
            .map_err(|error| Failure::new(format!("{} cannot be written: {error}", place.display())))?;
        let (kib, seconds) = (component.len().div_ceil(1024), begun.elapsed().as_secs_f64());
        println!("{} ({kib} KiB, {seconds:.1} s)", place.display());
        Ok(ExitCode::SUCCESS)
    }
}

fn rust(project: &Project) -> Result<Vec<u8>, Failure> {
    let mut script = Command::new("bash");
    script.arg("-s").current_dir(&project.folder).stdin(Stdio::piped());
    let mut running = script.spawn().map_err(|error| missing("bash", &error, "install bash"))?;
    if let Some(mut input) = running.stdin.take() {
        // A script that ends early has said why.
        drop(input.write_all(wasm_target()));
    }
    let is_there = running.wait().is_ok_and(|status| status.success());
    if !is_there {
        let hint = format!("rustup target add {TARGET}");
        return Err(Failure::new(format!("the Rust compiler lacks the target {TARGET}")).with_hint(hint));
    }

    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--target", TARGET, "--profile", "plugin", "--message-format", "json-render-diagnostics"]);
    cargo.current_dir(&project.folder).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut building = cargo.spawn().map_err(|error| missing("cargo", &error, "install Rust 1.95 or later: rustup"))?;
    let mut made = None;
    if let Some(messages) = building.stdout.take() {
        for message in Deserializer::from_reader(BufReader::new(messages)).into_iter::<Value>().map_while(Result::ok) {
            made = component_of(&message).or(made);
        }
    }
    if !building.wait().is_ok_and(|status| status.success()) {
        return Err(Failure::new("cargo could not build it"));
    }
    let made = made.ok_or_else(|| {
        Failure::new("cargo built no component").with_hint("Cargo.toml needs [lib] crate-type = [\"cdylib\", \"rlib\"]")
    })?;
    fs::read(&made).map_err(|error| Failure::new(format!("{} cannot be read: {error}", made.display())))
}

/// The component that one of cargo's messages tells of. The package itself comes after what it is made of.
fn component_of(message: &Value) -> Option<PathBuf> {
    let files = message.get("filenames")?.as_array()?;
    files.iter().filter_map(Value::as_str).find(|file| file.ends_with(".wasm")).map(PathBuf::from)
}

fn js(project: &Project) -> Result<Vec<u8>, Failure> {
    let compiler = Path::new("node_modules/.bin/componentize-js");
    if !project.folder.join(compiler).exists() {
        let message = "the JavaScript compiler is not installed in the plugin's folder";
        return Err(Failure::new(message).with_hint("npm install    (in that folder, with Node.js 20 or later)"));
    }
    let made = scratch(project)?;
    let mut command = Command::new(Path::new(".").join(compiler));
    command.args(["src/plugin.js", "--wit", "target/easel/wit", "--world-name", project.kind.name()]);
    command.arg("--out").arg(&made.inside);
    // Transformers get no network; nobody gets requests from outside.
    command.args(["--disable", "fetch-event"]).args((project.kind == PluginKind::Transformer).then_some("http"));
    compiled(project, command, &made, "install Node.js 20 or later")
}

fn python(project: &Project) -> Result<Vec<u8>, Failure> {
    let own = Path::new(".venv/bin/componentize-py");
    let is_own = project.folder.join(own).exists();
    let mut command = Command::new(if is_own { own.as_os_str() } else { OsStr::new("componentize-py") });
    let made = scratch(project)?;
    command.args(["--quiet", "--wit-path", "target/easel/wit", "--world", project.kind.name()]);
    command.args(["componentize", "plugin", "--output"]).arg(&made.inside);
    let hint = "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt    (in the plugin's folder)";
    compiled(project, command, &made, hint)
}

/// Where a compiler of components works.
struct Scratch {
    /// From the plugin's folder.
    inside: PathBuf,
    path: PathBuf,
}

/// Puts the contract where a compiler finds it.
fn scratch(project: &Project) -> Result<Scratch, Failure> {
    let folder = project.folder.join("target/easel");
    let write = || -> std::io::Result<()> {
        for (name, bytes) in contract() {
            let path = folder.join("wit").join(name);
            fs::create_dir_all(path.parent().unwrap_or(&folder))?;
            fs::write(path, bytes)?;
        }
        Ok(())
    };
    write().map_err(|error| Failure::new(format!("{} cannot be written: {error}", folder.display())))?;
    let inside = Path::new("target/easel").join("component.wasm");
    Ok(Scratch { path: project.folder.join(&inside), inside })
}

fn compiled(project: &Project, mut command: Command, made: &Scratch, hint: &str) -> Result<Vec<u8>, Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.current_dir(&project.folder).stdin(Stdio::null()).stdout(Stdio::null()).status();
    let status = status.map_err(|error| missing(&program, &error, hint))?;
    if !status.success() {
        return Err(Failure::new(format!("{program} could not build it")));
    }
    fs::read(&made.path).map_err(|error| Failure::new(format!("{} cannot be read: {error}", made.path.display())))
}

fn missing(program: &str, error: &std::io::Error, hint: &str) -> Failure {
    Failure::new(format!("{program} cannot be started: {error}")).with_hint(hint)
}

/// A component with its manifest as a custom section at its end.
fn with_manifest(mut component: Vec<u8>, manifest: &str) -> Vec<u8> {
    let mut contents = Vec::new();
    length(&mut contents, SECTION.len());
    contents.extend_from_slice(SECTION.as_bytes());
    contents.extend_from_slice(manifest.as_bytes());
    component.push(0);
    length(&mut component, contents.len());
    component.extend_from_slice(&contents);
    component
}

/// A number as WebAssembly writes it: seven bits a byte, the lowest first.
fn length(bytes: &mut Vec<u8>, mut number: usize) {
    while number > 0x7f {
        bytes.push(u8::try_from(number & 0x7f).unwrap_or(0) | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap_or(0));
}

/// Hidden until it is whole: a server may watch the folder.
fn install(place: &Path, component: &[u8]) -> std::io::Result<()> {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    let part = place.with_file_name(format!(".{name}.part"));
    fs::write(&part, component)?;
    fs::rename(&part, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_seven_bits_a_byte() {
        let written = |number| {
            let mut bytes = Vec::new();
            length(&mut bytes, number);
            bytes
        };
        assert_eq!(written(0), [0]);
        assert_eq!(written(127), [127]);
        assert_eq!(written(128), [0x80, 1]);
        assert_eq!(written(624_485), [0xe5, 0x8e, 0x26]);
    }

    #[test]
    fn manifest_stands_at_the_end_of_its_component() {
        let component = with_manifest(b"\0asm\x0d\0\x01\0".to_vec(), "[plugin]");
        assert_eq!(component[8..11], [0, 23, 14]);
        assert_eq!(&component[11..], b"easel:manifest[plugin]");
    }

    #[test]
    fn component_is_found_in_what_cargo_tells() {
        let told = serde_json::json!({"reason": "compiler-artifact", "filenames": ["/t/a.rlib", "/t/a.wasm"]});
        assert_eq!(component_of(&told), Some(PathBuf::from("/t/a.wasm")));
        assert_eq!(component_of(&serde_json::json!({"reason": "build-finished", "success": true})), None);
    }
}
