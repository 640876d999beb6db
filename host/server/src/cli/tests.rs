//! The command line as people type it.

use clap::{CommandFactory, Parser};

use super::{Cli, Command};

fn command(line: &str) -> Command {
    Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}")).command
}

#[test]
fn command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_teaches_with_examples() {
    let mut cli = Cli::command();
    cli.build();
    for command in cli.get_subcommands_mut().filter(|command| command.get_name() != "help") {
        let help = command.render_long_help().to_string();
        assert!(help.contains("Examples:"), "{} shows no example:\n{help}", command.get_name());
        assert!(command.get_about().is_some(), "{} does not say what it does", command.get_name());
    }
    let help = cli.render_long_help().to_string();
    for example in ["easel serve", "easel generate", "easel dev", "curl http://127.0.0.1:7860/v1/images/generations"] {
        assert!(help.contains(example), "{help}");
    }
}

#[test]
fn every_example_in_the_help_parses() {
    let mut cli = Cli::command();
    cli.build();
    let mut helps = vec![cli.render_long_help().to_string()];
    helps.extend(cli.get_subcommands_mut().map(|command| command.render_long_help().to_string()));
    let mut examples = 0;
    for line in helps.iter().flat_map(|help| help.lines()) {
        let line = line.trim().replace("cargo run --", "easel");
        let line = line.split_once("easel ").filter(|(before, _)| before.is_empty() || before.ends_with("=… "));
        // A line of the usage has places to fill in.
        let Some((_, arguments)) = line.filter(|(_, arguments)| !arguments.contains('<')) else { continue };
        // What follows wide space is the explanation, what follows `>` the shell's.
        let arguments = arguments.split("   ").next().unwrap().split(" > ").next().unwrap();
        let words = shell_words(arguments);
        Cli::try_parse_from(std::iter::once("easel".to_owned()).chain(words))
            .unwrap_or_else(|error| panic!("{arguments}: {error}"));
        examples += 1;
    }
    assert!(examples >= 12, "only {examples} examples were found");
}

/// Words with double quotes around those that have spaces.
fn shell_words(line: &str) -> Vec<String> {
    let parts = line.split('"').enumerate();
    let words = parts.flat_map(|(index, part)| match index % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect(),
        _ => vec![part.to_owned()],
    });
    words.collect()
}

#[test]
fn flags_set_keys_of_the_config() {
    let line =
        "easel serve --listen 127.0.0.1:0 --insecure --data d --plugins p --mode stub --log json --config c.toml";
    let Command::Serve(serve) = command(line) else { panic!("not serve") };
    let sources = serve.sources().unwrap();
    assert_eq!(sources.file.as_deref(), Some(std::path::Path::new("c.toml")));
    let flags: Vec<_> = sources.flags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(flags, ["data=d", "insecure=true", "listen=127.0.0.1:0", "log.format=json", "mode=stub", "plugins=p"]);
}

#[test]
fn wrong_arguments_are_refused() {
    for line in ["easel", "easel serve --listen here", "easel generate", "easel generate x --size 10", "easel paint"] {
        let error = Cli::try_parse_from(line.split(' ')).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}
