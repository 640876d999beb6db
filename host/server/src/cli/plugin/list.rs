//! `easel plugin list`: how every plugin of the server stands.

use std::process::ExitCode;

use axum::http::Method;
use clap::Args;
use serde_json::Value;

use super::server::ServerOptions;
use crate::cli::{Failure, table};

/// List the plugins of a running server and how they stand.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  easel plugin list
  easel plugin list --json         everything there is to know, for programs")]
pub(super) struct List {
    /// Print the server's answer as it is
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerOptions,
}

impl List {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let answer = self.server.ask(Method::GET, "/v1/plugins")?;
        if self.json {
            println!("{answer:#}");
        } else {
            print!("{}", written(&answer));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A line for each plugin.
fn written(answer: &Value) -> String {
    let entries = answer["data"].as_array().map_or(&[][..], Vec::as_slice);
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let row = |entry: &Value| {
        ["id", "kind", "version", "state", "reason"].map(|key| match key {
            "reason" => entry[key].as_str().unwrap_or_default().to_owned(),
            key => text(&entry[key]),
        })
    };
    let head = ["PLUGIN", "KIND", "VERSION", "STATE", "REASON"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(entries.iter().map(row)).collect();
    table(&rows)
}

#[cfg(test)]
mod tests {
    use super::written;

    #[test]
    fn plugins_stand_in_a_table() {
        let answer = serde_json::json!({ "data": [
            { "id": "one", "kind": "adapter", "version": "0.1.0", "state": "ready", "reason": null },
            { "id": "two.wasm", "kind": null, "version": null, "state": "failed", "reason": "it is not WebAssembly" },
        ] });
        let expected = "PLUGIN    KIND     VERSION  STATE   REASON\n\
                        one       adapter  0.1.0    ready\n\
                        two.wasm  -        -        failed  it is not WebAssembly\n";
        assert_eq!(written(&answer), expected);
    }
}
