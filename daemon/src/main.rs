//! The command `millstream`.

mod check;
mod checkpoints;
mod cli;
mod console;
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
    match arguments.command.execute() {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("{error}");
            cli::Exit::from(&error).into()
        }
    }
}
