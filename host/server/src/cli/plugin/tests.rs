//! Every subcommand teaches, and what it teaches is right.

use clap::{CommandFactory, Parser};

use crate::cli::Cli;

#[test]
fn every_subcommand_shows_examples_that_parse() {
    let mut cli = Cli::command();
    cli.build();
    let plugin = cli.find_subcommand_mut("plugin").unwrap();
    for command in plugin.get_subcommands_mut().filter(|command| command.get_name() != "help") {
        let (name, help) = (command.get_name().to_owned(), command.render_long_help().to_string());
        assert!(command.get_about().is_some(), "{name} does not say what it does");
        let examples = help.lines().filter_map(|line| line.trim().strip_prefix("easel "));
        let mut count = 0;
        for example in examples {
            let words = example.split("   ").next().unwrap().split_whitespace();
            Cli::try_parse_from(std::iter::once("easel").chain(words))
                .unwrap_or_else(|error| panic!("{example}: {error}"));
            count += 1;
        }
        assert!(count > 0, "{name} shows no example:\n{help}");
    }
}
