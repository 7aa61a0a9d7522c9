//! `millstream function`: a model or a flow as a function, on platforms that start one when it is asked and end it when it is not.

mod flow;
mod front;
mod model;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use clap::Args;

use crate::daemon::ConfigArguments;
use crate::exit::{CommandError, Outcome};
use crate::token::duration;

/// What `function` takes.
#[derive(Clone, Debug, Args)]
pub struct FunctionArguments {
    /// A model of the registry, as `serve` takes it (`fraud`, `fraud@challenger`, `fraud/3`), or the file of a flow, `FLOW.toml`, that takes rows by
    /// HTTP.
    #[arg(value_name = "MODEL|FLOW")]
    target: String,
    /// The port, at all addresses of this machine: the platform says who may reach it. Without it, only this machine is listened to, at port 8080.
    #[arg(long, value_name = "PORT", env = "PORT")]
    port: Option<u16>,
    /// Where it listens, instead. Port 0 is any that is free.
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<SocketAddr>,
    /// The port of `GET /metrics`, by the names of OpenFaaS. Without it, there are none.
    #[arg(long, value_name = "PORT", env = "metrics_port")]
    metrics_port: Option<u16>,
    /// How many requests are answered at a time; others get 429. 0 is any number.
    #[arg(long, value_name = "N", env = "max_inflight", default_value_t = 0)]
    max_inflight: usize,
    /// How long the platform may take to notice that the function is about to end, such as `5s`, `1m30s`, or a number of seconds: so long it still
    /// takes requests.
    #[arg(long, value_name = "TIME", env = "healthcheck_interval", default_value = "0s", value_parser = seconds)]
    healthcheck_interval: Duration,
    /// How long it answers, when it is to end, what was asked before.
    #[arg(long, value_name = "TIME", env = "write_timeout", default_value = "30s", value_parser = seconds)]
    write_timeout: Duration,
    /// The registry of the model: a folder, or `s3://BUCKET/PREFIX`. By default that of the settings, which is `models`.
    #[arg(long, value_name = "PATH")]
    registry: Option<String>,
    /// Keep the state of the flow in DIR/FLOW, as `run` does. Without it, the flow begins from scratch whenever the function is started.
    #[arg(long, value_name = "DIR")]
    state: Option<String>,
    /// Change a setting of the flow: `input.payments.path=/score`.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    /// The settings: `[serve]` has those of answering by a model, `[log]` what is logged.
    #[command(flatten)]
    config: ConfigArguments,
}

/// A length of time as platforms write it: `30s`, `1m30s`, or a number of seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    if text.is_empty() {
        return Err("it is empty, and should be a time such as `5s`, `1m30s`, or a number of seconds".to_owned());
    }
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    // Each part ends with the letters of its unit.
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let unit = rest.find(char::is_alphabetic).unwrap_or(rest.len());
        let end = rest[unit..].find(|letter: char| !letter.is_alphabetic()).map_or(rest.len(), |end| unit + end);
        sum += duration(&rest[..end])?;
        rest = &rest[end..];
    }
    Ok(sum)
}

/// `millstream function`
pub fn function(arguments: &FunctionArguments) -> Outcome {
    let is_flow = Path::new(&arguments.target).extension().is_some_and(|ending| ending == "toml");
    let misplaced = match is_flow {
        true if arguments.registry.is_some() => {
            Some("`--registry` is for a model; a flow's models are in the folder `models`")
        }
        false if arguments.state.is_some() || !arguments.sets.is_empty() => {
            Some("`--state` and `--set` are for a flow")
        }
        _ => None,
    };
    match misplaced {
        Some(why) => Err(CommandError::Usage(why.to_owned())),
        None if is_flow => flow::run(arguments),
        None => model::run(arguments),
    }
}
