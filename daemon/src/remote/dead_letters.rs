//! `millstream dead-letters`: rows that nodes of a daemon's flows have refused.

use clap::{Args, Subcommand};

use super::client::Ask;
use super::shown::{self, Column};
use super::{RemoteArguments, encoded};
use crate::exit::{Exit, Outcome};
use crate::workplace::control_runtime;

/// What `dead-letters` does.
#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// List the refused rows of a flow that keeps them (`on_error = { dead_letter = … }`), those of the newest file first.
    List(ListArguments),
}

/// What `dead-letters list` takes.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// The flow.
    flow: String,
    /// Only the rows that this node has refused.
    #[arg(long)]
    node: Option<String>,
    /// How many rows at most.
    #[arg(long, value_name = "ROWS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1000))]
    limit: u64,
    /// Where the daemon is.
    #[command(flatten)]
    remote: RemoteArguments,
}

const COLUMNS: &[Column] = &[
    ("at", "/at"),
    ("node", "/node"),
    ("error", "/error"),
    ("source", "/source"),
    ("position", "/position"),
    ("row", "/row"),
];

/// `millstream dead-letters`
pub fn dead_letters(command: DeadLettersCommand) -> Outcome {
    control_runtime()?.block_on(async {
        match command {
            DeadLettersCommand::List(ListArguments { flow, node, limit, remote }) => {
                let node = node.map(|node| format!("&node={}", encoded(&node))).unwrap_or_default();
                let path = format!("/flows/{}/dead_letters?limit={limit}{node}", encoded(&flow));
                shown::list(&remote.client()?.ask(Ask::get(path)).await?.json()?, COLUMNS, remote.json);
            }
        }
        Ok(Exit::Done)
    })
}
