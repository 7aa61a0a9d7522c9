//! `millstream support`: what those need to know who help with a daemon, in one file without secrets.

mod bundle;
mod machine;
mod redact;

use std::path::PathBuf;

use chrono::Utc;
use clap::Args;
use millstream_core::{Error, Result};
use millstream_engine::file::FlowFile;
use serde_json::{Value as Json, json};

use self::bundle::Bundle;
use super::RemoteArguments;
use super::client::{Ask, Client};
use crate::daemon::with_drop_ins;
use crate::exit::{CommandError, Exit, Outcome};
use crate::terminal::{note, print_json, say};
use crate::workplace::{Workplace, control_runtime};

/// Where the package has the settings of its daemon.
const SETTINGS: &str = "/etc/millstream/millstream.toml";

/// What `support` takes.
#[derive(Debug, Args)]
pub struct SupportArguments {
    /// The file to write, a `.tar.gz`. By default it is called by the time.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Where the daemon is. Of `--config`, the settings are put in as well.
    #[command(flatten)]
    remote: RemoteArguments,
}

/// What is asked of the daemon, and what it is called in the bundle.
const ASKED: [(&str, &str); 5] = [
    ("/system", "system.json"),
    ("/operations", "operations.json"),
    ("/models", "models.json"),
    ("/logging", "logging.json"),
    ("/session", "who_has_asked.json"),
];

/// What is asked of each flow.
const ASKED_OF_FLOWS: [(&str, &str); 5] = [
    ("/graph", "graph.json"),
    ("/stats", "stats.json"),
    ("/revisions", "revisions.json"),
    ("/errors", "errors.json"),
    ("/logs", "logs.json"),
];

/// `millstream support`
pub fn support(arguments: SupportArguments) -> Outcome {
    let SupportArguments { output, remote } = arguments;
    let path =
        output.unwrap_or_else(|| Utc::now().format("millstream-support-%Y%m%d-%H%M%S.tar.gz").to_string().into());
    let client = remote.client()?;
    let bundle = control_runtime()?.block_on(collect(&client, &remote))?;
    let bytes = bundle.write(&path)?;
    if remote.json {
        print_json(json!({ "file": path, "bytes": bytes, "files": bundle.names(), "missing": bundle.missing() }));
        return Ok(Exit::Done);
    }
    say!("{}: {} files, {bytes} bytes", path.display(), bundle.names().len());
    bundle.missing().iter().for_each(|missing| note!("missing: {missing}"));
    note!(
        "what is known to be a secret is left out; it has the texts of flows, names of columns and log lines: look through it before you send it"
    );
    Ok(Exit::Done)
}

async fn collect(client: &Client, remote: &RemoteArguments) -> Result<Bundle, CommandError> {
    let mut bundle = Bundle::default();
    // A daemon that does not answer has nothing to tell; what is wrong with that is said.
    let flows = client.ask(Ask::get("/flows?limit=1000")).await?.json()?;
    let names: Vec<&Json> = flows["items"].as_array().into_iter().flatten().collect();
    // First of all, so that what they say is secret is left out wherever it is.
    for flow in &names {
        add_text(&mut bundle, client, flow).await?;
    }
    bundle.add_json("flows.json", flows.clone());
    for flow in names.iter().filter_map(|flow| flow["name"].as_str()) {
        for (path, name) in ASKED_OF_FLOWS {
            ask(&mut bundle, client, Ask::get(format!("/flows/{flow}{path}")), &format!("flows/{flow}/{name}")).await;
        }
    }
    for (path, name) in ASKED {
        ask(&mut bundle, client, Ask::get(path), name).await;
    }
    ask(&mut bundle, client, Ask::outside("/readyz"), "ready.json").await;
    ask(&mut bundle, client, Ask::outside("/metrics"), "metrics.txt").await;
    add_settings(&mut bundle, remote);
    bundle.add("program.txt", machine::program());
    machine::facts().into_iter().for_each(|(name, text)| bundle.add(&format!("machine/{name}.txt"), text));
    Ok(bundle)
}

/// Puts an answer into the bundle, or notes why there is none.
async fn ask(bundle: &mut Bundle, client: &Client, ask: Ask, name: &str) {
    match client.ask(ask).await {
        Ok(answer) => match answer.json() {
            Ok(json) => bundle.add_json(name, json),
            Err(_) => bundle.add(name, answer.text()),
        },
        Err(error) => bundle.lacks(name, &error.to_string()),
    }
}

/// Puts the text of a flow into the bundle, once it is known which parts of it are secret.
async fn add_text(bundle: &mut Bundle, client: &Client, flow: &Json) -> Result<()> {
    let name = flow["name"].as_str().unwrap_or_default();
    let file = format!("flows/{name}/flow.toml");
    let text = match client.ask(Ask::get(format!("/flows/{name}/source"))).await {
        Ok(answer) => answer.text(),
        Err(error) => {
            bundle.lacks(&file, &error.to_string());
            return Ok(());
        }
    };
    let path = flow["source"]["path"].as_str().map_or_else(|| PathBuf::from(format!("{name}.toml")), PathBuf::from);
    let workplace = Workplace::here()?;
    // It notes what is secret.
    let (read, _) = FlowFile::check(&path, &text, workplace.load_options(&[]));
    match read {
        Some(_) => bundle.add(&file, text),
        None => bundle.lacks(&file, "it is no TOML, so that it can't be told what is secret in it"),
    }
    Ok(())
}

/// Puts the settings of the daemon into the bundle, if they are here and may be read.
fn add_settings(bundle: &mut Bundle, remote: &RemoteArguments) {
    let config = remote.config.config.clone();
    let default = PathBuf::from(SETTINGS);
    let Some(file) = config.or_else(|| default.exists().then_some(default)) else {
        bundle.lacks("settings", "say the daemon's settings by `--config`");
        return;
    };
    match with_drop_ins(file) {
        Ok(files) => {
            for file in files {
                let name = format!("settings/{}", file.file_name().unwrap_or_default().to_string_lossy());
                match std::fs::read_to_string(&file) {
                    Ok(text) => bundle.add(&name, text),
                    Err(error) => bundle.lacks(&name, &Error::from(error).to_string()),
                }
            }
        }
        Err(error) => bundle.lacks("settings", &error.to_string()),
    }
}
