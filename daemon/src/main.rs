//! The command `millstream`.
// All that is said goes through `terminal`, which keeps secrets.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod audit;
mod check;
mod checkpoints;
mod cli;
mod console;
mod daemon;
mod exit;
mod flow_files;
mod function;
mod interrupts;
mod logging;
mod lsp;
mod models;
mod new;
mod nodes;
mod predict;
mod reference;
mod remote;
mod replay;
mod run;
mod serve;
mod small_flow;
mod state;
mod summary;
mod take_over;
mod terminal;
mod token;
mod workplace;

use std::process::ExitCode;

use crate::terminal::note;

fn main() -> ExitCode {
    terminal::note_panics();
    let arguments = cli::Arguments::read();
    match arguments.command.execute() {
        Ok(code) => code.into(),
        Err(error) => {
            note!("{error}");
            exit::Exit::from(&error).into()
        }
    }
}
