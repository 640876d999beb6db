//! Puts what `easel plugin new` and `easel plugin build` write and run into the program: the SDK, the contract, the
//! examples, which are the templates, and the script that gets the compiler's target. So a plugin author needs the program
//! and no checkout.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

/// What is built or fetched beside the sources of an example.
const NOT_SOURCES: [&str; 4] = ["target", "node_modules", ".venv", "__pycache__"];

fn main() -> ExitCode {
    match write() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error=the files for plugin authors cannot be gathered: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write() -> io::Result<()> {
    let variable = |name| env::var_os(name).map(PathBuf::from).ok_or_else(|| io::Error::other(format!("no {name}")));
    let root = variable("CARGO_MANIFEST_DIR")?.join("../..").canonicalize()?;
    println!("cargo::rerun-if-changed=build.rs");
    let mut text = String::new();
    for (table, folder) in [("SDK", "sdk"), ("WIT", "wit"), ("EXAMPLES", "examples")] {
        let mut files = Vec::new();
        gather(&root.join(folder), &mut files)?;
        files.sort();
        writeln!(text, "pub(super) const {table}: &[(&str, &[u8])] = &[").map_err(io::Error::other)?;
        for file in files {
            let name = file.strip_prefix(root.join(folder)).map_err(io::Error::other)?;
            let name = name.to_string_lossy().replace('\\', "/");
            writeln!(text, "    ({name:?}, include_bytes!({file:?})),").map_err(io::Error::other)?;
            println!("cargo::rerun-if-changed={}", file.display());
        }
        text.push_str("];\n");
    }
    // A new file counts too. The folders of the examples hold what was built there, and are told file by file.
    for folder in ["sdk/src", "wit"] {
        println!("cargo::rerun-if-changed={}", root.join(folder).display());
    }
    for (name, file) in [("WORKSPACE", "Cargo.toml"), ("LICENSE", "LICENSE")] {
        let path = root.join(file);
        writeln!(text, "pub(super) const {name}: &str = include_str!({path:?});").map_err(io::Error::other)?;
        println!("cargo::rerun-if-changed={}", path.display());
    }
    fs::write(variable("OUT_DIR")?.join("authors.rs"), text)
}

fn gather(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if NOT_SOURCES.contains(&name.as_str()) || name.ends_with(".wasm") || name.ends_with(".part") {
            continue;
        }
        if path.is_dir() {
            gather(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
