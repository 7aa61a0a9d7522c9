//! The command `millstream`.
// All that is said goes through `terminal`, which keeps secrets.
#![deny(clippy::print_stdout, clippy::print_stderr)]

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
mod small_flow;
mod state;
mod summary;
mod terminal;
mod workplace;

use std::process::ExitCode;

use clap::Parser;

use crate::terminal::note;

fn main() -> ExitCode {
    terminal::note_panics();
    let arguments = cli::Arguments::parse();
    // What the engine and nodes say beside their results, such as that they wait for somebody.
    tracing_subscriber::fmt()
        .with_writer(|| terminal::Log)
        .with_max_level(tracing::Level::WARN)
        .with_target(false)
        .init();
    match arguments.command.execute() {
        Ok(code) => code.into(),
        Err(error) => {
            note!("{error}");
            exit::Exit::from(&error).into()
        }
    }
}
