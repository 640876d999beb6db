//! What may stand in which file.

use super::{Fault, File, assert_found, assert_none, files};

/// The longest Rust file, in lines.
const MAX_LINES: usize = 600;

/// The files with `unsafe` blocks, each with its reason in `SAFETY` comments.
const UNSAFE_FILES: &[&str] = &[
    // Maps weights.
    "host/engine/src/checkpoint.rs",
    // Loads the compiled code that the host sealed itself.
    "host/runtime/src/cache.rs",
    // Looks through its own memory for a secret.
    "tests/hostile/guest/src/memory.rs",
    // Puts a plugin's manifest into a section of its component.
    "sdk/src/lib.rs",
];

/// The files of these lines that break a rule. `is_wrong` sees each line with its comments taken off.
pub(super) fn lines(files: &[File], what: &str, is_wrong: impl Fn(&File, &str) -> bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in files {
        for (number, line) in file.text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if is_wrong(file, code) {
                faults.push(file.fault(number, what));
            }
        }
    }
    faults
}

/// Whether a word stands in a line by itself.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, found)| {
        !is_part(line[..at].chars().next_back()) && !is_part(line[at + found.len()..].chars().next())
    })
}

fn rust() -> Vec<File> {
    files(&[".rs"])
}

/// This file holds every forbidden word.
fn is_this_file(file: &File) -> bool {
    file.path == "tests/it/architecture/sources.rs"
}

fn too_long(files: &[File]) -> Vec<Fault> {
    let long = files.iter().filter(|file| file.text.lines().count() > MAX_LINES);
    long.map(|file| Fault(format!("{} has more than {MAX_LINES} lines", file.path))).collect()
}

#[test]
fn no_file_is_longer_than_six_hundred_lines() {
    assert_none(&too_long(&rust()));
    assert_found(&too_long(&[File::sample("a.rs", &"\n".repeat(601)), File::sample("b.rs", &"\n".repeat(600))]), 1);
}

fn without_introduction(files: &[File]) -> Vec<Fault> {
    let silent = files.iter().filter(|file| !file.text.starts_with("//! "));
    silent.map(|file| Fault(format!("{} does not begin with //!", file.path))).collect()
}

#[test]
fn every_module_says_first_what_it_is_for() {
    assert_none(&without_introduction(&rust()));
    assert_found(
        &without_introduction(&[File::sample("a.rs", "use std::fs;\n"), File::sample("b.rs", "//! Reads.")]),
        1,
    );
}

fn vague_names(files: &[File]) -> Vec<Fault> {
    let vague = ["utils", "util", "common", "helpers", "helper", "misc", "manager"];
    let named = |file: &&File| {
        let stem = file.path.strip_suffix(".rs").unwrap_or(&file.path).strip_suffix("/mod").unwrap_or(&file.path);
        let stem = stem.strip_suffix(".rs").unwrap_or(stem);
        stem.rsplit('/').next().is_some_and(|name| vague.contains(&name))
    };
    files.iter().filter(named).map(|file| Fault(format!("{} says nothing about what is in it", file.path))).collect()
}

#[test]
fn modules_are_named_for_what_is_in_them() {
    assert_none(&vague_names(&rust()));
    let bad = ["a/utils.rs", "a/helpers/mod.rs", "common.rs", "a/images.rs"].map(|path| File::sample(path, ""));
    assert_found(&vague_names(&bad), 3);
}

fn forbidden(files: &[File]) -> Vec<Fault> {
    let words = ["#[ignore", "#[should_panic", "todo!(", "unimplemented!(", "dbg!(", "#[allow(", "#![allow("];
    lines(files, "is forbidden here", |file, code| !is_this_file(file) && words.iter().any(|word| code.contains(word)))
}

#[test]
fn nothing_is_ignored_left_open_or_silenced() {
    // What a macro writes for a guest is its author's to silence; it must say why.
    let files: Vec<_> = rust();
    assert_none(&forbidden(&files));
    let bad = "#[ignore]\n#[should_panic(expected = \"x\")]\ntodo!()\n#[allow(dead_code)]\n// #[ignore] in words\n";
    assert_found(&forbidden(&[File::sample("a.rs", bad)]), 4);
}

fn misplaced_unsafe(files: &[File]) -> Vec<Fault> {
    lines(files, "unsafe stands only in the files named in UNSAFE_FILES", |file, code| {
        has_word(code, "unsafe") && !is_this_file(file) && !UNSAFE_FILES.contains(&file.path.as_str())
    })
}

fn unsafe_without_reason(files: &[File]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in files.iter().filter(|file| UNSAFE_FILES.contains(&file.path.as_str())) {
        let all: Vec<_> = file.text.lines().collect();
        for (number, line) in all.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let before = &all[number.saturating_sub(8)..number];
            if code.contains("unsafe {") && !before.iter().any(|line| line.contains("// SAFETY:")) {
                faults.push(file.fault(number, "an unsafe block needs a SAFETY comment"));
            }
        }
    }
    faults
}

#[test]
fn unsafe_code_stands_in_few_files_and_says_why_it_is_sound() {
    let files = rust();
    assert_none(&misplaced_unsafe(&files));
    assert_none(&unsafe_without_reason(&files));
    let bad =
        File::sample("host/core/src/image.rs", "fn f() { unsafe { g() } }\n// unsafe in words\nlet unsafe_ish = 1;\n");
    assert_found(&misplaced_unsafe(&[bad]), 1);
    let bare = "unsafe { g() }\n// SAFETY: it is.\nunsafe { g() }\n";
    assert_found(&unsafe_without_reason(&[File::sample("host/engine/src/checkpoint.rs", bare)]), 1);
}

fn named_together(files: &[File]) -> Vec<Fault> {
    let names = ["easel_engine", "easel_runtime", "easel_store"];
    let meets = |file: &&File| {
        let code: Vec<_> = file.text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
        names.iter().filter(|name| code.iter().any(|line| has_word(line, name))).count() > 1
    };
    let inside = files.iter().filter(|file| file.path.starts_with("host/") && file.path != "host/server/src/app.rs");
    inside.filter(meets).map(|file| Fault(format!("{} names two of engine, runtime and store", file.path))).collect()
}

#[test]
fn engine_runtime_and_store_meet_in_the_composition_root_only() {
    assert_none(&named_together(&rust()));
    let both = "use easel_engine::Engine;\nuse easel_store::Store;\n";
    let bad = [
        File::sample("host/server/src/http/mod.rs", both),
        File::sample("host/server/src/app.rs", both),
        File::sample("host/server/src/dev.rs", "use easel_store::Store; // not easel_engine\n"),
    ];
    assert_found(&named_together(&bad), 1);
}

/// Folders whose members never name each other: dialects, families, samplers, plugins.
const SIBLINGS: &[&str] = &["host/server/src/dialect", "host/engine/src/sampler", "host/engine/src/family", "plugins"];

/// The sibling that a path belongs to, with what makes no sibling taken out.
fn sibling<'a>(folder: &str, path: &'a str) -> Option<&'a str> {
    let inside = path.strip_prefix(folder)?.strip_prefix('/')?;
    let name = inside.split('/').next()?.trim_end_matches(".rs");
    let is_shared = matches!(name, "mod" | "fields" | "tests");
    (!is_shared).then_some(name)
}

fn named_siblings(files: &[File]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for folder in SIBLINGS {
        let mut names: Vec<_> = files.iter().filter_map(|file| sibling(folder, &file.path)).collect();
        names.sort_unstable();
        names.dedup();
        for file in files {
            let Some(own) = sibling(folder, &file.path) else { continue };
            for other in names.iter().filter(|other| **other != own) {
                let module = other.replace('-', "_");
                let paths = [format!("super::{module}"), format!("::{module}::"), format!("plugin_{module}")];
                let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
                for (number, line) in file.text.lines().map(code).enumerate() {
                    if paths.iter().any(|path| has_word(&line, path.trim_matches(':')) && line.contains(path)) {
                        faults.push(file.fault(number, &format!("names its sibling {other}")));
                    }
                }
            }
        }
    }
    faults
}

#[test]
fn siblings_never_name_each_other() {
    assert_none(&named_siblings(&rust()));
    let bad = [
        File::sample("host/engine/src/sampler/mod.rs", "pub use self::euler::Euler;"),
        File::sample("host/engine/src/sampler/euler.rs", "use super::Sampler;"),
        File::sample("host/engine/src/sampler/ddim.rs", "use super::euler::step;"),
        File::sample("host/server/src/dialect/openai/mod.rs", ""),
        File::sample("host/server/src/dialect/sdapi/mod.rs", "use crate::dialect::openai::NAMES;"),
        File::sample("plugins/one/src/lib.rs", "use plugin_two_more::wire;"),
        File::sample("plugins/two-more/src/lib.rs", ""),
    ];
    assert_found(&named_siblings(&bad), 3);
}

fn serializable_core(files: &[File]) -> Vec<Fault> {
    lines(files, "core types are not for serde", |file, code| {
        file.path.starts_with("host/core/") && (has_word(code, "serde") || code.contains("Serialize"))
    })
}

#[test]
fn core_types_are_not_serializable() {
    assert_none(&serializable_core(&rust()));
    assert_found(&serializable_core(&[File::sample("host/core/src/image.rs", "#[derive(Clone, Serialize)]")]), 1);
}

/// What only some files may do: the word, who may, and why.
const RESERVED: &[(&[&str], &[&str], &str)] = &[
    (&["memmap", "Mmap"], &["host/engine/src/checkpoint.rs"], "only one file maps weights"),
    (&["reqwest"], &["host/runtime/src/door/"], "only the door sends a plugin's request"),
    (
        &["env::var", "env::vars", "env::var_os", "env::vars_os"],
        &["host/server/src/config/environment.rs", "host/server/src/cli/"],
        "the environment is read once, at start",
    ),
];

fn reserved(files: &[File]) -> Vec<Fault> {
    let is_test = |path: &str| path.contains("/tests") || path.ends_with("build.rs");
    let of = |(words, owners, what): &(&[&str], &[&str], &str)| {
        lines(files, what, |file, code| {
            file.path.starts_with("host/")
                && !is_test(&file.path)
                && !owners.iter().any(|owner| file.path.starts_with(owner))
                && words.iter().any(|word| has_word(code, word))
        })
    };
    RESERVED.iter().flat_map(of).collect()
}

#[test]
fn weights_are_mapped_requests_sent_and_the_environment_read_in_one_place_each() {
    assert_none(&reserved(&rust()));
    let bad = [
        File::sample("host/engine/src/unet.rs", "let map = Mmap::map(&file)?;"),
        File::sample("host/server/src/http/mod.rs", "let client = reqwest::Client::new();"),
        File::sample("host/core/src/pipeline.rs", "let home = std::env::var(\"HOME\");"),
        File::sample("host/runtime/src/door/client.rs", "let client = reqwest::Client::new();"),
    ];
    assert_found(&reserved(&bad), 3);
}

/// Rust files under `tests/` that no file beside them declares as a module.
fn forgotten(files: &[File]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in files {
        let folders = ["tests/it/", "tests/harness/", "tests/golden/", "tests/hostile/"];
        let is_guest = file.path.starts_with("tests/hostile/guest/");
        if is_guest || !folders.iter().any(|folder| file.path.starts_with(folder)) {
            continue;
        }
        let mut parts: Vec<_> = file.path.trim_end_matches(".rs").split('/').collect();
        if parts.last() == Some(&"mod") {
            parts.pop();
        }
        let Some(name) = parts.pop() else { continue };
        if name == "main" {
            continue;
        }
        let above = parts.join("/");
        let declares = |other: &&File| {
            let is_near = other.path == format!("{above}/mod.rs")
                || other.path == format!("{above}.rs")
                || other.path == "tests/it/main.rs";
            is_near
                && other.text.lines().any(|line| {
                    let line = line.trim().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
                    line.strip_prefix("mod ").and_then(|line| line.strip_suffix(';')) == Some(name)
                })
        };
        if !files.iter().any(|other| declares(&other)) {
            faults.push(Fault(format!("{} is declared nowhere, so it is never compiled", file.path)));
        }
    }
    faults
}

#[test]
fn every_test_file_is_part_of_the_test_binary() {
    assert_none(&forgotten(&rust()));
    let bad = [
        File::sample("tests/it/main.rs", "mod known;\n#[path = \"../golden/mod.rs\"]\nmod golden;"),
        File::sample("tests/it/known.rs", ""),
        File::sample("tests/it/lost.rs", ""),
        File::sample("tests/golden/mod.rs", "mod schedules;"),
        File::sample("tests/golden/schedules.rs", ""),
        File::sample("tests/golden/lost_too.rs", ""),
        File::sample("tests/hostile/guest/src/lib.rs", ""),
    ];
    assert_found(&forgotten(&bad), 2);
}

fn machine_paths(files: &[File]) -> Vec<Fault> {
    let places = ["home", "root", "Users"].map(|folder| format!("/{folder}/"));
    lines(files, "names a path of one machine", |file, code| {
        !is_this_file(file)
            && places.iter().any(|place| code.contains(&format!("\"{place}")) || code.contains(&format!(" {place}")))
    })
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    assert_none(&machine_paths(&files(&[".rs", ".toml", ".md", ".py", ".json"])));
    assert_found(&machine_paths(&[File::sample("a.toml", "path = \"/home/x\"")]), 1);
}
