//! `millstream operations`: what was asked of a daemon and takes a while.

use clap::{Args, Subcommand};
use hyper::Method;
use millstream_core::Error;
use serde_json::Value as Json;

use super::RemoteArguments;
use super::client::{Ask, Client};
use super::shown::{self, Column};
use crate::exit::{CommandError, Exit, Outcome};
use crate::terminal::{note, print_json, say};
use crate::workplace::control_runtime;

/// What `operations` does.
#[derive(Debug, Subcommand)]
pub enum OperationsCommand {
    /// List what was asked for, the newest first.
    List(RemoteArguments),
    /// Show an operation.
    Show(OneOperation),
    /// Call an operation off: what it has begun is undone.
    Cancel(OneOperation),
}

/// An operation of a daemon.
#[derive(Debug, Args)]
pub struct OneOperation {
    /// Its number.
    id: u64,
    /// Where the daemon is.
    #[command(flatten)]
    remote: RemoteArguments,
}

const COLUMNS: &[Column] = &[
    ("operation", "/id"),
    ("kind", "/kind"),
    ("flow", "/flow"),
    ("state", "/state"),
    ("by", "/by"),
    ("submitted", "/submitted"),
    ("problem", "/problem"),
];

const FIELDS: &[Column] = &[
    ("operation", "/id"),
    ("kind", "/kind"),
    ("flow", "/flow"),
    ("state", "/state"),
    ("by", "/by"),
    ("submitted", "/submitted"),
    ("updated", "/updated"),
    ("deadline", "/deadline"),
    ("detail", "/detail"),
    ("result", "/result"),
    ("problem", "/problem"),
];

/// `millstream operations`
pub fn operations(command: OperationsCommand) -> Outcome {
    control_runtime()?.block_on(async {
        match command {
            OperationsCommand::List(remote) => {
                let answer = remote.client()?.ask(Ask::get("/operations")).await?.json()?;
                shown::list(&answer, COLUMNS, remote.json);
            }
            OperationsCommand::Show(OneOperation { id, remote }) => {
                let answer = remote.client()?.ask(Ask::get(format!("/operations/{id}"))).await?.json()?;
                shown::one(answer, FIELDS, remote.json);
            }
            OperationsCommand::Cancel(OneOperation { id, remote }) => {
                let ask = Ask::new(Method::DELETE, format!("/operations/{id}"));
                let answer = remote.client()?.ask(ask).await?.json()?;
                shown::one(answer, FIELDS, remote.json);
            }
        }
        Ok(Exit::Done)
    })
}

/// Waits for the end of an operation, and says what has come of it.
pub async fn await_end(client: &Client, mut operation: Json, as_json: bool) -> Outcome {
    let mut said = String::new();
    while operation["state"] == "running" {
        let detail = operation["detail"].as_str().unwrap_or_default();
        if !as_json && said != detail {
            note!("{detail}");
            said = detail.to_owned();
        }
        // The daemon answers when it has ended, or after a second.
        let ask = Ask::get(format!("/operations/{}", operation["id"])).header("prefer", "wait=1");
        operation = client.ask(ask).await?.json()?;
    }
    end(operation, as_json)
}

/// Says what has come of an operation that has ended.
fn end(operation: Json, as_json: bool) -> Outcome {
    if as_json {
        let is_done = operation["state"] == "done";
        print_json(operation);
        return Ok(if is_done { Exit::Done } else { Exit::Failed });
    }
    let text = |name: &str| operation[name].as_str().unwrap_or_default();
    match text("state") {
        "done" => {
            say!("{}", done(text("kind"), text("flow"), &operation["result"]));
            Ok(Exit::Done)
        }
        "cancelled" => Err(Error::new("it was called off").into()),
        _ => Err(CommandError::Failed(Error::new(text("problem")))),
    }
}

/// What was done, in words.
fn done(kind: &str, flow: &str, result: &Json) -> String {
    match kind {
        "apply" => format!("flow `{flow}`: revision {result}"),
        "start" => format!("flow `{flow}` runs, from revision {result}"),
        "stop" if result == 0 => format!("flow `{flow}` has stopped"),
        "stop" => format!("flow `{flow}` has stopped at checkpoint {result}"),
        "drain" => format!("flow `{flow}` has stopped, and all that it has read is out"),
        "checkpoint" => format!("flow `{flow}` has taken checkpoint {result}"),
        "remove" => format!("flow `{flow}` is gone; its state stays"),
        other => format!("flow `{flow}`: {other} is done"),
    }
}
