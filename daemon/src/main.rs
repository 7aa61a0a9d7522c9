//! The command `millstream`.
#![allow(clippy::print_stderr, reason = "its user reads it")]

mod check;
mod checkpoints;
mod cli;
mod console;
mod exit;
mod flow_files;
mod models;
mod new;
mod nodes;
mod predict;
mod reference;
mod replay;
mod run;
mod state;
mod summary;
mod terminal;
mod workplace;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    // What the engine and nodes say beside their results, such as that they wait for somebody.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::WARN)
        .with_target(false)
        .init();
    match arguments.command.execute() {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("{error}");
            exit::Exit::from(&error).into()
        }
    }
}
