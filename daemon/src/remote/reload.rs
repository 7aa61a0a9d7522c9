//! `millstream reload`: has a daemon look again at what it goes by.

use clap::Args;
use hyper::Method;
use serde_json::{Value as Json, json};

use super::RemoteArguments;
use super::client::{Ask, Client};
use crate::exit::{CommandError, Exit, Outcome};
use crate::terminal::{note, print_json, say};
use crate::workplace::control_runtime;

/// What `reload` takes.
#[derive(Debug, Args)]
pub struct ReloadArguments {
    /// Wait until the flows that have changed run, or are back where they were.
    #[arg(long)]
    wait: bool,
    /// Where the daemon is.
    #[command(flatten)]
    remote: RemoteArguments,
}

/// `millstream reload`
pub fn reload(arguments: &ReloadArguments) -> Outcome {
    control_runtime()?.block_on(async {
        let client = arguments.remote.client()?;
        let told = client.ask(Ask::new(Method::POST, "/system/reload").json(&json!({}))).await?.json()?;
        let mut is_good = told["certificate"] == true && told["problem"].is_null();
        for change in told["flows"].as_array().into_iter().flatten() {
            is_good &= change["outcome"] != "refused";
            if arguments.wait && change["outcome"] == "applied" {
                is_good &= runs(&client, change["flow"].as_str().unwrap_or_default()).await?;
            }
        }
        if arguments.remote.json {
            print_json(told);
        } else {
            show(&told);
        }
        Ok(if is_good { Exit::Done } else { Exit::Failed })
    })
}

/// Whether a flow runs as its file says, when what is under way with it has ended.
async fn runs(client: &Client, flow: &str) -> Result<bool, CommandError> {
    loop {
        let seen = client.ask(Ask::get(format!("/flows/{flow}"))).await?.json()?;
        let Some(operation) = seen["operation"].as_u64() else {
            return Ok(seen["problem"].is_null() && seen["health"] != "failing");
        };
        client.ask(Ask::get(format!("/operations/{operation}")).header("prefer", "wait=10")).await?;
    }
}

fn show(told: &Json) {
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    for change in told["flows"].as_array().into_iter().flatten() {
        say!("{}: {}", text(&change["file"]), text(&change["outcome"]));
        change["reason"].as_str().iter().for_each(|reason| note!("{reason}"));
    }
    told["problem"].as_str().iter().for_each(|problem| note!("{problem}; the flows go on as they are"));
    if told["certificate"] != true {
        note!("the certificate is wrong; the daemon's log says why, and it goes on with the one before");
    }
    told["settings"].as_str().iter().for_each(|said| note!("{said}"));
}
