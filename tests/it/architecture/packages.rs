//! Who may depend on whom.

use cargo_metadata::{DependencyKind, MetadataCommand};

use super::{Fault, assert_found, assert_none, root};

/// The most packages in `Cargo.lock`. Raised only in the commit that says what the new ones save.
const MAX_LOCKED: usize = 530;

/// Who may name which heavy dependency; an ending `*` stands for a family of packages.
const HEAVY: &[(&str, &str)] = &[
    ("candle-*", "easel-engine"),
    ("gemm", "easel-engine"),
    ("tokenizers", "easel-engine"),
    ("minijinja", "easel-engine"),
    ("safetensors", "easel-engine"),
    ("wasmtime*", "easel-runtime"),
    ("wasmparser", "easel-runtime"),
    ("reqwest", "easel-runtime"),
    ("sqlx", "easel-store"),
    ("object_store", "easel-store"),
    ("axum", "easel"),
    ("prometheus-client", "easel"),
    ("tower-http", "easel"),
    ("clap", "easel"),
];

/// What core must not have, whatever it is called.
const NOT_IN_CORE: &[&str] = &["serde", "serde_json", "toml", "http", "hyper", "url", "reqwest", "image", "png"];

/// The package of the tests, which are clients of everything and part of nothing.
const TESTS: &str = "easel-tests";

/// A package of the workspace and what it is built from; its tests' dependencies do not count.
struct Package {
    name: String,
    dependencies: Vec<String>,
}

fn packages() -> Vec<Package> {
    let mut command = MetadataCommand::new();
    let metadata =
        command.manifest_path(root().join("Cargo.toml")).no_deps().exec().expect("cargo knows the workspace");
    let package = |package: cargo_metadata::Package| Package {
        name: package.name.to_string(),
        dependencies: package
            .dependencies
            .into_iter()
            .filter(|dependency| dependency.kind != DependencyKind::Development)
            .map(|dependency| dependency.name)
            .collect(),
    };
    metadata.packages.into_iter().map(package).collect()
}

fn sample(name: &str, dependencies: &[&str]) -> Package {
    Package { name: name.to_owned(), dependencies: dependencies.iter().map(|&name| name.to_owned()).collect() }
}

fn faults(packages: &[Package], is_wrong: impl Fn(&Package, &str) -> bool) -> Vec<Fault> {
    let wrong = packages.iter().flat_map(|package| {
        let dependencies = package.dependencies.iter().filter(|dependency| is_wrong(package, dependency));
        dependencies.map(|dependency| Fault(format!("{} depends on {dependency}", package.name))).collect::<Vec<_>>()
    });
    wrong.collect()
}

/// The packages of the house that a package may depend on.
fn may_name(package: &str) -> &'static [&'static str] {
    match package {
        "easel-core" | "easel-sdk" => &[],
        "easel-engine" | "easel-runtime" | "easel-store" => &["easel-core"],
        "easel" => &["easel-core", "easel-engine", "easel-runtime", "easel-store"],
        TESTS => &["easel", "easel-core", "easel-engine", "easel-runtime", "easel-store"],
        // Plugins, examples and guests.
        _ => &["easel-sdk"],
    }
}

fn is_ours(name: &str) -> bool {
    name == "easel" || name.starts_with("easel-") || name.starts_with("plugin-") || name.starts_with("hello-")
}

fn wrong_directions(packages: &[Package]) -> Vec<Fault> {
    faults(packages, |package, dependency| is_ours(dependency) && !may_name(&package.name).contains(&dependency))
}

fn misplaced_heavy_ones(packages: &[Package]) -> Vec<Fault> {
    faults(packages, |package, dependency| {
        let owner = HEAVY.iter().find(|(heavy, _)| match heavy.strip_suffix('*') {
            Some(family) => dependency.starts_with(family),
            None => dependency == *heavy,
        });
        owner.is_some_and(|(_, owner)| package.name != *owner && package.name != TESTS)
    })
}

fn too_much_in_core(packages: &[Package]) -> Vec<Fault> {
    faults(packages, |package, dependency| package.name == "easel-core" && NOT_IN_CORE.contains(&dependency))
}

#[test]
fn crates_depend_on_each_other_in_the_written_direction_only() {
    let packages = packages();
    let names: Vec<_> = packages.iter().map(|package| package.name.as_str()).collect();
    for name in ["easel-core", "easel-engine", "easel-runtime", "easel-store", "easel", "easel-sdk", TESTS] {
        assert!(names.contains(&name), "{name} is gone; is the rule still right?");
    }
    assert_none(&wrong_directions(&packages));

    let bad = [
        sample("easel-core", &["easel-sdk"]),
        sample("easel-engine", &["easel-core", "easel-store"]),
        sample("easel-runtime", &["easel-engine"]),
        sample("easel-store", &["easel-runtime"]),
        sample("easel-sdk", &["easel-core"]),
        sample("plugin-one", &["easel-sdk", "easel-core"]),
        sample("plugin-two", &["plugin-one"]),
        sample("easel", &["plugin-one"]),
    ];
    assert_found(&wrong_directions(&bad), bad.len());
}

#[test]
fn heavy_dependencies_are_named_by_their_one_crate_only() {
    assert_none(&misplaced_heavy_ones(&packages()));

    let bad = [
        sample("easel", &["candle-core", "wasmtime-wasi", "sqlx", "object_store", "reqwest", "axum"]),
        sample("easel-store", &["axum"]),
    ];
    assert_found(&misplaced_heavy_ones(&bad), 6);
}

#[test]
fn core_knows_no_http_json_or_serialization() {
    assert_none(&too_much_in_core(&packages()));
    assert_found(&too_much_in_core(&[sample("easel-core", &["serde", "tokio", "url"])]), 2);
}

#[test]
fn plugins_and_sdk_need_no_crate_of_the_host() {
    let packages = packages();
    let outside: Vec<_> = packages.iter().filter(|package| may_name(&package.name).len() <= 1).collect();
    assert!(outside.iter().any(|package| package.name.starts_with("plugin-")), "there are plugins");
}

#[test]
fn lock_file_stays_below_its_ceiling() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("there is a lock file");
    let locked = lock.matches("[[package]]").count();
    assert!(locked <= MAX_LOCKED, "Cargo.lock has {locked} packages; the ceiling is {MAX_LOCKED}");
    assert!(locked + 40 > MAX_LOCKED, "Cargo.lock has only {locked} packages; lower the ceiling of {MAX_LOCKED}");
}
