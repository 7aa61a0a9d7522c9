//! `millstream flows tap`: rows on their way through a flow of a daemon.

use clap::Args;
use serde_json::Value as Json;

use super::client::Ask;
use super::{RemoteArguments, encoded};
use crate::exit::{Exit, Outcome};
use crate::terminal::{note, print_json};

/// What `flows tap` takes.
#[derive(Debug, Args)]
pub struct TapArguments {
    /// The flow.
    flow: String,
    /// The node that the rows leave.
    node: String,
    /// The port that they leave by.
    #[arg(long, default_value = "main")]
    port: String,
    /// End after so many rows. By default, Ctrl-C ends it.
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..))]
    rows: Option<u64>,
    /// Where the daemon is.
    #[command(flatten)]
    remote: RemoteArguments,
}

/// Prints rows as they pass, each as a line of JSON; with `--json`, also where they are from, and how many have passed that are not shown.
pub async fn tap(arguments: TapArguments) -> Outcome {
    let TapArguments { flow, node, port, rows, remote } = arguments;
    let path = format!("/flows/{}/tap?node={}&port={}", encoded(&flow), encoded(&node), encoded(&port));
    let mut events = remote.client()?.follow(Ask::get(path)).await?;
    let mut left = rows.unwrap_or(u64::MAX);
    while let Some(event) = events.next().await? {
        let mut told = event.data;
        let count = told["rows"].as_array().map_or(0, Vec::len) as u64;
        if let Some(Json::Array(rows)) = told.get_mut("rows") {
            rows.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        }
        if remote.json {
            print_json(told)
        } else {
            show(&told)
        }
        left = left.saturating_sub(count);
        if left == 0 {
            return Ok(Exit::Done);
        }
    }
    note!("the flow `{flow}` is gone");
    Ok(Exit::Done)
}

fn show(told: &Json) {
    match told["passed"].as_u64() {
        None | Some(0) => {}
        Some(passed) => note!("{passed} rows have passed that are not shown"),
    }
    told["rows"].as_array().into_iter().flatten().cloned().for_each(print_json);
}
