//! The contract: every item of `wit/` says what it is for, and host, SDK, plugins and documents speak one version of it.

use super::{Fault, File, assert_found, assert_none, files};

/// The contract's own files; what is in `deps/` is WASI's.
fn wit() -> Vec<File> {
    let is_ours = |file: &File| file.path.starts_with("wit/") && !file.path.starts_with("wit/deps/");
    files(&[".wit"]).into_iter().filter(is_ours).collect()
}

/// The version in `package easel:plugin@0.3.0;`.
fn version(files: &[File]) -> String {
    let first = files.first().and_then(|file| file.text.lines().next()).unwrap_or_default();
    let version = first.strip_prefix("package easel:plugin@").and_then(|rest| rest.strip_suffix(';'));
    version.expect("wit/ names its package first").to_owned()
}

fn undocumented(files: &[File]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in files {
        let mut before = "";
        for (number, line) in file.text.lines().enumerate() {
            let line = line.trim();
            let is_item = !["", "}", "//", "package ", "use ", "include ", "import ", "export "]
                .iter()
                .any(|other| if other.is_empty() { line.is_empty() } else { line.starts_with(other) });
            if is_item && !before.starts_with("///") {
                faults.push(file.fault(number, "an item of the contract needs a comment of three slashes"));
            }
            before = line;
        }
    }
    faults
}

#[test]
fn every_item_of_the_contract_says_what_it_is_for() {
    assert_none(&undocumented(&wit()));
    let bad = "package a:b@1.0.0;\n\n/// What it is.\ninterface c {\n  use d.{e};\n\n  f: func();\n  /// Said.\n  \
               enum g {\n    h,\n  }\n}\n";
    assert_found(&undocumented(&[File::sample("wit/a.wit", bad)]), 2);
}

/// Every place of `files` that names an interface of the contract in another version.
fn other_versions(files: &[File], version: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in files {
        for (number, line) in file.text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for found in code.split("easel:plugin").skip(1) {
                let named: String = found
                    .split_once('@')
                    .filter(|(name, _)| name.chars().all(|c| c == '/' || c == '-' || c.is_ascii_lowercase()))
                    .map(|(_, rest)| rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect())
                    .unwrap_or_default();
                if !named.is_empty() && named != version {
                    faults.push(file.fault(number, &format!("names version {named}, wit/ is {version}")));
                }
            }
        }
    }
    faults
}

/// The names that `wit/` declares with a keyword, `interface` or `world`.
fn declared(files: &[File], keyword: &str) -> Vec<String> {
    let lines = files.iter().flat_map(|file| file.text.lines());
    let names = lines.filter_map(|line| line.strip_prefix(keyword)?.strip_prefix(' ')?.strip_suffix(" {"));
    names.map(str::to_owned).collect()
}

fn source(path: &str) -> File {
    let found = files(&[path.rsplit('/').next().unwrap_or(path)]).into_iter().find(|file| file.path == path);
    found.unwrap_or_else(|| panic!("{path} is gone; is the rule still right?"))
}

#[test]
fn host_and_sdk_speak_the_version_and_all_interfaces_of_the_contract() {
    let wit = wit();
    let version = version(&wit);
    let bindings = ["host/runtime/src/bindings.rs", "sdk/src/bindings.rs"].map(source);
    assert_none(&other_versions(&[wit.clone(), bindings.to_vec()].concat(), &version));

    let [host, sdk] = &bindings;
    for interface in declared(&wit, "interface") {
        let name = format!("easel:plugin/{interface}@{version}");
        assert!(host.text.contains(&name), "the host's bindings leave out {name}");
    }
    for world in declared(&wit, "world").iter().filter(|world| *world != "imports") {
        let name = format!("\"easel:plugin/{world}\"");
        assert!(sdk.text.contains(&name), "the SDK's bindings leave out {name}");
    }
    let stale = [File::sample("a.rs", "import easel:plugin/types@0.0.9;\nimport easel:plugin/types@0.0.10;")];
    assert_found(&other_versions(&stale, "0.0.10"), 1);
}

/// The functions that plugins can call, each as the trail of a trap names it: `INTERFACE.FUNCTION`, or `RESOURCE.FUNCTION`.
fn host_functions(files: &[File], imported: &[String]) -> Vec<String> {
    let mut functions = Vec::new();
    for file in files {
        let (mut interface, mut resource) = (None, None);
        for line in file.text.lines() {
            let opened = |keyword: &str| line.trim().strip_prefix(keyword)?.strip_suffix(" {").map(str::to_owned);
            if let Some(name) = opened("interface ") {
                interface = Some(name).filter(|name| imported.contains(name));
            } else if let Some(name) = opened("resource ") {
                resource = Some(name);
            } else if line.trim() == "}" {
                resource = None;
            }
            let Some(interface) = &interface else { continue };
            let place = resource.as_ref().unwrap_or(interface);
            if line.trim().starts_with("constructor(") {
                functions.push(format!("{place}.new"));
            } else if let Some((name, rest)) = line.trim().split_once(": ")
                && (rest.starts_with("func(") || rest.starts_with("static func("))
            {
                functions.push(format!("{place}.{}", name.trim_start_matches('%')));
            }
        }
    }
    functions
}

#[test]
fn every_function_of_the_host_leaves_its_name_and_no_more_for_the_report_of_a_trap() {
    let bindings = source("host/runtime/src/bindings.rs");
    let imports = bindings.text.lines().filter_map(|line| line.trim().strip_prefix("import easel:plugin/"));
    let imported: Vec<_> = imports.filter_map(|import| Some(import.split_once('@')?.0.to_owned())).collect();
    let functions = host_functions(&wit(), &imported);
    assert!(functions.len() >= 70 && functions.contains(&"blob.read".to_owned()), "{functions:?}");
    let inside = files(&[".rs"]).into_iter().filter(|file| file.path.starts_with("host/runtime/src/host/"));
    let text: String = inside.map(|file| file.text).collect();
    for function in functions {
        assert!(text.contains(&format!("self.trail.step(\"{function}\");")), "{function} leaves no name");
    }
    let steps = text.matches("trail.step(").count();
    assert_eq!(
        steps,
        text.matches("trail.step(\"").count(),
        "a name is written in the code, never made of what was given"
    );
}

#[test]
fn manifests_and_documents_name_the_contract_of_this_tree() {
    let (short, _) =
        version(&wit()).rsplit_once('.').map(|(short, patch)| (short.to_owned(), patch.to_owned())).unwrap();
    let line = format!("contract = \"{short}\"");
    let mut seen = 0;
    for file in files(&["plugin.toml", "README.md"]) {
        for found in file.text.lines().filter(|found| found.starts_with("contract = ")) {
            assert!(found.starts_with(&line), "{}: {found}", file.path);
            seen += 1;
        }
    }
    assert!(seen >= 6, "only {seen} manifests were found");
    let host = source("host/runtime/src/contract.rs");
    assert!(host.text.contains(&format!("CONTRACT: &str = \"{short}\"")), "the host speaks another contract");
}

#[test]
fn vendored_wasi_is_of_one_version() {
    let deps: Vec<_> = files(&[".wit"]).into_iter().filter(|file| file.path.starts_with("wit/deps/")).collect();
    assert!(deps.len() >= 5, "WASI is vendored");
    let versions: std::collections::BTreeSet<_> = deps
        .iter()
        .filter_map(|file| file.text.lines().find_map(|line| line.strip_prefix("package wasi:")?.split_once('@')))
        .map(|(_, version)| version.trim_end_matches([';', '{', ' ']).to_owned())
        .collect();
    assert_eq!(versions.len(), 1, "{versions:?}");
    let version = versions.first().expect("there is one");
    for file in wit() {
        for (number, line) in file.text.lines().enumerate().filter(|(_, line)| line.contains("wasi:")) {
            let is_import = line.trim_start().starts_with("import ");
            assert!(!is_import || line.contains(&format!("@{version};")), "{}:{}: {line}", file.path, number + 1);
        }
    }
}
