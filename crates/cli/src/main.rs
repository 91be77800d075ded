//! The `arable` binary.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the one place that prints")]

mod adapter;
mod args;
mod commands;
mod data;
mod errors;
mod labels;
mod pack;
mod plan;
mod profile;
mod progress;

use std::process::ExitCode;

use anyhow::{Result, bail};
use arable_pipeline::bench::Shape;

use crate::args::{Args, Command, ConfigCommand};

fn main() -> ExitCode {
    let args = match Args::read(std::env::args()) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", errors::render(&error));
            ExitCode::from(errors::exit_code(&error))
        }
    }
}

fn run(args: &Args) -> Result<()> {
    if let [flag, ..] = args.without_effect()[..] {
        bail!(errors::Usage(format!("use {flag} with this command, where it has no effect")));
    }
    let global = &args.global;
    match &args.command {
        Command::Init { dir } => commands::init(dir),
        Command::Run { dry_run: true } | Command::Plan => plan::plan(global),
        Command::Rollback { name, to, why, restart_data, .. } => {
            plan::rollback(global, name.as_deref(), to.as_deref(), why, *restart_data)
        }
        Command::Replay { name, stage, step } => plan::replay(global, name.as_deref(), stage.as_deref(), *step),
        Command::Verify { name } => plan::verify(global, name.as_deref()),
        Command::Run { dry_run: false } => commands::run(global),
        Command::Resume { name } => commands::resume(global, name.as_deref()),
        Command::Report { name } => commands::report(global, name.as_deref()),
        Command::Bench { part, layers, hidden, vocab, tokens, length, mask } => {
            let (layers, hidden, vocab) = (*layers, *hidden, *vocab);
            let shape = Shape { layers, hidden, vocab, tokens: *tokens, length: *length, mask: *mask };
            commands::bench(global, part.as_deref(), shape)
        }
        Command::Demo => commands::demo(global),
        Command::Profile => profile::profile(global),
        Command::Diff { before, after } => plan::diff(global, before, after),
        Command::Check => data::check(global),
        Command::Data(command) => data::run(global, command),
        Command::Labels(command) => labels::run(global, command),
        Command::Adapter(command) => adapter::adapter(global, command),
        Command::Runs => commands::runs(global),
        Command::Config(ConfigCommand::Show { origin }) => commands::config_show(global, *origin),
        Command::Config(ConfigCommand::Schema) => commands::config_schema(),
        Command::ReadPdf => Ok(arable_pipeline::read_pdf(std::io::stdin().lock(), std::io::stdout().lock())?),
    }
}
