//! `millstream flows`: the flows of a daemon.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use hyper::Method;
use millstream_core::ResultExt as _;
use serde_json::{Value as Json, json};

use super::client::{Ask, Client};
use super::operations::await_end;
use super::shown::{self, Column};
use super::tap::{TapArguments, tap};
use super::{RemoteArguments, encoded};
use crate::exit::{CommandError, Exit, Outcome};
use crate::terminal::{print_json, say};
use crate::workplace::control_runtime;

/// What `flows` does.
#[derive(Debug, Subcommand)]
pub enum FlowsCommand {
    /// List the flows.
    List(RemoteArguments),
    /// Show a flow: what is wanted of it, and what it is doing.
    Show(OneFlow),
    /// Let a flow be as a file says: what would be done is shown by `--dry-run`. The daemon keeps the text.
    Apply(ApplyArguments),
    /// Take a flow away when it has stopped at a checkpoint. Its state stays.
    Delete(OperationArguments),
    /// Let a flow run that was stopped or has failed.
    Start(OperationArguments),
    /// Let a flow stop at a checkpoint. It stays stopped, also when the daemon is started again.
    Stop(StopArguments),
    /// Let a flow stop when all that it has read is out and visible. It stays stopped, also when the daemon is started again.
    Drain(OperationArguments),
    /// Hold the inputs of a flow; what they have read goes on.
    Pause(OneFlow),
    /// Let the inputs of a flow go on that was paused.
    Resume(OneFlow),
    /// Let a flow take a checkpoint.
    Checkpoint(OperationArguments),
    /// List the checkpoints of a flow, the newest first, or show one node by node.
    Checkpoints(CheckpointsArguments),
    /// Let a flow run from an earlier text, which becomes a revision of its own.
    Rollback(RollbackArguments),
    /// Print the text of a flow.
    Source(RevisionArguments),
    /// List the texts that a flow has had.
    Revisions(OneFlow),
    /// Show in what a text of a flow differs from the one before.
    Diff(RevisionArguments),
    /// Print the last lines that were logged about a flow.
    Logs(OneFlow),
    /// List what has gone wrong in a flow.
    Errors(OneFlow),
    /// Show rows that leave a node, as they pass. The flow waits for nobody who looks.
    Tap(TapArguments),
}

/// A flow of a daemon.
#[derive(Debug, Args)]
pub struct OneFlow {
    /// Its name.
    flow: String,
    /// Where the daemon is.
    #[command(flatten)]
    remote: RemoteArguments,
}

/// What takes a while.
#[derive(Debug, Args)]
pub struct OperationArguments {
    /// Which flow.
    #[command(flatten)]
    flow: OneFlow,
    /// How many seconds it may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    deadline: u64,
    /// Do not wait for the end.
    #[arg(long)]
    no_wait: bool,
}

/// What `flows stop` takes.
#[derive(Debug, Args)]
pub struct StopArguments {
    /// Which flow, and how long it may take.
    #[command(flatten)]
    operation: OperationArguments,
    /// End at once, without a last checkpoint: what was read since the last one is read again by the next run.
    #[arg(long)]
    force: bool,
}

/// What `flows checkpoints` takes.
#[derive(Debug, Args)]
pub struct CheckpointsArguments {
    /// Which flow.
    #[command(flatten)]
    flow: OneFlow,
    /// Only this one, node by node.
    #[arg(long, value_name = "NUMBER")]
    number: Option<u64>,
}

/// What `flows rollback` takes.
#[derive(Debug, Args)]
pub struct RollbackArguments {
    /// Which flow, and how long it may take.
    #[command(flatten)]
    operation: OperationArguments,
    /// The revision to go back to.
    #[arg(long, value_name = "REVISION")]
    to: u64,
}

/// What `flows apply` takes.
#[derive(Debug, Args)]
pub struct ApplyArguments {
    /// The file. The flow is called as it says in `[flow]`, or else as the file.
    file: PathBuf,
    /// What the change is for.
    #[arg(long, short)]
    message: Option<String>,
    /// Only show what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Let this node start from scratch, so that its state is lost. May be said several times.
    #[arg(long, value_name = "NODE")]
    reset: Vec<String>,
    /// Leave a flow that is new stopped.
    #[arg(long)]
    stopped: bool,
    /// How many seconds it may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    deadline: u64,
    /// Where the daemon is.
    #[command(flatten)]
    remote: RemoteArguments,
}

/// A text of a flow.
#[derive(Debug, Args)]
pub struct RevisionArguments {
    /// Which flow.
    #[command(flatten)]
    flow: OneFlow,
    /// Which of its texts. By default the one that is wanted.
    #[arg(long, value_name = "REVISION")]
    revision: Option<u64>,
}

const COLUMNS: &[Column] = &[
    ("flow", "/name"),
    ("state", "/state"),
    ("health", "/health"),
    ("revision", "/running_revision"),
    ("read", "/rows/read"),
    ("written", "/rows/written"),
    ("failed", "/rows/failed"),
    ("checkpoint", "/checkpoint/number"),
    ("since", "/since"),
    ("reason", "/reason"),
];

const FIELDS: &[Column] = &[
    ("flow", "/name"),
    ("description", "/description"),
    ("source", "/source/kind"),
    ("file", "/source/path"),
    ("desired", "/desired"),
    ("state", "/state"),
    ("since", "/since"),
    ("paused", "/paused"),
    ("reason", "/reason"),
    ("refused change", "/problem/reason"),
    ("revision", "/revision"),
    ("running revision", "/running_revision"),
    ("restarts", "/restarts/count"),
    ("next start", "/restarts/next_at"),
    ("rows read", "/rows/read"),
    ("rows written", "/rows/written"),
    ("rows failed", "/rows/failed"),
    ("checkpoint", "/checkpoint/number"),
    ("checkpoint at", "/checkpoint/at"),
    ("bytes of memory", "/budget/memory/used_bytes"),
    ("may take", "/budget/memory/limit_bytes"),
    ("bytes of disk", "/budget/disk/used_bytes"),
    ("may take", "/budget/disk/limit_bytes"),
    ("operation", "/operation"),
];

const SET_ASIDE: &[Column] = &[
    ("row set aside of", "/input"),
    ("partition", "/partition"),
    ("position", "/position"),
    ("by node", "/node"),
    ("which fails with", "/error"),
];

const REVISIONS: &[Column] = &[("revision", "/number"), ("at", "/at"), ("author", "/author"), ("message", "/message")];

const ERRORS: &[Column] = &[("at", "/at"), ("node", "/node"), ("times", "/count"), ("message", "/message")];

const CHECKPOINTS: &[Column] = &[
    ("checkpoint", "/number"),
    ("at", "/at"),
    ("trigger", "/trigger"),
    ("took_s", "/took_s"),
    ("bytes", "/bytes"),
    ("rows read", "/rows_read"),
    ("kept", "/kept"),
];

const CHECKPOINTED: &[Column] = &[("node", "/node"), ("rows in", "/rows_in"), ("bytes", "/bytes")];

const CHANGES: &[Column] = &[("node", "/node"), ("effect", "/effect"), ("settings", "/settings")];

/// `millstream flows`
pub fn flows(command: FlowsCommand) -> Outcome {
    control_runtime()?.block_on(carry_out(command))
}

async fn carry_out(command: FlowsCommand) -> Outcome {
    match command {
        FlowsCommand::List(remote) => list("/flows?limit=1000", COLUMNS, &remote).await,
        FlowsCommand::Show(one) => show(one, Method::GET, "").await,
        FlowsCommand::Pause(one) => show(one, Method::POST, "/pause").await,
        FlowsCommand::Resume(one) => show(one, Method::POST, "/resume").await,
        FlowsCommand::Apply(arguments) => apply(arguments).await,
        FlowsCommand::Delete(asked) => operate(asked, Method::DELETE, "", json!({})).await,
        FlowsCommand::Start(asked) => operate(asked, Method::POST, "/start", json!({})).await,
        FlowsCommand::Stop(StopArguments { operation, force }) => {
            operate(operation, Method::POST, "/stop", json!({ "force": force })).await
        }
        FlowsCommand::Drain(asked) => operate(asked, Method::POST, "/drain", json!({})).await,
        FlowsCommand::Checkpoints(arguments) => checkpoints(arguments).await,
        FlowsCommand::Checkpoint(asked) => operate(asked, Method::POST, "/checkpoint", json!({})).await,
        FlowsCommand::Rollback(RollbackArguments { operation, to }) => {
            operate(operation, Method::POST, "/rollback", json!({ "to": to })).await
        }
        FlowsCommand::Source(arguments) => source(arguments).await,
        FlowsCommand::Revisions(OneFlow { flow, remote }) => {
            list(&format!("/flows/{flow}/revisions"), REVISIONS, &remote).await
        }
        FlowsCommand::Diff(arguments) => diff(arguments).await,
        FlowsCommand::Logs(one) => logs(one).await,
        FlowsCommand::Errors(OneFlow { flow, remote }) => list(&format!("/flows/{flow}/errors"), ERRORS, &remote).await,
        FlowsCommand::Tap(arguments) => tap(arguments).await,
    }
}

async fn list(path: &str, columns: &[Column], remote: &RemoteArguments) -> Outcome {
    let answer = remote.client()?.ask(Ask::get(path)).await?.json()?;
    shown::list(&answer, columns, remote.json);
    Ok(Exit::Done)
}

async fn show(OneFlow { flow, remote }: OneFlow, method: Method, action: &str) -> Outcome {
    let answer = remote.client()?.ask(Ask::new(method, format!("/flows/{flow}{action}"))).await?.json()?;
    let set_aside = json!({ "items": answer["set_aside"] });
    let has_some = set_aside["items"].as_array().is_some_and(|rows| !rows.is_empty());
    shown::one(answer, FIELDS, remote.json);
    if has_some && !remote.json {
        shown::list(&set_aside, SET_ASIDE, false);
    }
    Ok(Exit::Done)
}

/// Asks for what takes a while, and waits for its end.
async fn operate(asked: OperationArguments, method: Method, action: &str, mut details: Json) -> Outcome {
    let OperationArguments { flow: OneFlow { flow, remote }, deadline, no_wait } = asked;
    let client = remote.client()?;
    details["deadline_s"] = json!(deadline);
    let operation = client.ask(Ask::new(method, format!("/flows/{flow}{action}")).json(&details)).await?.json()?;
    if no_wait {
        if remote.json {
            print_json(operation);
        } else {
            say!("operation {}", operation["id"]);
        }
        return Ok(Exit::Done);
    }
    await_end(&client, operation, remote.json).await
}

async fn apply(arguments: ApplyArguments) -> Outcome {
    let ApplyArguments { file, message, dry_run, reset, stopped, deadline, remote } = arguments;
    let text = std::fs::read_to_string(&file).doing(|| format!("reading `{}`", file.display()))?;
    let flow = name_of(&text, &file);
    let client = remote.client()?;
    let expected = match client.ask(Ask::get(format!("/flows/{flow}"))).await {
        Ok(answer) => ("if-match", answer.etag.unwrap_or_default()),
        Err(CommandError::Failed(error)) if error.to_string().starts_with("there is no flow") => {
            ("if-none-match", "*".to_owned())
        }
        Err(other) => return Err(other),
    };
    let message = message.map(|message| format!("&message={}", encoded(&message))).unwrap_or_default();
    let reset = encoded(&reset.join(","));
    let path =
        format!("/flows/{flow}?dry_run={dry_run}&start={}&deadline_s={deadline}&reset={reset}{message}", !stopped);
    let ask = Ask::new(Method::PUT, path).flow(text).header(expected.0, expected.1);
    let change = client.ask(ask).await?.json()?;
    if dry_run {
        shown_plan(&change, remote.json);
        return Ok(Exit::Done);
    }
    let operation = client.ask(Ask::get(format!("/operations/{}", change["operation"]))).await?.json()?;
    await_end(&client, operation, remote.json).await
}

/// What would become of each node.
fn shown_plan(change: &Json, as_json: bool) {
    if as_json {
        print_json(change.clone());
        return;
    }
    shown::list(&json!({ "items": change["nodes"] }), CHANGES, false);
    for warning in change["warnings"].as_array().into_iter().flatten() {
        say!("warning: {}", warning.as_str().unwrap_or_default());
    }
}

/// What a flow is called: as its text says, or as its file is.
fn name_of(text: &str, file: &std::path::Path) -> String {
    let table: toml::Table = text.parse().unwrap_or_default();
    let said = table.get("flow").and_then(|flow| flow.get("name")).and_then(toml::Value::as_str);
    said.map_or_else(|| file.file_stem().unwrap_or_default().to_string_lossy().into_owned(), str::to_owned)
}

async fn source(RevisionArguments { flow: OneFlow { flow, remote }, revision }: RevisionArguments) -> Outcome {
    let path = match revision {
        Some(revision) => format!("/flows/{flow}/revisions/{revision}"),
        None => format!("/flows/{flow}/source"),
    };
    say!("{}", remote.client()?.ask(Ask::get(path)).await?.text().trim_end());
    Ok(Exit::Done)
}

async fn diff(RevisionArguments { flow: OneFlow { flow, remote }, revision }: RevisionArguments) -> Outcome {
    let client = remote.client()?;
    let revision = match revision {
        Some(revision) => revision,
        None => wanted(&client, &flow).await?,
    };
    let answer = client.ask(Ask::get(format!("/flows/{flow}/revisions/{revision}/diff"))).await?.json()?;
    if remote.json {
        print_json(answer);
    } else {
        say!("{}", answer["text"].as_str().unwrap_or_default().trim_end());
    }
    Ok(Exit::Done)
}

async fn checkpoints(CheckpointsArguments { flow, number }: CheckpointsArguments) -> Outcome {
    let OneFlow { flow, remote } = flow;
    let Some(number) = number else {
        return list(&format!("/flows/{flow}/checkpoints"), CHECKPOINTS, &remote).await;
    };
    let found = remote.client()?.ask(Ask::get(format!("/flows/{flow}/checkpoints/{number}"))).await?.json()?;
    if remote.json {
        print_json(found);
        return Ok(Exit::Done);
    }
    let named =
        |(name, node): (&String, &Json)| json!({ "node": name, "rows_in": node["rows_in"], "bytes": node["bytes"] });
    let nodes: Vec<Json> = found["nodes"].as_object().into_iter().flatten().map(named).collect();
    shown::one(found, CHECKPOINTS, false);
    shown::list(&json!({ "items": nodes }), CHECKPOINTED, false);
    Ok(Exit::Done)
}

/// The revision of a flow that is wanted.
async fn wanted(client: &Client, flow: &str) -> Result<u64, CommandError> {
    let answer = client.ask(Ask::get(format!("/flows/{flow}"))).await?.json()?;
    Ok(answer["revision"].as_u64().unwrap_or_default())
}

async fn logs(OneFlow { flow, remote }: OneFlow) -> Outcome {
    let answer = remote.client()?.ask(Ask::get(format!("/flows/{flow}/logs"))).await?.json()?;
    for line in answer["items"].as_array().into_iter().flatten() {
        if remote.json {
            print_json(line.clone());
            continue;
        }
        let text = |name: &str| line[name].as_str().unwrap_or_default();
        let node = line["node"].as_str().map(|node| format!("node `{node}`: ")).unwrap_or_default();
        say!("{} {:<5} {node}{}", text("at"), text("level"), text("message"));
    }
    Ok(Exit::Done)
}
