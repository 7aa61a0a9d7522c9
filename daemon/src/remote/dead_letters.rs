//! `millstream dead-letters`: rows that nodes of a daemon's flows have refused.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Map, Value as Json, json};

use super::client::Ask;
use super::shown::{self, Column};
use super::{RemoteArguments, encoded};
use crate::exit::{CommandError, Exit, Outcome};
use crate::terminal::{print_json, say};
use crate::workplace::control_runtime;

/// What `dead-letters` does.
#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// List the refused rows of a flow that keeps them (`on_error = { dead_letter = … }`), those of the newest file first.
    List(ListArguments),
    /// Show a refused row.
    Show(ShowArguments),
    /// Send refused rows into the flow again, as they are or mended. Each is taken once.
    Replay(ReplayArguments),
    /// Drop refused rows: they are not told of any more.
    Drop(DropArguments),
}

/// What `dead-letters list` takes.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// The flow.
    flow: String,
    /// Only the rows that this node has refused.
    #[arg(long)]
    node: Option<String>,
    /// Only those that were not sent again.
    #[arg(long)]
    waiting: bool,
    /// How many rows at most.
    #[arg(long, value_name = "ROWS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1000))]
    limit: u64,
    /// Where the daemon is.
    #[command(flatten)]
    remote: RemoteArguments,
}

/// What `dead-letters show` takes.
#[derive(Debug, Args)]
pub struct ShowArguments {
    /// The flow.
    flow: String,
    /// The row, as it is called in the list.
    id: String,
    /// Where the daemon is.
    #[command(flatten)]
    remote: RemoteArguments,
}

/// What `dead-letters replay` takes.
#[derive(Debug, Args)]
pub struct ReplayArguments {
    /// The flow.
    flow: String,
    /// A row, as it is called in the list. May be said several times.
    #[arg(long = "id", value_name = "ID", required_unless_present_any = ["node", "edits"])]
    ids: Vec<String>,
    /// All that this node has refused and that were not sent again, the oldest first, up to a thousand.
    #[arg(long, conflicts_with = "ids")]
    node: Option<String>,
    /// The input of the type `dead_letters` that takes them. By default the one behind which they were refused.
    #[arg(long, value_name = "INPUT")]
    to: Option<String>,
    /// A row, and what it is to be instead: `ID={"column": value}`. May be said several times.
    #[arg(long = "edit", value_name = "ID=ROW", value_parser = edit)]
    edits: Vec<(String, Map<String, Json>)>,
    /// Where the daemon is.
    #[command(flatten)]
    remote: RemoteArguments,
}

/// What `dead-letters drop` takes.
#[derive(Debug, Args)]
pub struct DropArguments {
    /// The flow.
    flow: String,
    /// A row, as it is called in the list. May be said several times.
    #[arg(long = "id", value_name = "ID", required_unless_present_any = ["node", "all"])]
    ids: Vec<String>,
    /// All that this node has refused.
    #[arg(long, conflicts_with = "ids")]
    node: Option<String>,
    /// All of them.
    #[arg(long, conflicts_with_all = ["ids", "node"])]
    all: bool,
    /// Where the daemon is.
    #[command(flatten)]
    remote: RemoteArguments,
}

const COLUMNS: &[Column] = &[
    ("id", "/id"),
    ("at", "/at"),
    ("node", "/node"),
    ("error", "/error"),
    ("source", "/source"),
    ("position", "/position"),
    ("sent again", "/replayed/at"),
    ("row", "/row"),
];

const FIELDS: &[Column] = &[
    ("id", "/id"),
    ("at", "/at"),
    ("node", "/node"),
    ("error", "/error"),
    ("source", "/source"),
    ("partition", "/partition"),
    ("position", "/position"),
    ("line", "/line"),
    ("row", "/row"),
    ("file", "/file"),
    ("sent again", "/replayed/at"),
    ("by", "/replayed/by"),
    ("to", "/replayed/to"),
    ("mended", "/replayed/edited"),
];

/// Reads what a row is to be instead.
fn edit(text: &str) -> Result<(String, Map<String, Json>), String> {
    let wrong = || format!("`{text}` should be `ID={{\"column\": value}}`");
    let (id, row) = text.split_at(text.find("={").ok_or_else(wrong)?);
    Ok((id.to_owned(), serde_json::from_str(&row[1..]).map_err(|error| format!("{}: {error}", wrong()))?))
}

/// `millstream dead-letters`
pub fn dead_letters(command: DeadLettersCommand) -> Outcome {
    control_runtime()?.block_on(async {
        match command {
            DeadLettersCommand::List(arguments) => list(arguments).await,
            DeadLettersCommand::Show(ShowArguments { flow, id, remote }) => {
                let path = format!("/flows/{}/dead_letters/{}", encoded(&flow), encoded(&id));
                shown::one(remote.client()?.ask(Ask::get(path)).await?.json()?, FIELDS, remote.json);
                Ok(())
            }
            DeadLettersCommand::Replay(arguments) => replay(arguments).await,
            DeadLettersCommand::Drop(arguments) => drop_rows(arguments).await,
        }
    })?;
    Ok(Exit::Done)
}

async fn list(ListArguments { flow, node, waiting, limit, remote }: ListArguments) -> Result<(), CommandError> {
    let node = node.map(|node| format!("&node={}", encoded(&node))).unwrap_or_default();
    let path = format!("/flows/{}/dead_letters?limit={limit}&waiting={waiting}{node}", encoded(&flow));
    shown::list(&remote.client()?.ask(Ask::get(path)).await?.json()?, COLUMNS, remote.json);
    Ok(())
}

async fn replay(arguments: ReplayArguments) -> Result<(), CommandError> {
    let ReplayArguments { flow, mut ids, node, to, edits, remote } = arguments;
    let edits: Map<_, _> = edits.into_iter().map(|(id, row)| (id, Json::Object(row))).collect();
    ids.extend(edits.keys().filter(|id| !ids.contains(id)).cloned().collect::<Vec<_>>());
    let ids = node.is_none().then_some(ids);
    let body = json!({ "ids": ids, "node": node, "to": to, "edit": edits });
    let ask = Ask::new(Method::POST, format!("/flows/{}/dead_letters/replay", encoded(&flow))).json(&body);
    let told = remote.client()?.ask(ask).await?.json()?;
    if remote.json {
        print_json(told);
        return Ok(());
    }
    say!("sent again: {}, had been before: {}", told["replayed"], told["already"]);
    if told["more"] == true {
        say!("there are more: the same command sends them");
    }
    Ok(())
}

async fn drop_rows(DropArguments { flow, ids, node, all, remote }: DropArguments) -> Result<(), CommandError> {
    let which = match (node, all) {
        (Some(node), _) => format!("node={}", encoded(&node)),
        (None, true) => "all=true".to_owned(),
        (None, false) => format!("ids={}", encoded(&ids.join(","))),
    };
    let path = format!("/flows/{}/dead_letters?{which}", encoded(&flow));
    let told = remote.client()?.ask(Ask::new(Method::DELETE, path).json(&json!({}))).await?.json()?;
    if remote.json {
        print_json(told);
    } else {
        say!("dropped: {}", told["dropped"]);
    }
    Ok(())
}
