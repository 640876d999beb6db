//! Plugins that are replaced again and again leave nothing behind.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::harness::{Process, components, until};

const PLUGINS: usize = 20;

/// The most that 200 reloads may add: code of one of the plugins is larger than this divided by 200.
const MOST_KIB: u64 = 8 << 10;

/// Gives every plugin its next version. The component is the same, and is taken from the cache and linked anew.
fn put(folder: &Path, version: &str) {
    for number in 0..PLUGINS {
        let plugin = folder.join(format!("plugins/plugin-{number}"));
        fs::create_dir_all(&plugin).unwrap();
        let manifest = String::from_utf8_lossy(components::HOSTILE[1].1);
        let manifest = manifest.replace("\"hostile\"", &format!("\"plugin-{number}\"")).replace("0.1.0", version);
        fs::write(plugin.join("plugin.toml"), manifest).unwrap();
        if !plugin.join("plugin.wasm").exists() {
            fs::write(plugin.join("plugin.wasm"), components::HOSTILE[0].1).unwrap();
        }
    }
}

fn loaded(process: &Process, version: &str) -> usize {
    process.log().lines().filter(|line| line.contains("plugin loaded") && line.contains(version)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_reloads_cost_no_memory() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("easel.toml"), "mode = \"stub\"").unwrap();
    put(folder.path(), "0.1.100");
    let process = Process::start(folder.path(), &["serve", "--listen", "127.0.0.1:0"], &[]);
    let mut before = 0;
    for round in 100..114 {
        let version = format!("0.1.{round}");
        put(folder.path(), &version);
        until("all are loaded", async || loaded(&process, &version) >= PLUGINS).await;
        if round == 103 {
            before = process.resident_kib();
        }
    }
    let after = process.resident_kib();
    assert!(before > 0 && after <= before + MOST_KIB, "{before} KiB became {after} KiB");
}
